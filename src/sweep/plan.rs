//! The plan of a sweep: a grid, or draws, over fields of the plan of a run.

use crate::plan::{Draft, Plan, UNNAMED, is_field, is_number, preset, table_of};
use crate::random::Philox;
use anyhow::{Context, Result, anyhow, bail, ensure};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Runs of a sweep at most.
const MOST_RUNS: usize = 100_000;

/// Steps by which generalising may follow fitting and still be comprehension, where the plan does not say.
pub const DELAY: u64 = 1000;

/// A sweep as its plan has it.
pub struct SweepPlan {
    /// The file's text.
    pub text: String,
    /// What is called grokking in the phase diagram: that many steps between fitting and generalising, or more.
    pub delay: u64,
    /// Fields that differ between runs, in the order of the file.
    pub varied: Vec<String>,
    /// In the order of the grid, the last field running fastest; draws run fastest of all.
    pub runs: Vec<Planned>,
    /// Where files lie that it names.
    beside: PathBuf,
}

/// A run of a sweep.
pub struct Planned {
    /// Sixteen hexadecimal digits of the SHA-256 of its plan, and of the files that this names.
    pub id: String,
    /// What is trained.
    pub plan: Plan,
}

/// A field with the values that it takes.
type Choices = (String, Vec<Value>);

impl SweepPlan {
    /// Reads a sweep's plan. `origin` is its path: files that it names lie beside it, and are read by `file`.
    pub fn new(text: &str, origin: &str, file: &dyn Fn(&Path) -> Result<Vec<u8>>) -> Result<Self> {
        Self::read(text, origin, file).with_context(|| origin.to_string())
    }

    fn read(text: &str, origin: &str, file: &dyn Fn(&Path) -> Result<Vec<u8>>) -> Result<Self> {
        let mut table = table_of(text).map_err(|(line, problem)| anyhow::anyhow!("line {line}: {problem}"))?;
        let beside = |name: &str| Path::new(origin).parent().unwrap_or(Path::new("")).join(name);
        let grid = take_table(&mut table, "grid")?;
        let random = take_table(&mut table, "random")?;
        let delay = match table.remove("delay") {
            None => DELAY,
            Some(value) => value
                .as_integer()
                .and_then(|n| u64::try_from(n).ok())
                .with_context(|| format!("delay = {value}: expected a number of steps"))?,
        };
        let preset = match table.remove("preset") {
            None => "default".to_string(),
            Some(Value::String(name)) => name,
            Some(other) => bail!("preset = {other}: expected a name"),
        };
        let mut base = Draft::from_preset(&preset)?;
        match table.remove("plan") {
            None => {}
            Some(Value::String(name)) => {
                let path = beside(&name);
                let text = String::from_utf8(file(&path)?).with_context(|| format!("{}: not text", path.display()))?;
                base.overlay_with_files(&text, &path.display().to_string())?;
            }
            Some(other) => bail!("plan = {other}: expected the path of a plan"),
        }
        if let Some((name, _)) = table.iter().find(|(_, value)| value.is_table()) {
            bail!("[{name}]: no table of a sweep: expected [grid] or [random]");
        }
        ensure!(
            grid.is_some() || random.is_some(),
            "no [grid] and no [random]: expected fields with the values that they take, such as  [grid]  seed = [0, 1, 2]"
        );
        let grid: Vec<Choices> =
            grid.unwrap_or_default().into_iter().map(|(field, value)| choices(field, value)).collect::<Result<_>>()?;
        let draws = random.map(Draws::new).transpose()?;
        let varied: Vec<String> =
            grid.iter().map(|(field, _)| field.clone()).chain(draws.iter().flat_map(Draws::fields)).collect();
        for (i, field) in varied.iter().enumerate() {
            ensure!(
                field != "models" && field != "schema",
                "{field}: cannot vary: a sweep trains its runs side by side as it is"
            );
            ensure!(
                !table.contains_key(field),
                "{field}: stands beside the tables and in one of them: expected one place"
            );
            ensure!(!varied[..i].contains(field), "{field}: stands in [grid] and in [random]: expected one place");
        }
        ensure!(
            !table.contains_key("models"),
            "models: a sweep trains its runs side by side as it is: expected seeds in [grid]"
        );
        for (field, value) in table {
            let known = "and, of a sweep, preset, plan, delay, [grid] and [random]";
            base.assign_beside(&field, value, origin).map_err(|problem| match is_field(&field) {
                true => problem,
                false => anyhow!("{problem}, {known}"),
            })?;
        }

        let cells = grid
            .iter()
            .map(|(_, values)| values.len())
            .try_fold(draws.as_ref().map_or(1, |draws| draws.count), usize::checked_mul);
        let count = cells.filter(|&count| count <= MOST_RUNS);
        let count = count.with_context(|| format!("more than {MOST_RUNS} runs: expected fewer values"))?;
        let mut runs: Vec<Planned> = Vec::with_capacity(count);
        let mut seen = std::collections::HashMap::new();
        let mut files = Files { read: file, digests: std::collections::HashMap::new() };
        for number in 0..count {
            let own = assignments(&grid, draws.as_ref(), number);
            let what = || own.iter().map(|(field, value)| format!("{field} = {value}")).collect::<Vec<_>>().join(", ");
            let mut draft = base.clone();
            for (field, value) in &own {
                draft.assign_beside(field, value.clone(), origin)?;
            }
            let plan = draft.finish().with_context(what)?;
            let id = files.identity(&plan)?;
            if let Some(&first) = seen.get(&id) {
                // Draws that are equal are one run.
                if draws.is_some() {
                    continue;
                }
                bail!("runs {first} and {number} are the same, {}: expected every value once", what());
            }
            seen.insert(id.clone(), number);
            runs.push(Planned { id, plan });
        }
        let beside = Path::new(origin).parent().unwrap_or(Path::new("")).to_path_buf();
        Ok(Self { text: text.into(), delay, varied, runs, beside })
    }

    /// A run's plan with files as they are called here, wherever this lies.
    pub fn shown(&self, plan: &Plan) -> Plan {
        let called = |path: &str| {
            let inside =
                Path::new(path).strip_prefix(&self.beside).ok().filter(|_| !self.beside.as_os_str().is_empty());
            inside.map_or(path.to_string(), |inside| inside.display().to_string())
        };
        Plan { split: called(&plan.split), init: called(&plan.init), ..plan.clone() }
    }
}

fn take_table(table: &mut Table, name: &str) -> Result<Option<Table>> {
    match table.remove(name) {
        None => Ok(None),
        Some(Value::Table(table)) if table.is_empty() => bail!("[{name}]: is empty: expected fields with their values"),
        Some(Value::Table(table)) => Ok(Some(table)),
        Some(other) => bail!("{name} = {other}: expected a table [{name}]"),
    }
}

/// The values of a field of the grid: a list, or a range.
fn choices(field: String, value: Value) -> Result<Choices> {
    let values = match value {
        Value::Array(values) => values,
        Value::Table(range) => Range::new(&field, range)?.values(&field)?,
        other => bail!("[grid] {field} = {other}: expected a list of values, or {{ from = .., to = .. }}"),
    };
    ensure!(!values.is_empty(), "[grid] {field} = []: expected at least one value");
    let number = |value: &Value| value.as_float().or(value.as_integer().map(|n| n as f64));
    let mut seen = std::collections::HashSet::new();
    for value in &values {
        // 1 and 1.0 are one number.
        let is_new = seen.insert(number(value).map_or(value.to_string(), |number| number.to_string()));
        ensure!(is_new, "[grid] {field}: {value} stands there twice: expected every value once");
    }
    Ok((field, values))
}

/// `{ from = 1e-4, to = 1e-2, count = 5, scale = "log" }`
struct Range {
    from: Value,
    to: Value,
    count: Option<usize>,
    log: bool,
}

impl Range {
    fn new(field: &str, mut table: Table) -> Result<Self> {
        let mut end = |name: &str| {
            let value =
                table.remove(name).filter(|value| value.is_integer() || value.as_float().is_some_and(f64::is_finite));
            value.with_context(|| {
                format!("{field}: a range has no {name}: expected {{ from = .., to = .. }} with numbers")
            })
        };
        let (mut from, mut to) = (end("from")?, end("to")?);
        if is_number(field)? {
            // As the plan takes 1 for 1.0.
            for end in [&mut from, &mut to] {
                *end = end.as_integer().map_or(end.clone(), |n| Value::Float(n as f64));
            }
        }
        let count = match table.remove("count") {
            None => None,
            Some(value) => {
                let count =
                    value.as_integer().and_then(|n| usize::try_from(n).ok()).filter(|n| (2..=MOST_RUNS).contains(n));
                Some(
                    count.with_context(|| {
                        format!("{field}: count = {value}: expected a number of values, at least 2")
                    })?,
                )
            }
        };
        let log = match table.remove("scale") {
            None => false,
            Some(Value::String(name)) if name == "log" || name == "linear" => name == "log",
            Some(other) => bail!("{field}: scale = {other}: expected \"linear\" or \"log\""),
        };
        if let Some(other) = table.keys().next() {
            bail!("{field}: a range has no '{other}': expected from, to, count and scale");
        }
        let range = Self { from, to, count, log };
        let (from, to) = range.ends();
        ensure!(from < to, "{field}: from = {from} is not below to = {to}");
        ensure!(!log || from > 0.0, "{field}: from = {from}: expected a number > 0 for a logarithmic scale");
        Ok(range)
    }

    fn ends(&self) -> (f64, f64) {
        let number = |value: &Value| value.as_float().or(value.as_integer().map(|n| n as f64)).unwrap_or(f64::NAN);
        (number(&self.from), number(&self.to))
    }

    /// At a place in [0, 1].
    fn at(&self, place: f64) -> f64 {
        let (from, to) = self.ends();
        if self.log { from * (to / from).powf(place) } else { from + (to - from) * place }
    }

    fn integers(&self) -> Option<(i64, i64)> {
        Some((self.from.as_integer()?, self.to.as_integer()?))
    }

    fn values(&self, field: &str) -> Result<Vec<Value>> {
        match (self.count, self.integers()) {
            (None, Some((from, to))) if !self.log => {
                ensure!(to.abs_diff(from) < MOST_RUNS as u64, "{field}: more than {MOST_RUNS} values: expected fewer");
                Ok((from..=to).map(Value::Integer).collect())
            }
            (None, _) => bail!("{field}: a range of such numbers has no step: expected count = .."),
            (Some(count), integers) => {
                let whole = |(from, to): (i64, i64)| self.log || to.abs_diff(from) % (count as u64 - 1) == 0;
                ensure!(
                    integers.is_none_or(whole),
                    "{field}: {count} values from {} to {} are not whole: expected another count, or numbers with a point",
                    self.from,
                    self.to
                );
                let place = |i: usize| i as f64 / (count - 1) as f64;
                let value = |i: usize| match integers {
                    Some(_) => Value::Integer(self.at(place(i)).round() as i64),
                    None => Value::Float(tidy(self.at(place(i)))),
                };
                Ok((0..count).map(value).collect())
            }
        }
    }
}

/// To twelve digits: what a logarithmic scale means by 1e-3 should be called so.
fn tidy(x: f64) -> f64 {
    format!("{x:.11e}").parse().unwrap_or(x)
}

/// `[random]`: so many draws, of ranges and lists.
struct Draws {
    count: usize,
    seed: u64,
    fields: Vec<(String, Drawn)>,
}

enum Drawn {
    From(Vec<Value>),
    Between(Range),
}

impl Draws {
    fn new(mut table: Table) -> Result<Self> {
        let draws = table.remove("draws").and_then(|value| value.as_integer()).and_then(|n| usize::try_from(n).ok());
        let count = draws.filter(|n| (1..=MOST_RUNS).contains(n));
        let count = count.with_context(|| format!("[random]: expected draws = n, with 1 <= n <= {MOST_RUNS}"))?;
        let seed = match table.remove("draw_seed") {
            None => 0,
            Some(value) => value
                .as_integer()
                .and_then(|n| u64::try_from(n).ok())
                .with_context(|| format!("draw_seed = {value}: expected an integer >= 0"))?,
        };
        let field = |(field, value): (String, Value)| {
            ensure!(
                is_field(&field),
                "[random]: no field is called '{field}': expected draws, draw_seed, or a field of the plan"
            );
            let drawn = match value {
                Value::Array(values) => {
                    ensure!(!values.is_empty(), "[random] {field} = []: expected at least one value");
                    Drawn::From(values)
                }
                Value::Table(range) => {
                    let range = Range::new(&field, range)?;
                    ensure!(range.count.is_none(), "[random] {field}: count has no meaning for draws");
                    Drawn::Between(range)
                }
                other => bail!("[random] {field} = {other}: expected a list of values, or {{ from = .., to = .. }}"),
            };
            Ok((field, drawn))
        };
        let fields: Vec<_> = table.into_iter().map(field).collect::<Result<_>>()?;
        ensure!(!fields.is_empty(), "[random]: draws of nothing: expected fields with lists or ranges");
        Ok(Self { count, seed, fields })
    }

    fn fields(&self) -> impl Iterator<Item = String> {
        self.fields.iter().map(|(field, _)| field.clone())
    }

    /// A draw depends on its number and its field's name alone, so that more draws, or another field, leave the others as they were.
    fn draw(&self, number: usize) -> Vec<(String, Value)> {
        let generator = Philox::new(self.seed);
        let value = |(field, drawn): &(String, Drawn)| {
            let digest = Sha256::digest(field.as_bytes());
            let key = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]);
            let [high, low, ..] = generator.block([number as u32, key, 0, 0]);
            // 53 bits in [0, 1).
            let place = ((u64::from(high) << 21) | (u64::from(low) >> 11)) as f64 / (1u64 << 53) as f64;
            let value = match drawn {
                Drawn::From(values) => values[(place * values.len() as f64) as usize].clone(),
                Drawn::Between(range) => match range.integers() {
                    Some((from, to)) if !range.log => {
                        Value::Integer(from.saturating_add((place * (to.abs_diff(from) as f64 + 1.0)) as i64).min(to))
                    }
                    Some(_) => Value::Integer(range.at(place).round() as i64),
                    None => Value::Float(tidy(range.at(place))),
                },
            };
            (field.clone(), value)
        };
        self.fields.iter().map(value).collect()
    }
}

/// What run `number` has of its own.
fn assignments(grid: &[Choices], draws: Option<&Draws>, number: usize) -> Vec<(String, Value)> {
    let count = draws.map_or(1, |draws| draws.count);
    let (mut rest, mut own) = (number / count, Vec::new());
    for (field, values) in grid.iter().rev() {
        own.push((field.clone(), values[rest % values.len()].clone()));
        rest /= values.len();
    }
    own.reverse();
    own.extend(draws.into_iter().flat_map(|draws| draws.draw(number % count)));
    own
}

/// The files that plans name, each read once.
struct Files<'a> {
    read: &'a dyn Fn(&Path) -> Result<Vec<u8>>,
    digests: std::collections::HashMap<String, Vec<u8>>,
}

impl Files<'_> {
    fn identity(&mut self, plan: &Plan) -> Result<String> {
        let mut hash = Sha256::new();
        let mut named = plan.clone();
        for path in [&mut named.split, &mut named.init] {
            if path.ends_with(".csv") || path.ends_with(".safetensors") {
                if !self.digests.contains_key(path.as_str()) {
                    let bytes = (self.read)(Path::new(path.as_str()))?;
                    self.digests.insert(path.clone(), Sha256::digest(bytes).to_vec());
                }
                hash.update(&self.digests[path.as_str()]);
                // What is in it counts, not where it lies.
                *path = path.rsplit('.').next().unwrap_or_default().into();
            }
        }
        if plan.split.ends_with(".csv") {
            // The file replaces it.
            named.train_fraction = 1.0;
        }
        // Without the meanings that stand beside the fields.
        let (mut fields, default) = (toml::Table::try_from(&named)?, toml::Table::try_from(preset("default")?)?);
        fields.retain(|name, value| !UNNAMED.contains(&name) || default.get(name) != Some(value));
        hash.update(toml::to_string(&fields).context("a plan")?);
        Ok(hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SweepPlan, String> {
        let none = |path: &Path| bail!("{}: not there", path.display());
        SweepPlan::new(text, "sweep.toml", &none).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_grid_is_every_combination() {
        let sweep = read("preset = 'demo'\nsteps = 7\n[grid]\nlr = [1e-3, 2e-3]\nseed = { from = 4, to = 6 }").unwrap();
        let runs: Vec<_> =
            sweep.runs.iter().map(|run| (run.plan.lr, run.plan.seed, run.plan.steps, run.plan.p)).collect();
        let expected: Vec<_> =
            [1e-3, 2e-3].into_iter().flat_map(|lr| (4..7).map(move |seed| (lr, seed, 7, 59))).collect();
        assert_eq!(runs, expected);
        assert_eq!(sweep.varied, ["lr", "seed"]);
        let again = read("preset = 'demo'\nsteps = 7\n[grid]\nseed = [5]\nlr = [2e-3]").unwrap();
        assert_eq!(again.runs[0].id, sweep.runs[4].id);
        // What nobody trains need not be fit for it: three heads do not divide the preset's d_model.
        let heads = read("n_heads = 3\n[grid]\nd_model = [96, 192]").unwrap();
        assert_eq!(heads.runs.iter().map(|run| run.plan.d_model).collect::<Vec<_>>(), [96, 192]);
        let halves = read("[grid]\nweight_decay = { from = 0, to = 1, count = 3 }").unwrap();
        assert_eq!(halves.runs.iter().map(|run| run.plan.weight_decay).collect::<Vec<_>>(), [0.0, 0.5, 1.0]);
        let logarithmic = read("[grid]\nweight_decay = { from = 0.01, to = 100, count = 5, scale = 'log' }").unwrap();
        let decays: Vec<f64> = logarithmic.runs.iter().map(|run| run.plan.weight_decay).collect();
        assert_eq!(decays, [0.01, 0.1, 1.0, 10.0, 100.0]);
    }

    #[test]
    fn draws_stay_as_they_are_when_there_are_more_of_them() {
        let of = |draws: usize, other: &str| {
            read(&format!("[random]\ndraws = {draws}\nlr = {{ from = 1e-4, to = 1e-2, scale = 'log' }}\nop = ['add', 'mul']{other}")).unwrap()
        };
        let (few, many) = (of(5, ""), of(50, "\nseed = { from = 0, to = 9 }"));
        for (few, many) in few.runs.iter().zip(&many.runs) {
            assert_eq!((few.plan.lr, &few.plan.op), (many.plan.lr, &many.plan.op));
        }
        let rates: Vec<f64> = many.runs.iter().map(|run| run.plan.lr).collect();
        assert!(rates.iter().all(|&lr| (1e-4..1e-2).contains(&lr)));
        let below = rates.iter().filter(|&&lr| lr < 1e-3).count();
        assert!((15..=35).contains(&below), "{below} of 50 below the middle");
        assert!((0..10).all(|seed| many.runs.iter().any(|run| run.plan.seed == seed)));
        let equal = read("[random]\ndraws = 40\nseed = [1, 2, 3]").unwrap();
        assert_eq!(equal.runs.len(), 3);
    }

    #[test]
    fn what_is_no_sweep_is_refused_in_a_line() {
        for (text, parts) in [
            ("", &["no [grid] and no [random]"][..]),
            ("[grid]", &["[grid]: is empty"]),
            ("[grid]\nseed = []", &["seed = []", "at least one"]),
            ("[grid]\nsed = [1]", &["unknown field 'sed'"]),
            ("sed = 1\n[grid]\nseed = [1]", &["unknown field 'sed'", "of a sweep, preset"]),
            ("lr = -1\n[grid]\nseed = [1]", &["lr = -1", ">= 0"]),
            ("[grid]\nseed = 1", &["seed = 1", "a list"]),
            ("[grid]\nseed = [1, 1]", &["[grid] seed: 1 stands there twice"]),
            ("[grid]\nlr = [1, 1.0]\n[random]\ndraws = 2\nseed = [1, 2]", &["[grid] lr: 1.0 stands there twice"]),
            ("[random]\ndraw = 3\nseed = [1]", &["draws = n"]),
            ("[random]\ndraws = 3\ndrawseed = 3\nseed = [1]", &["no field is called 'drawseed'", "draw_seed"]),
            ("seed = 3\n[grid]\nseed = [1]", &["seed: stands beside"]),
            ("[grid]\nseed = [1]\n[random]\ndraws = 2\nseed = [1]", &["[grid] and in [random]"]),
            ("[grid]\nlr = [-1]", &["lr = -1", ">= 0"]),
            ("[grid]\nd_model = [128, 130]\nn_heads = [4]", &["d_model = 130", "not divided"]),
            ("[grid]\nlr = { from = 1, to = 2 }", &["lr", "count"]),
            ("[grid]\nlr = { from = 2.0, to = 1.0, count = 3 }", &["from = 2 is not below"]),
            ("[grid]\nlr = { from = 0.0, to = 1.0, count = 3, scale = 'log' }", &["> 0"]),
            ("[grid]\nlr = { from = 1.0, to = 2.0, count = 3, step = 1 }", &["no 'step'"]),
            ("[random]\nlr = [1e-3]", &["draws = n"]),
            ("[random]\ndraws = 3", &["draws of nothing"]),
            ("models = 3\n[grid]\nseed = [1]", &["models"]),
            ("[grid]\nmodels = [1, 2]", &["models"]),
            ("[grid]\nseed = { from = 0, to = 999999 }", &["more than 100000"]),
            (
                "[grid]\nseed = { from = 0, to = 9999 }\nlr = { from = 0.1, to = 1.0, count = 9999 }",
                &["more than 100000"],
            ),
            ("preset = 'dmo'\n[grid]\nseed = [1]", &["unknown preset 'dmo'"]),
            ("plan = 'other.toml'\n[grid]\nseed = [1]", &["other.toml: not there"]),
            ("grid = 3", &["expected a table"]),
            ("[grids]\nseed = [1]", &["[grids]: no table of a sweep"]),
            ("[grid]\nseed = { from = 0, to = 3, count = 3 }", &["seed: 3 values from 0 to 3 are not whole"]),
            ("[grid\n", &["line 1: not TOML"]),
            ("[grid]\nseed = [1]\n= 3", &["line 3: not TOML"]),
        ] {
            let Err(error) = read(text) else { panic!("taken: {text}") };
            assert!(error.starts_with("sweep.toml: ") && !error.contains('\n'), "{text}: {error}");
            assert_eq!(error.matches("sweep.toml").count(), 1, "{error}");
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
    }
}
