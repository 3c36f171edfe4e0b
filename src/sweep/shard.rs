//! Which part of a sweep this process does.

use anyhow::{Context, Result, bail, ensure};

/// Part `index` of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: usize,
    /// At least 1.
    pub count: usize,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Whether run `number` belongs to it. Neighbours go to different shards: they take similar times.
    pub fn has(self, number: usize) -> bool {
        number % self.count == self.index
    }
}

/// What a scheduler puts into the environment of a task of an array: its number, the first number, the step between numbers, and the
/// last number or how many there are.
struct Array {
    scheduler: &'static str,
    /// What its users begin to count with.
    base: usize,
    index: &'static str,
    first: Option<&'static str>,
    step: Option<&'static str>,
    last: Option<&'static str>,
    count: Option<&'static str>,
}

const ARRAYS: &[Array] = &[
    Array {
        scheduler: "Slurm",
        base: 0,
        index: "SLURM_ARRAY_TASK_ID",
        first: Some("SLURM_ARRAY_TASK_MIN"),
        step: Some("SLURM_ARRAY_TASK_STEP"),
        last: Some("SLURM_ARRAY_TASK_MAX"),
        count: Some("SLURM_ARRAY_TASK_COUNT"),
    },
    Array {
        scheduler: "Kubernetes",
        base: 0,
        index: "JOB_COMPLETION_INDEX",
        first: None,
        step: None,
        last: None,
        count: None,
    },
    Array {
        scheduler: "Grid Engine",
        base: 1,
        index: "SGE_TASK_ID",
        first: Some("SGE_TASK_FIRST"),
        step: Some("SGE_TASK_STEPSIZE"),
        last: Some("SGE_TASK_LAST"),
        count: None,
    },
    Array {
        scheduler: "AWS Batch",
        base: 0,
        index: "AWS_BATCH_JOB_ARRAY_INDEX",
        first: None,
        step: None,
        last: None,
        count: Some("AWS_BATCH_JOB_ARRAY_SIZE"),
    },
    Array { scheduler: "PBS", base: 0, index: "PBS_ARRAY_INDEX", first: None, step: None, last: None, count: None },
];

/// Names of what tells a task its number.
pub fn indices() -> impl Iterator<Item = &'static str> {
    ARRAYS.iter().map(|array| array.index)
}

/// `--shard i/n` as typed; else what the scheduler's environment says, with `--shards n` where it does not say how many; else all.
pub fn shard(typed: Option<&str>, shards: Option<usize>, env: &dyn Fn(&str) -> Option<String>) -> Result<Shard> {
    if let Some(text) = typed {
        let wrong = || format!("--shard {text}: expected i/n with 0 <= i < n, such as 0/8");
        let (index, count) = text.split_once('/').with_context(wrong)?;
        let shard = Shard { index: index.parse().with_context(wrong)?, count: count.parse().with_context(wrong)? };
        ensure!(shard.index < shard.count, "{}", wrong());
        return Ok(shard);
    }
    // Grid Engine says "undefined" outside of arrays.
    let task = ARRAYS.iter().find_map(|array| {
        env(array.index).filter(|text| !text.is_empty() && text != "undefined").map(|text| (array, text))
    });
    let Some((array, text)) = task else {
        ensure!(
            shards.is_none_or(|count| count == 1),
            "--shards {}: which of them is this? expected --shard i/n, or a task of a scheduler's array",
            shards.unwrap_or(1)
        );
        return Ok(Shard::WHOLE);
    };
    let number = |name: &str, text: &str| -> Result<usize> {
        text.parse().with_context(|| format!("{name}={text}: expected an integer >= 0"))
    };
    let of_env = |name: Option<&'static str>| -> Result<Option<usize>> {
        let Some(name) = name else { return Ok(None) };
        env(name).map(|text| number(name, &text)).transpose()
    };
    let task = number(array.index, &text)?;
    // Where it is said how many there are, numbers are taken as they stand, so that a task that is queued again by itself does its own
    // shard. Where it is not, the array must look like all of them.
    let first = if shards.is_none() { of_env(array.first)?.unwrap_or(array.base) } else { array.base };
    let (step, tasks) = (of_env(array.step)?.unwrap_or(1), of_env(array.count)?);
    let last = of_env(array.last)?.map(|last| last.max(first) - first + 1);
    // An array of one task may be a whole one, or a task that is queued again.
    let is_one = tasks == Some(1) || (tasks.is_none() && last == Some(1));
    let is_whole = first <= 1 && step == 1 && (tasks.is_none() || last.is_none() || tasks == last) && !is_one;
    ensure!(
        shards.is_some() || is_whole,
        "{}={task}: an array of {} with numbers that do not go from 0 or 1 to its last without gaps, or of one task: expected --shards n, or --shard i/n",
        array.index,
        array.scheduler
    );
    let index = task.checked_sub(first).with_context(|| format!("{}={task}: comes before {first}", array.index))?;
    let count = match (shards, tasks.or(last)) {
        (Some(count), _) | (None, Some(count)) => count,
        (None, None) => bail!(
            "{}={task}: a task of an array of {}, which does not say how many there are: expected --shards n, or --shard i/n",
            array.index,
            array.scheduler
        ),
    };
    ensure!(index < count, "{}={task}: outside of the {count} shards: expected a number below {count}", array.index);
    Ok(Shard { index, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(typed: Option<&str>, shards: Option<usize>, env: &[(&str, &str)]) -> Result<(usize, usize), String> {
        let of = |name: &str| env.iter().find(|(other, _)| *other == name).map(|(_, value)| value.to_string());
        shard(typed, shards, &of).map(|s| (s.index, s.count)).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_shard_is_typed_or_told_by_a_scheduler() {
        let array =
            |id, min, max| [("SLURM_ARRAY_TASK_ID", id), ("SLURM_ARRAY_TASK_MIN", min), ("SLURM_ARRAY_TASK_MAX", max)];
        let slurm = array("4", "0", "6");
        let with = |name, value| [&slurm[..], &[(name, value)]].concat();
        assert_eq!(found(None, None, &[]), Ok((0, 1)));
        assert_eq!(found(Some("3/8"), None, &slurm), Ok((3, 8)));
        assert_eq!(found(None, None, &slurm), Ok((4, 7)));
        assert_eq!(found(None, None, &array("4", "1", "7")), Ok((3, 7)));
        assert_eq!(found(None, None, &with("SLURM_ARRAY_TASK_COUNT", "7")), Ok((4, 7)));
        // Parts of arrays: --array=0,4,6 and --array=0-6:2 and --array=4, or 1, or 0.
        let parts = [
            with("SLURM_ARRAY_TASK_COUNT", "3"),
            with("SLURM_ARRAY_TASK_STEP", "2"),
            array("4", "4", "4").to_vec(),
            array("1", "1", "1").to_vec(),
            array("0", "0", "0").to_vec(),
        ];
        for part in parts {
            assert!(found(None, None, &part).unwrap_err().contains("expected --shards n"), "{part:?}");
        }
        // With their number given, a task that is queued by itself does its own.
        let again = [("SLURM_ARRAY_TASK_ID", "7"), ("SLURM_ARRAY_TASK_MIN", "7"), ("SLURM_ARRAY_TASK_MAX", "7")];
        assert_eq!(found(None, Some(100), &again), Ok((7, 100)));
        assert_eq!(found(None, Some(9), &[("SGE_TASK_ID", "9"), ("SGE_TASK_FIRST", "9")]), Ok((8, 9)));
        assert_eq!(found(None, Some(5), &[("JOB_COMPLETION_INDEX", "4")]), Ok((4, 5)));
        assert_eq!(found(None, None, &[("SGE_TASK_ID", "undefined")]), Ok((0, 1)));
        let grid = [("SGE_TASK_ID", "5"), ("SGE_TASK_FIRST", "1"), ("SGE_TASK_LAST", "9")];
        assert_eq!(found(None, None, &grid), Ok((4, 9)));
        let batch = [("AWS_BATCH_JOB_ARRAY_INDEX", "2"), ("AWS_BATCH_JOB_ARRAY_SIZE", "4")];
        assert_eq!(found(None, None, &batch), Ok((2, 4)));
    }

    #[test]
    fn what_says_no_shard_is_refused() {
        for typed in ["8/8", "1", "a/3", "-1/3", "1/0", "1/2/3", ""] {
            assert!(found(Some(typed), None, &[]).unwrap_err().contains("0 <= i < n"), "{typed}");
        }
        assert!(found(None, None, &[("JOB_COMPLETION_INDEX", "4")]).unwrap_err().contains("--shards n"));
        assert!(found(None, Some(4), &[("JOB_COMPLETION_INDEX", "4")]).unwrap_err().contains("below 4"));
        assert!(found(None, None, &[("SLURM_ARRAY_TASK_ID", "x")]).unwrap_err().contains("an integer"));
        assert!(found(None, Some(4), &[]).unwrap_err().contains("which of them"));
    }

    #[test]
    fn shards_are_a_partition() {
        for count in [1, 3, 8] {
            for number in 0..50 {
                assert_eq!((0..count).filter(|&index| Shard { index, count }.has(number)).count(), 1);
            }
        }
    }
}
