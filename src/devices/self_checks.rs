//! Runs the self-check once per adapter and driver, and caches the result: a small JSON file for each in the user's cache
//! directory.

use super::cache::{self, CACHE_DIR};
use super::tiles;
use crate::gpu::device::{Family, Gpu, KernelChoice, TILES, size_of_tiles, title};
use crate::plan::preset;
use crate::progress::{Style, note};
use crate::run::disk;
use crate::run::lens::sha256;
use crate::self_check::{Finding, Kernels, Report, SelfCheck, kernel_count};
use crate::shaders::{HELPERS, OPERATIONS, PROBES};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use wgpu::{Adapter, AdapterInfo};

/// Bytes of a result at most. A failed check of every kernel stays far below.
const LARGEST: u64 = 1 << 20;
/// The version of the file format and of the check's coverage.
const SCHEMA: u32 = 1;
/// The version of wgpu and naga in Cargo.lock. Another version may compile other kernels wrong.
const WGPU: &str = "30.0.1";

/// What a result is valid for. If any field changes, the check runs again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// The adapter's name.
    pub adapter: String,
    /// vulkan, metal, dx12 or gl.
    pub backend: String,
    /// The driver's name.
    pub driver: String,
    /// Its version.
    pub driver_info: String,
    /// The vendor's PCI id.
    pub vendor: u32,
    /// The device's PCI id.
    pub device: u32,
    /// The version of wgpu.
    pub wgpu: String,
    /// The SHA-256 of all shaders.
    pub shaders: String,
    /// What `--kernels` says, as an identifier of the program.
    #[serde(default)]
    pub kernels: String,
}

impl Key {
    /// The key of an adapter with this program's shaders.
    pub fn of(info: &AdapterInfo) -> Self {
        let texts = OPERATIONS.iter().flat_map(|(stem, text)| [*stem, *text]).chain([HELPERS, PROBES.0, PROBES.1]);
        Self {
            adapter: info.name.clone(),
            backend: info.backend.to_str().into(),
            driver: info.driver.clone(),
            driver_info: info.driver_info.clone(),
            vendor: info.vendor,
            device: info.device,
            wgpu: WGPU.into(),
            shaders: sha256(texts.collect::<Vec<_>>().join("\0").as_bytes()),
            kernels: format!("{:?}", KernelChoice::Auto),
        }
    }

    /// The name of its file without the extension.
    fn stem(&self) -> String {
        let text = serde_json::json!(self).to_string();
        format!("self-check-{}", &sha256(text.as_bytes())[..16])
    }
}

/// A finished self-check.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// What it found.
    pub report: Report,
    /// Seconds that it took, most of them in the driver's compiler: many drivers compile at the first launch.
    pub seconds: f64,
    /// The fastest tiles; none if they were not measured, or if choosing them for each product is as fast.
    pub tiles: Option<&'static str>,
}

/// A remembered self-check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    schema: u32,
    /// What it is valid for.
    pub key: Key,
    /// The day it ran, in UTC.
    pub date: String,
    /// The program that ran it.
    pub grokscope: String,
    /// Kernels that were checked.
    pub kernels: usize,
    /// Launches that were compared.
    pub cases: usize,
    /// Seconds that the check took.
    pub seconds: f64,
    /// What is wrong; empty where it passed.
    pub wrong: Vec<Finding>,
    /// The product kernel with the fastest tiles; none if they are chosen for each product.
    #[serde(default)]
    tiles: Option<String>,
    /// Where this record was saved or read.
    #[serde(skip)]
    pub path: Option<PathBuf>,
}

impl Record {
    fn new(key: Key, timed: Timed) -> Self {
        let Timed { report, seconds, tiles } = timed;
        Self {
            schema: SCHEMA,
            key,
            date: today(),
            grokscope: env!("CARGO_PKG_VERSION").into(),
            kernels: report.checked.len(),
            cases: report.cases,
            seconds,
            wrong: report.wrong,
            tiles: tiles.map(String::from),
            path: None,
        }
    }

    /// The tiles that were fastest; none where they are chosen for each product.
    pub fn tiles(&self) -> Option<&'static str> {
        TILES.iter().find(|tiles| Some(**tiles) == self.tiles.as_deref()).copied()
    }

    /// Whether no kernel was wrong.
    pub fn passed(&self) -> bool {
        self.wrong.is_empty()
    }

    /// The wrong kernels, each once.
    fn wrong_kernels(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.wrong.iter().map(|finding| &finding.kernel[..]).collect();
        names.sort();
        names.dedup();
        names
    }

    /// One line: `passed on 2026-01-31: 74 kernels, 142 cases, 9.7 s`.
    pub fn summary(&self) -> String {
        let Self { date, kernels, cases, seconds, .. } = self;
        let figures = format!("{kernels} kernels, {cases} cases, {seconds:.1} s");
        match self.passed() {
            true => {
                let tiles = self.tiles().map_or(String::new(), |tiles| format!("; tiles of {}", size_of_tiles(tiles)));
                format!("passed on {date}: {figures}{tiles}")
            }
            false => {
                format!(
                    "failed on {date}: kernel {}; {figures}{}",
                    self.wrong_kernels().join(", "),
                    self.report_location()
                )
            }
        }
    }

    fn report_location(&self) -> String {
        self.path.as_ref().map_or(String::new(), |path| format!("; report: {}", path.with_extension("txt").display()))
    }

    /// Describes the failure for a message; None if the check passed.
    pub fn failure(&self) -> Option<String> {
        let first = self.wrong.first()?;
        let more = match self.wrong_kernels().len() {
            1 => String::new(),
            n => format!("; {n} of {} kernels are wrong", self.kernels),
        };
        Some(format!(
            "the self-check failed because this driver computes wrong numbers: {first}{more}{}",
            self.report_location()
        ))
    }

    /// The report as text.
    fn text(&self) -> String {
        let Key { adapter, backend, driver, driver_info, vendor, device, wgpu, shaders, kernels } = &self.key;
        let mut text = format!(
            "grokscope {} self-check of {adapter} [{backend}]\n{}\ndriver   {driver} {driver_info}\nids      vendor {vendor:#06x}, device {device:#06x}\nwgpu     {wgpu}\nshaders  {shaders}\nkernels  {kernels}\n\n",
            self.grokscope,
            Self { path: None, ..self.clone() }.summary(),
        );
        for finding in &self.wrong {
            text += &format!("{finding}\n");
        }
        text
    }
}

/// Results of self-checks: those that this process knows, and those in the cache directory.
pub struct SelfChecks {
    /// None: nothing is remembered between processes.
    directory: Option<PathBuf>,
    /// Results that this process has, even if the directory cannot be written.
    known: Mutex<Vec<Record>>,
}

impl SelfChecks {
    /// Caches results in a directory, which need not exist.
    pub const fn at(directory: Option<PathBuf>) -> Self {
        Self { directory, known: Mutex::new(Vec::new()) }
    }

    /// Those of the user, in [`cache::directory`].
    pub fn of_user() -> &'static Self {
        static OF_USER: std::sync::OnceLock<SelfChecks> = std::sync::OnceLock::new();
        OF_USER.get_or_init(|| Self::at(cache::directory()))
    }

    /// The file of a key.
    fn path(&self, key: &Key) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(key.stem()).with_extension("json"))
    }

    /// Returns the cached result of a key; None if there is none, or its file is damaged or of another key.
    pub fn remembered(&self, key: &Key) -> Option<Record> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|record| record.key == *key).cloned().or_else(|| self.read(key))
    }

    fn read(&self, key: &Key) -> Option<Record> {
        let path = self.path(key)?;
        let record: Record = serde_json::from_slice(&cache::read(&path, LARGEST)?).ok()?;
        (record.schema == SCHEMA && record.key == *key).then_some(Record { path: Some(path), ..record })
    }

    /// Returns the cached result; without one, or with `again`, calls `run` and caches what it returns.
    pub fn result(&self, key: &Key, again: bool, run: impl FnOnce() -> Result<Timed>) -> Result<Record> {
        if !again && let Some(record) = self.remembered(key) {
            return Ok(record);
        }
        let mut record = Record::new(key.clone(), run()?);
        match self.path(key) {
            Some(path) => match save(&record, &path) {
                Ok(()) => record.path = Some(path),
                Err(error) => note(&format!(
                    "the result of the self-check could not be saved, so it will run again next time: {error:#}. Set {CACHE_DIR} to a writable directory."
                )),
            },
            None => note(&format!(
                "no cache directory was found, so the self-check will run again next time. Set {CACHE_DIR} to a writable directory."
            )),
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|other| other.key != *key);
        known.push(record.clone());
        Ok(record)
    }

    /// Returns the result of an adapter; runs the check if there is none, or with `again`.
    pub fn of_adapter(
        &self,
        info: &AdapterInfo,
        adapter: &Adapter,
        kernels: KernelChoice,
        again: bool,
        style: Style,
    ) -> Result<Record> {
        self.result(&Key { kernels: format!("{kernels:?}"), ..Key::of(info) }, again, || {
            if style == Style::Human {
                let count = kernel_count(Family::of(kernels, adapter));
                note(&format!("checking {count} kernels on {} (once per driver)", title(info)));
            }
            pollster::block_on(run(adapter, kernels))
                .with_context(|| format!("{}: the self-check did not finish", title(info)))
        })
    }
}

/// Runs the self-check on a device of its own, and measures tiles where there is a choice.
async fn run(adapter: &Adapter, kernels: KernelChoice) -> Result<Timed> {
    let began = Instant::now();
    let gpu = Gpu::open_with(adapter, kernels).await?;
    let report = SelfCheck::compile(&gpu, &Kernels::own()?).await?.run().await?;
    let seconds = began.elapsed().as_secs_f64();
    let tiles = match gpu.family {
        // --kernels leaves nothing to choose.
        Family::Wide(None) if kernels == KernelChoice::Auto && report.wrong.is_empty() => {
            tiles::fastest(&gpu, &preset("default")?)?
        }
        _ => None,
    };
    Ok(Timed { report, seconds, tiles })
}

/// Writes a record and, if the check failed, a text report beside it.
fn save(record: &Record, path: &Path) -> Result<()> {
    let directory = path.parent().context("a file lies in a directory")?;
    disk::make_directory(directory)?;
    let report = path.with_extension("txt");
    if !record.passed() {
        disk::write_shared(&report, record.text().as_bytes())?;
    } else if report.exists() {
        std::fs::remove_file(&report).with_context(|| format!("{}: could not remove it", report.display()))?;
    }
    disk::write_shared(path, serde_json::to_string_pretty(record)?.as_bytes())
}

/// The day in UTC as YYYY-MM-DD.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date(seconds / 86_400)
}

/// A day counted from 1970-01-01: Howard Hinnant's `civil_from_days`, for days that are not negative.
fn date(days: u64) -> String {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::self_check::Problem;

    fn key() -> Key {
        let text = |text: &str| text.to_string();
        Key {
            adapter: text("A"),
            backend: text("vulkan"),
            driver: text("D"),
            driver_info: text("1.0"),
            vendor: 1,
            device: 2,
            wgpu: text(WGPU),
            shaders: text("0"),
            kernels: text("Auto"),
        }
    }

    fn timed(wrong: Vec<Finding>) -> Timed {
        let report = Report { checked: vec!["product.nn".into(), "loss.forward".into()], cases: 3, wrong };
        Timed { report, seconds: 2.5, tiles: Some(TILES[1]) }
    }

    fn wrong() -> Finding {
        let problem = Problem::Value { bits: f32::NAN.to_bits(), expected: 1.5, bound: 1e-6 };
        let (kernel, launch, tensor) = ("product.nn".into(), "train rows".into(), "logits4".into());
        Finding { kernel, launch, tensor, model: 1, index: 7, problem, count: 2 }
    }

    #[test]
    fn a_result_is_remembered_for_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("new").join("cache");
        let mut runs = 0;
        // Each call stands for a new process, which has no results yet.
        let mut result = |key: &Key, again: bool, found: Vec<Finding>| {
            let run = || {
                runs += 1;
                Ok(timed(found))
            };
            let record = SelfChecks::at(Some(at.clone())).result(key, again, run).unwrap();
            (runs, record)
        };
        let (count, first) = result(&key(), false, vec![]);
        assert!(count == 1 && first.passed(), "the first is run");
        let (count, second) = result(&key(), false, vec![wrong()]);
        assert!(count == 1 && second == first, "the second is remembered");
        assert!(second.tiles() == Some(TILES[1]) && second.summary().ends_with("tiles of 64x64"), "{second:?}");
        assert_eq!(result(&key(), true, vec![]).0, 2, "it is forced");
        for (field, changed) in [
            ("driver", Key { driver_info: "1.1".into(), ..key() }),
            ("shaders", Key { shaders: "1".into(), ..key() }),
            ("wgpu", Key { wgpu: "31".into(), ..key() }),
            ("device", Key { device: 3, ..key() }),
        ] {
            let before = result(&key(), false, vec![]).0;
            assert_eq!(result(&changed, false, vec![]).0, before + 1, "another {field}");
        }
        // Damaged files, and one of another schema, are checked again and replaced.
        let file = first.path.unwrap();
        let whole = std::fs::read_to_string(&file).unwrap();
        for bytes in [&b""[..], b"{", b"\xff\xfe", b"[]", whole.replace("\"schema\": 1", "\"schema\": 0").as_bytes()] {
            std::fs::write(&file, bytes).unwrap();
            let before = result(&Key { device: 3, ..key() }, false, vec![]).0;
            assert_eq!(result(&key(), false, vec![]).0, before + 1, "{bytes:?}");
        }
        assert_eq!(std::fs::read_dir(&at).unwrap().count(), 5, "one file a key, and no temporary one");
    }

    #[test]
    fn a_failure_is_remembered_with_its_report() {
        let directory = tempfile::tempdir().unwrap();
        let checks = SelfChecks::at(Some(directory.path().into()));
        let failed = checks.result(&key(), false, || Ok(timed(vec![wrong()]))).unwrap();
        let again = SelfChecks::at(Some(directory.path().into())).remembered(&key()).unwrap();
        assert_eq!(again, failed);
        let message = again.failure().unwrap();
        for part in ["kernel product.nn", "tensor logits4 of model 1 at index 7", "got NaN", "1.5e0", "1e-6", ".txt"] {
            assert!(message.contains(part), "no {part} in {message}");
        }
        let report = std::fs::read_to_string(again.path.unwrap().with_extension("txt")).unwrap();
        assert!(report.contains("D 1.0") && report.contains("tensor logits4"), "{report}");
    }

    #[test]
    fn without_a_directory_a_process_checks_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        for place in [None, Some(file.join("cache"))] {
            let checks = SelfChecks::at(place);
            let mut runs = 0;
            for _ in 0..2 {
                let run = || {
                    runs += 1;
                    Ok(timed(vec![]))
                };
                assert!(checks.result(&key(), false, run).unwrap().passed());
            }
            assert_eq!(runs, 1);
        }
    }

    #[test]
    fn a_check_that_does_not_finish_is_not_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let checks = SelfChecks::at(Some(directory.path().into()));
        assert!(checks.result(&key(), false, || anyhow::bail!("lost")).is_err());
        assert!(checks.remembered(&key()).is_none());
    }

    #[test]
    fn days_are_dates() {
        let dates = [(0, "1970-01-01"), (11_016, "2000-02-29"), (19_782, "2024-02-29"), (20_819, "2027-01-01")];
        for (days, expected) in dates {
            assert_eq!(date(days), expected);
        }
    }

    #[test]
    fn the_version_of_wgpu_is_that_of_the_lock_file() {
        let lock = include_str!("../../Cargo.lock");
        for name in ["wgpu", "naga"] {
            assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{WGPU}\"")), "{name} is not {WGPU}");
        }
    }
}
