//! The table of a sweep: a row a run, with the plan's fields and what came of it. No clock values: the same runs give the same bytes.

use super::plan::SweepPlan;
use crate::analysis::Analysis;
use crate::analysis::sweep::{LEARNED, Phase};
use crate::learning::{Delay, Learning};
use crate::plan::Plan;
use crate::report::short;
use crate::run::{RunDir, Summary};
use crate::session::many::{End, Found, Job, find};
use crate::train::Evaluation;
use anyhow::{Context, Result};
use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use std::path::Path;
use std::sync::Arc;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Ended by a rule of its plan.
    Done,
    /// Its numbers went bad.
    Diverged,
    /// Begun, and not at its end.
    Begun,
    /// Not begun.
    Waiting,
    /// Its directory holds something that is no run of its plan.
    Damaged,
    /// Its directory cannot be read for now.
    Unreadable,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Done, Self::Diverged, Self::Begun, Self::Waiting, Self::Damaged, Self::Unreadable];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Diverged => "diverged",
            Self::Begun => "begun",
            Self::Waiting => "waiting",
            Self::Damaged => "damaged",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What came of a run that has ended.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Whether it counts as grokked at the end; none where there is no pair to test on, or where it diverged.
    pub grokked: Option<bool>,
    /// The first evaluation at which it had.
    pub grok_step: Option<u64>,
    /// The first with nine tenths of the train pairs right.
    pub fitted_step: Option<u64>,
    /// The first with nine tenths of the test pairs right.
    pub generalised_step: Option<u64>,
    /// When it memorised and generalised by [`crate::learning`]; none where it diverged.
    pub learning: Option<Learning>,
    /// How it learned; none where there is no pair to test on, or where it diverged.
    pub phase: Option<Phase>,
    /// Updates done.
    pub steps: u64,
    /// The field of the plan by which it ended.
    pub stopped_by: Option<String>,
    /// The last row; none where it diverged.
    pub last: Option<Evaluation>,
    /// What the analysis says it computes with.
    pub key_frequencies: Option<Vec<usize>>,
    /// How clear these are, as [`Summary::key_cut`] says it.
    pub key_cut: Option<String>,
    /// Near 1 for a Pizza; of cyclic groups.
    pub gradient_symmetricity: Option<f64>,
    /// Near 1 for a Clock, lower for a Pizza; of cyclic groups of odd order.
    pub distance_irrelevance: Option<f64>,
}

/// A run of the sweep.
pub struct Row {
    /// Its identity, which is its directory's name.
    pub id: String,
    /// Where it stands.
    pub status: Status,
    /// What is trained.
    pub plan: Plan,
    /// Of a run that has ended.
    pub outcome: Option<Outcome>,
    /// What is wrong with a damaged one.
    pub problem: Option<String>,
}

/// Reads what has come of every run so far.
pub fn rows(sweep: &SweepPlan, runs: &Path) -> Result<Vec<Row>> {
    let row = |planned: &super::plan::Planned| {
        let job = Job { directory: runs.join(&planned.id), plan: planned.plan.clone() };
        let mut row = row(planned.id.clone(), &job, sweep.delay)?;
        row.plan = sweep.shown(&row.plan);
        if row.status == Status::Damaged {
            row.problem = row.problem.map(|problem| format!("{problem}: expected grokscope sweep run to do it again"));
        }
        Ok(row)
    };
    sweep.runs.iter().map(row).collect()
}

/// Reads what has come of a run.
pub(super) fn row(id: String, job: &Job, delay: u64) -> Result<Row> {
    let (status, outcome, problem) = match find(job) {
        Found::Nothing => (Status::Waiting, None, None),
        Found::Begun(..) => (Status::Begun, None, None),
        Found::Damaged(problem) => (Status::Damaged, None, Some(problem)),
        Found::Unreadable(problem) => (Status::Unreadable, None, Some(problem)),
        Found::Ended(_, End::Diverged(divergence), _) => {
            (Status::Diverged, Some(Outcome { steps: divergence.step, ..Outcome::default() }), None)
        }
        Found::Ended(run, End::Done(summary), analysis) => {
            (Status::Done, Some(outcome(&run, *summary, analysis.as_deref(), delay)?), None)
        }
    };
    Ok(Row { id, status, plan: job.plan.clone(), outcome, problem })
}

fn outcome(run: &RunDir, summary: Summary, analysis: Option<&Analysis>, delay: u64) -> Result<Outcome> {
    let rows = run.metrics()?;
    let reached = |accuracy: &dyn Fn(&Evaluation) -> Option<f64>| {
        rows.iter().find(|row| accuracy(row).is_some_and(|accuracy| accuracy >= LEARNED)).map(|row| row.step)
    };
    let fitted_step = reached(&|row| Some(row.train_accuracy));
    let generalised_step = reached(&|row| row.test_accuracy);
    let measures = match analysis {
        Some(Analysis::Findings(findings)) => Some(&findings.clock_or_pizza),
        _ => None,
    };
    let last = rows.last().context("a run that is done has rows")?.clone();
    let tested = last.test_accuracy.is_some();
    Ok(Outcome {
        grokked: tested.then_some(summary.grokked),
        grok_step: summary.grok_step,
        fitted_step,
        generalised_step,
        learning: Some(Learning::of(&rows)),
        phase: tested.then(|| Phase::of(fitted_step, generalised_step, delay)),
        steps: summary.steps,
        key_cut: summary.key_cut(),
        stopped_by: summary.stopped_by,
        last: Some(last),
        key_frequencies: summary.key_frequencies,
        gradient_symmetricity: measures.map(|of| of.gradient_symmetricity_wide),
        distance_irrelevance: measures.and_then(|of| of.distance_irrelevance),
    })
}

/// A column with a value, or none, for each row.
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its values.
    pub values: Values,
}

/// The values of a column, of one type.
pub enum Values {
    /// Integers.
    Integers(Vec<Option<i64>>),
    /// Numbers.
    Numbers(Vec<Option<f64>>),
    /// Truth values.
    Bools(Vec<Option<bool>>),
    /// Texts.
    Texts(Vec<Option<String>>),
}

/// The columns of the table: the run and where it stands, fields that vary, what came of it, and the other fields of the plan.
pub fn columns(rows: &[Row], varied: &[String]) -> Result<Vec<Column>> {
    let plans: Vec<toml::Table> =
        rows.iter().map(|row| toml::Table::try_from(&row.plan)).collect::<Result<_, _>>().context("a plan")?;
    let text = |name: &str, of: &dyn Fn(&Row) -> Option<String>| Column {
        name: name.into(),
        values: Values::Texts(rows.iter().map(of).collect()),
    };
    let mut all = vec![text("run", &|row| Some(row.id.clone())), text("status", &|row| Some(row.status.name().into()))];
    let is_varied = |name: &&String| varied.contains(name);
    let fields: Vec<&String> = plans.first().map_or(Vec::new(), |plan| plan.keys().collect());
    all.extend(varied.iter().map(|name| field(name, &plans)));
    let of = |row: &Row| row.outcome.clone();
    let integer = |name: &str, get: &dyn Fn(Outcome) -> Option<u64>| Column {
        name: name.into(),
        values: Values::Integers(rows.iter().map(|row| of(row).and_then(get).map(|n| n as i64)).collect()),
    };
    let number = |name: &str, get: &dyn Fn(Outcome) -> Option<f64>| Column {
        name: name.into(),
        values: Values::Numbers(rows.iter().map(|row| of(row).and_then(get)).collect()),
    };
    let list = |keys: Vec<usize>| keys.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
    all.push(text("phase", &|row| Some(of(row)?.phase?.name().into())));
    all.push(Column {
        name: "grokked".into(),
        values: Values::Bools(rows.iter().map(|row| of(row).and_then(|outcome| outcome.grokked)).collect()),
    });
    all.push(integer("grok_step", &|outcome| outcome.grok_step));
    all.push(integer("fitted_step", &|outcome| outcome.fitted_step));
    all.push(integer("generalised_step", &|outcome| outcome.generalised_step));
    all.push(text("learned", &|row| Some(of(row)?.learning?.outcome?.name().into())));
    all.push(integer("memorised_99_step", &|outcome| outcome.learning?.memorised_step));
    all.push(integer("generalised_99_step", &|outcome| outcome.learning?.generalised_step));
    let delay = |name: &str, get: &dyn Fn(Delay) -> Option<i64>| Column {
        name: name.into(),
        values: Values::Integers(rows.iter().map(|row| get(of(row)?.learning?.delay?)).collect()),
    };
    all.push(delay("delay_more_than", &|delay| Some(delay.more_than)));
    all.push(delay("delay_less_than", &|delay| delay.less_than));
    all.push(integer("ended_at_step", &|outcome| Some(outcome.steps)));
    all.push(text("stopped_by", &|row| of(row)?.stopped_by));
    all.push(number("train_loss", &|outcome| Some(outcome.last?.train_loss)));
    all.push(number("test_loss", &|outcome| outcome.last?.test_loss));
    all.push(number("train_accuracy", &|outcome| Some(outcome.last?.train_accuracy)));
    all.push(number("test_accuracy", &|outcome| outcome.last?.test_accuracy));
    all.push(number("weight_norm", &|outcome| Some(outcome.last?.weight_norm)));
    all.push(text("key_frequencies", &|row| of(row)?.key_frequencies.map(list)));
    all.push(text("key_cut", &|row| of(row)?.key_cut));
    all.push(integer("keys", &|outcome| outcome.key_frequencies.map(|keys| keys.len() as u64)));
    all.push(number("gradient_symmetricity", &|outcome| outcome.gradient_symmetricity));
    all.push(number("distance_irrelevance", &|outcome| outcome.distance_irrelevance));
    all.extend(fields.into_iter().filter(|name| !is_varied(name)).map(|name| field(name, &plans)));
    Ok(all)
}

/// A field of the plans, of the type that it has there.
fn field(name: &str, plans: &[toml::Table]) -> Column {
    let values = || plans.iter().map(|plan| plan.get(name));
    let values = match values().next().flatten() {
        Some(toml::Value::Integer(_)) => Values::Integers(values().map(|v| v?.as_integer()).collect()),
        Some(toml::Value::Float(_)) => Values::Numbers(values().map(|v| v?.as_float()).collect()),
        Some(toml::Value::Boolean(_)) => Values::Bools(values().map(|v| v?.as_bool()).collect()),
        _ => Values::Texts(values().map(|v| Some(v?.as_str()?.to_string())).collect()),
    };
    Column { name: name.into(), values }
}

/// The table as CSV: missing values are empty, a frequency set is separated by spaces.
pub fn csv(columns: &[Column]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns.iter().map(|column| &column.name))?;
    let count = columns.first().map_or(0, |column| column.values.len());
    for row in 0..count {
        writer.write_record(columns.iter().map(|column| column.values.text(row).unwrap_or_default()))?;
    }
    writer.into_inner().map_err(|error| error.into_error()).context("the table")
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Integers(values) => values.len(),
            Self::Numbers(values) => values.len(),
            Self::Bools(values) => values.len(),
            Self::Texts(values) => values.len(),
        }
    }

    /// A value as text: a number so that it is read back as the same.
    pub fn text(&self, row: usize) -> Option<String> {
        match self {
            Self::Integers(values) => values[row].map(|n| n.to_string()),
            Self::Numbers(values) => values[row].map(|x| format!("{x:?}")),
            Self::Bools(values) => values[row].map(|b| b.to_string()),
            Self::Texts(values) => values[row].clone(),
        }
    }

    /// A value as text for people: numbers with few digits.
    pub fn short(&self, row: usize) -> Option<String> {
        match self {
            Self::Numbers(values) => values[row].map(short),
            _ => self.text(row),
        }
    }

    fn physical(&self) -> Physical {
        match self {
            Self::Integers(_) => Physical::INT64,
            Self::Numbers(_) => Physical::DOUBLE,
            Self::Bools(_) => Physical::BOOLEAN,
            Self::Texts(_) => Physical::BYTE_ARRAY,
        }
    }
}

/// The table as Parquet, uncompressed, a row group.
pub fn parquet(columns: &[Column]) -> Result<Vec<u8>> {
    let leaf = |column: &Column| {
        let text = matches!(column.values, Values::Texts(_)).then_some(LogicalType::String);
        let leaf = Type::primitive_type_builder(&column.name, column.values.physical());
        Ok(Arc::new(leaf.with_repetition(Repetition::OPTIONAL).with_logical_type(text).build()?))
    };
    let leaves = columns.iter().map(leaf).collect::<Result<Vec<_>>>()?;
    let schema = Arc::new(Type::group_type_builder("sweep").with_fields(leaves).build()?);
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Default::default())?;
    let mut group = file.next_row_group()?;
    for column in columns {
        match &column.values {
            Values::Integers(values) => put::<Int64Type>(&mut group, values)?,
            Values::Numbers(values) => put::<DoubleType>(&mut group, values)?,
            Values::Bools(values) => put::<BoolType>(&mut group, values)?,
            Values::Texts(values) => {
                let bytes = |text: &Option<String>| text.as_ref().map(|text| ByteArray::from(text.as_str()));
                put::<ByteArrayType>(&mut group, &values.iter().map(bytes).collect::<Vec<_>>())?;
            }
        }
    }
    group.close()?;
    Ok(file.into_inner()?)
}

fn put<T: DataType>(group: &mut SerializedRowGroupWriter<Vec<u8>>, values: &[Option<T::T>]) -> Result<()> {
    let mut writer = group.next_column()?.context("a column for every leaf of the schema")?;
    let there: Vec<T::T> = values.iter().flatten().cloned().collect();
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    writer.typed::<T>().write_batch(&there, Some(&levels), None)?;
    Ok(writer.close()?)
}
