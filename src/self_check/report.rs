//! What the self-check found, in a form that is saved as JSON and shown as text.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The result of a self-check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Kernels that ran, by shader and entry point: `product.nn`.
    pub checked: Vec<String>,
    /// Kernel launches whose results were compared.
    pub cases: usize,
    /// The first wrong element of each wrong launch.
    pub wrong: Vec<Finding>,
}

impl Report {
    /// Adds the kernels, cases and findings of another part of the check.
    pub fn add(&mut self, other: Self) {
        self.checked.extend(other.checked);
        self.checked.sort();
        self.checked.dedup();
        self.cases += other.cases;
        self.wrong.extend(other.wrong);
    }

    /// Names of the wrong kernels, each once.
    pub fn wrong_kernels(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.wrong.iter().map(|finding| &finding.kernel[..]).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// The first wrong element of a kernel launch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Shader and entry point.
    pub kernel: String,
    /// The launch: the tensors of a product, the batch, the method of an update.
    pub launch: String,
    /// The tensor with the wrong element.
    pub tensor: String,
    /// Its model.
    pub model: usize,
    /// The element's index in the model's part of the tensor.
    pub index: usize,
    /// What is wrong with it.
    pub problem: Problem,
    /// Wrong elements of this tensor and model.
    pub count: usize,
}

/// What is wrong with an element.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// Further from the reference than the bound.
    Value {
        /// The bits of the float32 that the kernel wrote: JSON has no NaN.
        bits: u32,
        /// The reference in float64.
        expected: f64,
        /// The largest error that float32 allows.
        bound: f64,
    },
    /// An integer that must be exact.
    Integer {
        /// What the kernel wrote.
        got: u32,
        /// The exact result.
        expected: u32,
    },
    /// The kernel wrote where it must not.
    Write {
        /// Elements that the kernel may write in this model's part.
        owned: usize,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Value { bits, expected, bound } => {
                let got = f32::from_bits(*bits);
                write!(f, "got {got:e}, expected {expected:e} within {bound:e}")
            }
            Self::Integer { got, expected } => write!(f, "got {got}, expected exactly {expected}"),
            Self::Write { owned: 0 } => write!(f, "wrote an element that it must only read"),
            Self::Write { owned } => write!(f, "wrote outside of the {owned} elements that it owns"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { kernel, launch, tensor, model, index, problem, count } = self;
        write!(f, "kernel {kernel} ({launch}), tensor {tensor} of model {model} at index {index}: {problem}")?;
        if *count > 1 {
            write!(f, "; {count} elements are wrong")?;
        }
        Ok(())
    }
}
