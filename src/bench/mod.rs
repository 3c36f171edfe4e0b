//! What a device makes of the programs: the time of every kernel and of whole steps, beside the most that the device can do.
//!
//! Shapes, multiply-adds and bytes come from the programs. Times are medians; with each stands the range in which its
//! middle half lies, so that a comparison knows what is noise.

mod ceilings;
pub mod compare;
mod measure;
pub mod roofline;
pub mod table;

pub use measure::{Work, measure};

use serde::{Deserialize, Serialize};

/// Written into every report; a comparison refuses another one.
pub const SCHEMA: u32 = 1;

/// `grokscope bench --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub schema: u32,
    pub version: String,
    pub devices: Vec<Device>,
}

/// A device with its ceilings and what was run on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Device {
    pub name: String,
    /// Driver, or number of threads.
    pub driver: String,
    pub ceilings: Ceilings,
    pub runs: Vec<Run>,
}

/// The most that a device does of one thing, measured on nothing else.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Ceilings {
    /// 1e9 bytes a second, read and written, of a copy that no cache holds.
    pub copy_gb_s: f64,
    /// 1e9 floating point operations a second of independent multiply-adds in registers, two for each.
    pub multiply_add_gflop_s: f64,
    /// Microseconds of a dispatch that does nothing, among many; of a parallel loop over nothing on the CPU engine.
    pub empty_dispatch_us: f64,
}

/// A program at one shape.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    pub program: String,
    pub p: usize,
    pub d_model: usize,
    pub n_heads: usize,
    pub d_mlp: usize,
    pub models: usize,
    /// Train rows of one model.
    pub rows: usize,
    /// From opening the device to the end of the first step, in seconds.
    pub first_step_s: f64,
    /// A training step of all models, in milliseconds.
    pub step_ms: Spread,
    /// Of it in kernels; the rest lies between them.
    pub kernels_ms: f64,
    /// Of all models, two for each multiply-add.
    pub flops: f64,
    /// What the tensor table adds up to.
    pub memory_mib: f64,
    pub kernels: Vec<Kernel>,
}

/// A line of a program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kernel {
    pub name: String,
    pub ms: Spread,
    pub flops: f64,
    pub bytes: f64,
}

/// A time and how far its repetitions lie apart.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    /// Quartiles.
    pub low: f64,
    pub high: f64,
}

impl Spread {
    /// Of values of which there is at least one.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (sorted.len() - 1) as f64;
            let (below, rest) = (sorted[place as usize], place.fract());
            below + rest * (sorted[place.ceil() as usize] - below)
        };
        Self { median: at(0.5), low: at(0.25), high: at(0.75) }
    }
}

impl Run {
    /// "composed p 113 d_model 128 d_mlp 512 x 1"
    pub fn title(&self) -> String {
        format!("{} p {} d_model {} d_mlp {} R {}", self.program, self.p, self.d_model, self.d_mlp, self.models)
    }

    pub fn gflop_s(&self) -> f64 {
        self.flops / self.step_ms.median / 1e6
    }
}

impl Kernel {
    pub fn gflop_s(&self) -> f64 {
        self.flops / self.ms.median / 1e6
    }

    pub fn gb_s(&self) -> f64 {
        self.bytes / self.ms.median / 1e6
    }

    /// Share of the ceiling that binds it: of the copy's bytes or of the multiply-adds, whichever is nearer.
    pub fn share(&self, ceilings: &Ceilings) -> f64 {
        (self.gflop_s() / ceilings.multiply_add_gflop_s).max(self.gb_s() / ceilings.copy_gb_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_quartiles() {
        let spread = Spread::of(&[5.0, 1.0, 2.0, 4.0, 3.0]);
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 3.0, 4.0));
        let one = Spread::of(&[7.0]);
        assert_eq!((one.low, one.median, one.high), (7.0, 7.0, 7.0));
    }
}
