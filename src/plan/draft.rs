//! A plan in the making: layers of `field = value`.

use super::fields::{Kind, kind_of};
use super::presets::preset;
use super::{Plan, one_line};
use anyhow::{Context, Result, bail};
use toml::{Table, Value};

/// Layers of assignments on top of a preset; the last word counts.
///
/// ```
/// use grokscope::plan::Draft;
///
/// let mut draft = Draft::from_preset("demo")?;
/// draft.set("weight-decay", "0.5")?;
/// draft.overlay("seed = 3\nop = 'div'", "mine.toml")?;
/// let plan = draft.finish()?;
/// assert_eq!((plan.seed, plan.op.as_str(), plan.weight_decay), (3, "div", 0.5));
///
/// let error = Draft::from_preset("demo")?.overlay("sed = 3", "mine.toml").unwrap_err();
/// assert!(format!("{error:#}").starts_with("mine.toml: not a plan"));
/// # anyhow::Ok(())
/// ```
#[derive(Clone)]
pub struct Draft {
    pub(super) fields: Table,
}

impl Draft {
    /// Begins with a preset; an error for a name that is not in [`super::PRESETS`].
    pub fn from_preset(name: &str) -> Result<Self> {
        Self::from_plan(&preset(name)?)
    }

    /// Begins with a plan that is there.
    pub fn from_plan(plan: &Plan) -> Result<Self> {
        Ok(Self { fields: Table::try_from(plan).context("a number of the plan is too large for TOML")? })
    }

    /// Lays the fields of a TOML file over the draft, as they stand. `origin` is the file's path.
    pub fn overlay(&mut self, text: &str, origin: &str) -> Result<()> {
        let table = table_of(text).map_err(|(line, problem)| anyhow::anyhow!("{origin}:{line}: {problem}"))?;
        for (name, value) in table {
            self.assign(&name, value).with_context(|| format!("{origin}: not a plan"))?;
        }
        Ok(())
    }

    /// The same for a plan that is to be repeated: files that it names lie beside it.
    pub fn overlay_with_files(&mut self, text: &str, origin: &str) -> Result<()> {
        let mut own = Self { fields: Table::new() };
        own.overlay(text, origin)?;
        own.fields.into_iter().try_for_each(|(name, value)| self.assign_beside(&name, value, origin))
    }

    /// Sets one field. A file that it names lies beside `origin`.
    pub fn assign_beside(&mut self, name: &str, value: Value, origin: &str) -> Result<()> {
        self.assign(name, value)?;
        if ["split", "init"].contains(&name)
            && let Some(Value::String(path)) = self.fields.get_mut(name)
            && (path.ends_with(".csv") || path.ends_with(".safetensors"))
            && let Some(directory) = std::path::Path::new(origin).parent()
        {
            *path = directory.join(&*path).display().to_string();
        }
        Ok(())
    }

    /// Sets one field from text as typed on a command line.
    pub fn set(&mut self, name: &str, text: &str) -> Result<()> {
        let name = &name.replace('-', "_");
        let kind = kind_of(name)?;
        let value = match kind {
            Kind::Text => Value::String(text.into()),
            Kind::Integer { .. } => text.parse().map_or_else(|_| Value::String(text.into()), Value::Integer),
            Kind::Number => text.parse().map_or_else(|_| Value::String(text.into()), Value::Float),
            Kind::Bool => text.parse().map_or_else(|_| Value::String(text.into()), Value::Boolean),
        };
        self.assign(name, value)
    }

    fn assign(&mut self, name: &str, value: Value) -> Result<()> {
        let value = match (kind_of(name)?, value) {
            (Kind::Integer { least }, Value::Integer(i)) if i >= *least => Value::Integer(i),
            (Kind::Integer { least }, other) => bail!("{name} = {other}: expected an integer >= {least} and < 2^63"),
            (Kind::Number, Value::Integer(i)) => Value::Float(i as f64),
            (Kind::Number, Value::Float(f)) if f.is_finite() => Value::Float(f),
            (Kind::Number, other) => bail!("{name} = {other}: expected a finite number"),
            (Kind::Bool, Value::Boolean(b)) => Value::Boolean(b),
            (Kind::Bool, other) => bail!("{name} = {other}: expected true or false"),
            (Kind::Text, Value::String(s)) => Value::String(s),
            (Kind::Text, other) => bail!("{name} = {other}: expected a string"),
        };
        self.fields.insert(name.into(), value);
        Ok(())
    }

    /// The validated plan.
    pub fn finish(self) -> Result<Plan> {
        let plan: Plan = self.fields.try_into().context("incomplete plan")?;
        plan.validate()?;
        Ok(plan)
    }
}

/// A text as TOML; else the line of the problem, and what it is.
pub fn table_of(text: &str) -> Result<Table, (usize, String)> {
    text.parse().map_err(|e: toml::de::Error| {
        let line = 1 + text[..e.span().map_or(0, |span| span.start).min(text.len())].matches('\n').count();
        (line, format!("not TOML: {}", one_line(e.message())))
    })
}
