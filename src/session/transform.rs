//! Activations alone: from a file of arrays to numbers, coefficients and figures.

use super::Options;
use crate::analysis::transform::{SCHEMA, Transform, transform};
use crate::devices;
use crate::progress::Bar;
use crate::report::transform as shown;
use crate::run::{arrays, disk, formats};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What was written, and what to say of it.
pub struct Written {
    /// A line for each array.
    pub lines: Vec<String>,
    /// The page.
    pub page: PathBuf,
}

const PAGE: &str = "transform.html";

#[derive(Serialize)]
struct File {
    schema: u32,
    arrays: Vec<Transform>,
}

/// Transforms the arrays of `file` that are named in `wanted`, or all that are over pairs, and writes `transform.json`,
/// `coefficients.npz`, the figures and a page into `out`.
pub fn transform_file(file: &Path, wanted: &[String], out: &Path, options: &Options) -> Result<Written> {
    ensure!(!out.exists(), "{}: exists already. Name a new directory with --out", out.display());
    let fits = |origin: &str, bytes: u64| {
        // The values, their coefficients, and what is made of them.
        devices::check_memory(bytes.saturating_mul(4), &format!("{origin}: its analysis"), "fewer units or a smaller n")
    };
    let grids = arrays::read(file, wanted, &fits)?;
    let bar = Bar::new(options.style, grids.len() as u64, "transforming");
    let (mut found, mut coefficients, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    let names: Vec<&str> = grids.iter().map(|grid| grid.name.as_str()).collect();
    for (grid, prefix) in grids.iter().zip(shown::prefixes(&names)) {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build().context("threads")?;
        let of = threads.install(|| transform(&grid.name, grid.n, &grid.values, grid.units));
        // [n, n, unit], as the activations are.
        let at = |i: usize| (0..grid.units).map(move |unit| (unit, i));
        let planes = &of.planes;
        let values = (0..grid.n * grid.n).flat_map(at).map(|(unit, i)| planes.plane(unit)[i] as f32).collect();
        coefficients.push((grid.name.clone(), vec![grid.n, grid.n, grid.units], values));
        lines.push(shown::summary(&of));
        let figures = shown::figures(&of, &grid.values, &prefix);
        found.push((of, figures));
        bar.step();
    }
    bar.finish();
    let source =
        file.file_name().map_or_else(|| file.display().to_string(), |name| name.to_string_lossy().into_owned());
    let numbers = File { schema: SCHEMA, arrays: found.iter().map(|(of, _)| of.transform.clone()).collect() };
    let figures = found.iter().flat_map(|(_, figures)| figures).map(shown::standalone);
    let figures: Vec<(String, String)> = figures.collect();
    let mut files: Vec<(&str, Vec<u8>)> = figures.iter().map(|(name, text)| (&**name, text.clone().into())).collect();
    files.push(("coefficients.npz", formats::archive(&coefficients)?));
    files.push(("transform.json", crate::run::pretty(&numbers)?));
    files.push((PAGE, shown::page(&source, &found).into_bytes()));
    disk::write_new_directory(out, &files)?;
    let page = out.join(PAGE);
    Ok(Written { lines, page })
}
