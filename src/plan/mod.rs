//! What a run is: every number that decides its outcome, validated once.
//!
//! A [`Plan`] is made from layers of `field = value` ([`Draft`]): a preset, then a TOML file, then single assignments. A run
//! directory keeps the result as `plan.toml`.

mod draft;
mod fields;
mod presets;

pub use crate::method::Update;
use crate::method::{Filter, Loss, Method, Optimizer};
use anyhow::{Context, Result, ensure};
pub use draft::{Draft, table_of};
pub use fields::{CHANGEABLE, Plan, UNNAMED, is_field, is_number};
use fields::{FIELDS, LATER};
pub use presets::{PRESETS, preset};
use toml::Table;

/// The programs a plan may ask for.
pub const PROGRAMS: &[&str] = &["auto", "layered", "composed"];
/// The rules of initial weights that have a name.
pub const INITS: &[&str] = &["paper", "transformer-lens"];

/// Version of the fields of `plan.toml`.
pub const SCHEMA: u32 = 1;

/// The sizes of the network; everything else about its tensors follows from [`crate::model`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Tokens 0..p are the numbers, token p is "=".
    pub p: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Attention heads; divides `d_model`.
    pub n_heads: usize,
    /// Neurons of the MLP.
    pub d_mlp: usize,
    /// Output classes: p, or p + 1 where "=" is a class too.
    pub d_vocab_out: usize,
}

impl Shape {
    /// Width of a head: d_model / n_heads.
    pub fn d_head(&self) -> usize {
        self.d_model / self.n_heads
    }
    /// Input tokens: the p numbers and "=".
    pub fn d_vocab(&self) -> usize {
        self.p + 1
    }
    /// (x at 0), (y at 1) and ("=" at 2): the distinct inputs that a position can see.
    pub fn n_slots(&self) -> usize {
        2 * self.p + 1
    }
}

/// An error text of a parser, folded into one line.
pub fn one_line(text: impl AsRef<str>) -> String {
    let lines = text.as_ref().lines().map(str::trim).filter(|line| !line.is_empty() && *line != "|");
    lines.collect::<Vec<_>>().join(" ")
}

impl Plan {
    /// Reads a `plan.toml` in which every field stands.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self> {
        let Draft { mut fields } = Draft::from_preset("default")?;
        fields.retain(|name, _| LATER.contains(&name));
        let mut draft = Draft { fields };
        draft.overlay(text, origin)?;
        draft.finish().with_context(|| origin.to_string())
    }

    /// The text of `plan.toml`: every field with its meaning.
    pub fn to_toml(&self) -> String {
        let table = Table::try_from(self).expect("a validated plan is a flat table of numbers and strings");
        let lines = FIELDS
            .iter()
            .map(|(name, _, meaning)| format!("{:<42}# {meaning}\n", format!("{name} = {}", table[*name])));
        format!(
            "# Everything needed to repeat this run: grokscope train --plan plan.toml\n{}",
            lines.collect::<String>()
        )
    }

    /// The sizes of the plan's network.
    pub fn shape(&self) -> Shape {
        Shape {
            p: self.p,
            d_model: self.d_model,
            n_heads: self.n_heads,
            d_mlp: self.d_mlp,
            d_vocab_out: self.p + usize::from(self.equals_class),
        }
    }

    fn validate(&self) -> Result<()> {
        ensure!(self.schema == SCHEMA, "schema = {}: this program reads plans of schema {SCHEMA}", self.schema);
        self.op.parse::<crate::task::Op>()?.check(self.p)?;
        self.split.parse::<crate::task::Split>()?;
        ensure!(self.p <= 30_000, "p = {}: too large, p*p pairs must be countable in 32 bits (p <= 30000)", self.p);
        ensure!(
            self.train_fraction > 0.0 && self.train_fraction <= 1.0,
            "train_fraction = {}: expected a share in (0, 1]",
            self.train_fraction
        );
        for (name, size) in [("d_model", self.d_model), ("n_heads", self.n_heads), ("d_mlp", self.d_mlp)] {
            ensure!(size <= 65_536, "{name} = {size}: expected at most 65536");
        }
        ensure!(
            self.d_model.is_multiple_of(self.n_heads),
            "d_model = {} is not divided by n_heads = {}: expected n_heads * d_head",
            self.d_model,
            self.n_heads
        );
        ensure!(self.models <= 65_535, "models = {}: expected at most 65535", self.models);
        ensure!(
            self.seed <= i64::MAX as u64 - self.models as u64,
            "seed = {}: expected at most 2^63 - 1 for the last of {} model(s)",
            self.seed,
            self.models
        );
        ensure!(self.warmup <= 1 << 31, "warmup = {}: expected at most 2^31", self.warmup);
        ensure!(
            self.models == 1 || !self.init.ends_with(".safetensors"),
            "models = {} with init = {}: all of them would be the same network: expected models = 1",
            self.models,
            self.init
        );
        let not_negative = [
            ("lr", self.lr),
            ("weight_decay", self.weight_decay),
            ("muon_lr", self.muon_lr),
            ("grokfast_lamb", self.grokfast_lamb),
            ("stop_at_test_loss", self.stop_at_test_loss),
        ];
        for (name, value) in not_negative {
            ensure!(value >= 0.0, "{name} = {value}: expected a number >= 0");
        }
        ensure!(self.eps > 0.0, "eps = {}: expected a number > 0", self.eps);
        // Beyond, float32 weights vanish or products of them overflow.
        let scales = 1e-6..=1e6;
        ensure!(scales.contains(&self.init_scale), "init_scale = {}: expected a number in 1e-6..=1e6", self.init_scale);
        let decays = [
            ("beta1", self.beta1),
            ("beta2", self.beta2),
            ("momentum", self.momentum),
            ("grokfast_alpha", self.grokfast_alpha),
        ];
        for (name, decay) in decays {
            ensure!((0.0..1.0).contains(&decay), "{name} = {decay}: expected a number in [0, 1)");
        }
        ensure!(self.grokfast_window <= 4096, "grokfast_window = {}: expected at most 4096", self.grokfast_window);
        self.parsed_method()?;
        ensure!(
            PROGRAMS.contains(&self.program.as_str()),
            "unknown program '{}': there are {}",
            self.program,
            PROGRAMS.join(", ")
        );
        ensure!(
            INITS.contains(&self.init.as_str()) || self.init.ends_with(".safetensors"),
            "unknown init '{}': there are {}, or a file that ends in .safetensors",
            self.init,
            INITS.join(", ")
        );
        Ok(())
    }

    /// How the network is taught.
    fn parsed_method(&self) -> Result<Method> {
        Ok(Method {
            loss: Loss::of(&self.loss)?,
            filter: Filter::of(&self.grokfast, self.grokfast_window)?,
            orthogonal: self.orthogonal_grad,
            optimizer: Optimizer::of(&self.optimizer)?,
        })
    }

    /// How the network is taught, of a validated plan.
    pub fn method(&self) -> Method {
        self.parsed_method().expect("a plan is validated when it is made")
    }

    /// The scalars of update `step` (0-based), made in float64: 1 - beta^t is off by 7e-6 in float32.
    pub fn update(&self, step: u64) -> Update {
        let count = step + 1;
        let ramp = match (self.warmup, self.warmup_from_zero) {
            (0, _) => 1.0,
            (n, true) => (step as f64 / n as f64).min(1.0),
            (n, false) => (count as f64 / n as f64).min(1.0),
        };
        let lr = self.lr * ramp;
        // Beyond 2^31 steps beta^t is 0 in float64 for every beta that differs from 1.
        let correction = |beta: f64| 1.0 - beta.powi(count.min(i32::MAX as u64) as i32);
        let flag = |yes: bool| f64::from(u8::from(yes));
        let method = self.method();
        let (decoupled, of_gradient) = match method.optimizer {
            Optimizer::AdamW | Optimizer::Muon => (self.weight_decay, 0.0),
            Optimizer::Adam | Optimizer::Sgd => (0.0, self.weight_decay),
        };
        let own_lr = if method.optimizer == Optimizer::Muon { self.muon_lr * ramp } else { lr };
        let window = self.grokfast_window as u64;
        // The mean over the window counts once the window is full.
        let amplify = match method.filter {
            Filter::None => 0.0,
            Filter::Ema => self.grokfast_lamb,
            Filter::Ma { .. } => flag(count >= window) * self.grokfast_lamb,
        };
        Update {
            decay: 1.0 - lr * decoupled,
            l2: of_gradient,
            biases: flag(self.train_biases),
            matrices: flag(method.optimizer != Optimizer::Muon),
            beta1: self.beta1,
            rest1: 1.0 - self.beta1,
            beta2: self.beta2,
            rest2: 1.0 - self.beta2,
            step_size: lr / correction(self.beta1),
            root_correction2: correction(self.beta2).sqrt(),
            eps: self.eps,
            lr: own_lr,
            matrix_decay: 1.0 - own_lr * decoupled,
            momentum: self.momentum,
            rest_momentum: 1.0 - self.momentum,
            nesterov: flag(self.nesterov),
            // The first gradient begins the average.
            keep: if step == 0 { 0.0 } else { self.grokfast_alpha },
            take: if step == 0 { 1.0 } else { 1.0 - self.grokfast_alpha },
            amplify,
            place: (step % window) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_its_own_text() {
        for name in PRESETS {
            let plan = preset(name).unwrap();
            assert_eq!(Plan::from_toml(&plan.to_toml(), "plan.toml").unwrap(), plan);
        }
    }

    #[test]
    fn a_plan_of_an_earlier_version_is_the_default_in_what_it_does_not_say() {
        let text = preset("default").unwrap().to_toml();
        let is_later = |line: &&str| LATER.iter().any(|name| line.starts_with(&format!("{name} =")));
        let earlier: String = text.lines().filter(|line| !is_later(line)).map(|line| format!("{line}\n")).collect();
        assert_eq!(text.lines().count() - earlier.lines().count(), LATER.len());
        assert_eq!(Plan::from_toml(&earlier, "plan.toml").unwrap(), preset("default").unwrap());
    }

    #[test]
    fn warm_up_reaches_one_at_step_ten() {
        let plan = preset("default").unwrap();
        let lr = |plan: &Plan, step| (1.0 - plan.update(step).decay) / plan.weight_decay;
        assert!((lr(&plan, 0) - 2e-4).abs() < 1e-12 && (lr(&plan, 9) - 2e-3).abs() < 1e-12);
        let paper = preset("paper").unwrap();
        assert!(lr(&paper, 0) == 0.0 && (lr(&paper, 10) - 1e-3).abs() < 1e-12 && lr(&paper, 9) < 1e-3);
    }

    #[test]
    fn a_wrong_value_names_its_field() {
        let error = |name: &str, text: &str| {
            let mut draft = Draft::from_preset("default").unwrap();
            let result = draft.set(name, text).and_then(|()| draft.finish().map(|_| ()));
            format!("{:#}", result.unwrap_err())
        };
        assert!(error("p", "2").contains("p = 2: expected an integer >= 3"));
        assert!(error("p", "3.5").contains("integer"));
        assert!(error("n_heads", "3").contains("not divided"));
        assert!(error("lr", "nan").contains("lr"));
        assert!(error("lr", "-1").contains("lr = -1"));
        assert!(error("train_fraction", "0").contains("(0, 1]"));
        assert!(error("train_fraction", "1.01").contains("(0, 1]"));
        assert!(error("op", "plus").contains("add"));
        assert!(error("heads", "4").contains("n_heads"));
        assert!(error("optimizer", "lion").contains("adamw, adam, sgd, muon"));
        assert!(error("grokfast", "fast").contains("none, ema, ma"));
        assert!(error("loss", "mse").contains("cross-entropy, stablemax"));
        assert!(error("momentum", "1").contains("momentum = 1"));
        assert!(error("grokfast_window", "0").contains("grokfast_window"));
    }
}
