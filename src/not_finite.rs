//! The first number that was not finite, and the integer by which devices report it.

use crate::model::{PARAMETERS, Parameter, WINDOW};

/// The first number of a window of updates that was not finite, as the optimizer met it before its update.
///
/// Devices keep it as one integer that grows with time, 64 * update + 16 * what + parameter, so that the first of all is
/// their minimum; [`NOTHING_BAD`] where all numbers were finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotFinite {
    /// Counted from the window's first.
    pub update: usize,
    /// Which of the parameter's numbers it was.
    pub what: Part,
    /// Its rank among [`PARAMETERS`].
    pub parameter: usize,
}

/// What of a parameter, in the order in which it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The weight itself.
    Weight,
    /// The optimizer's first moment.
    ExpAvg,
    /// Its second moment.
    ExpAvgSq,
    /// The gradient.
    Gradient,
}

/// In the order of their numbers.
pub const PARTS: [Part; 4] = [Part::Weight, Part::ExpAvg, Part::ExpAvgSq, Part::Gradient];

/// What the integer is while all numbers are finite.
pub const NOTHING_BAD: u32 = u32::MAX;

impl NotFinite {
    /// The integer that devices keep.
    pub fn to_code(self) -> u32 {
        64 * self.update as u32 + 16 * self.what as u32 + self.parameter as u32
    }

    /// What an integer says; none for [`NOTHING_BAD`] and whatever no device writes.
    pub fn from_code(code: u32) -> Option<Self> {
        let code = code as usize;
        let part = Self { update: code / 64, what: PARTS[code / 16 % 4], parameter: code % 16 };
        (code < 64 * WINDOW && part.parameter < PARAMETERS.len()).then_some(part)
    }

    /// The name of the tensor: "W_E", "d_W_E", "exp_avg of W_E".
    pub fn tensor(&self) -> String {
        let Parameter { name, gradient, .. } = PARAMETERS[self.parameter];
        match self.what {
            Part::Weight => name.into(),
            Part::ExpAvg => format!("exp_avg of {name}"),
            Part::ExpAvgSq => format!("exp_avg_sq of {name}"),
            Part::Gradient => gradient.into(),
        }
    }
}
