//! Arrays over a grid of pairs from NumPy's files: .npz (stored or deflated) and .npy.

use anyhow::{Context, Result, bail, ensure};
use npyz::{DType, NpyFile, TypeChar};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Values over all pairs (x, y) of a Z_n, of one or more units.
#[derive(Debug)]
pub struct Grid {
    /// Its name in the archive; the file's stem for a .npy file.
    pub name: String,
    /// n
    pub n: usize,
    /// Units: neurons, classes, heads.
    pub units: usize,
    /// [row, unit], row x * n + y
    pub values: Vec<f64>,
}

/// Reads the arrays of `path` that are over pairs: those named in `wanted`, or all of a suitable shape where that is empty.
///
/// [n, n] and [n, n, ..] are over pairs, and [n * n, ..] as `grokscope export --activations` writes it; units are numbered in
/// row-major order of the axes after these. An archive with `pairs` [n * n, 2] holds the latter kind alone, so that [64, 64]
/// beside 64 pairs is 64 units, and its pairs have to be sorted by x, then y. `room` is asked before an array is read whether
/// its float64 values fit into memory. Errors for a file that is no archive, an array that is missing or of another shape or
/// type, values that are not finite or out of float32's range, pairs in another order, and truncated files.
pub fn read(path: &Path, wanted: &[String], room: &dyn Fn(&str, u64) -> Result<()>) -> Result<Vec<Grid>> {
    let file = || File::open(path).with_context(|| format!("{}: could not be opened", path.display()));
    // A pipe would block, and can be read only once.
    let is_special = std::fs::metadata(path).is_ok_and(|of| !of.is_file());
    ensure!(!is_special, "{}: not a regular file. Write the arrays to a file first", path.display());
    let mut magic = [0; 6];
    let long_enough = file()?.read_exact(&mut magic).is_ok();
    if long_enough && &magic == b"\x93NUMPY" {
        let name = path.file_stem().map_or("array".into(), |stem| stem.to_string_lossy().into_owned());
        ensure!(
            wanted.iter().all(|other| *other == name),
            "{}: a .npy file has one array. Leave --array out",
            path.display()
        );
        let origin = path.display().to_string();
        return Ok(vec![grid(name, std::io::BufReader::new(file()?), &origin, None, room)?]);
    }
    let mut archive = zip::ZipArchive::new(std::io::BufReader::new(file()?))
        .with_context(|| format!("{}: neither a .npz nor a .npy file, or truncated", path.display()))?;
    let names: Vec<String> =
        archive.file_names().filter_map(|name| Some(name.ok()?.strip_suffix(".npy")?.to_string())).collect();
    if let Some(missing) = wanted.iter().find(|name| !names.contains(name)) {
        bail!("{}: no array named '{missing}'. Available arrays: {}", path.display(), names.join(", "));
    }
    let listed = match names.iter().any(|name| name == PAIRS) {
        true => listed_pairs(&mut archive, &format!("{}: array '{PAIRS}'", path.display()), room)?,
        false => None,
    };
    let mut found = Vec::new();
    for name in &names {
        let origin = format!("{}: array '{name}'", path.display());
        if !wanted.is_empty() && !wanted.contains(name) {
            continue;
        }
        let unread = || format!("{origin}: could not be read");
        if wanted.is_empty() {
            // Without --array, arrays that are not over pairs are skipped.
            let member = archive.by_name(&format!("{name}.npy")).with_context(unread)?;
            let header = NpyFile::new(member).with_context(|| format!("{origin}: not a NumPy array"))?;
            let is_index = listed.is_some() && (name == PAIRS || name == LABELS);
            if is_index || over_pairs(header.shape(), listed).is_none() || reader_of(&header.dtype()).is_none() {
                continue;
            }
        }
        let member = archive.by_name(&format!("{name}.npy")).with_context(unread)?;
        found.push(grid(name.clone(), member, &origin, listed, room)?);
    }
    ensure!(
        !found.is_empty(),
        "{}: no array is [n, n], [n, n, m] or [n * n, m] with n >= 3. There are {}",
        path.display(),
        if names.is_empty() { "none".into() } else { names.join(", ") }
    );
    Ok(found)
}

/// The array of pairs, and that of their labels, in an archive of `grokscope export --activations`.
const PAIRS: &str = "pairs";
const LABELS: &str = "labels";

/// How many pairs the archive's array `pairs` lists, row i being (i / n, i % n); none where that has another shape.
fn listed_pairs<R: Read + std::io::Seek>(
    archive: &mut zip::ZipArchive<R>,
    origin: &str,
    room: &dyn Fn(&str, u64) -> Result<()>,
) -> Result<Option<u64>> {
    let unread = || format!("{origin}: could not be read");
    let member = archive.by_name(&format!("{PAIRS}.npy")).with_context(unread)?;
    let file = NpyFile::new(member).with_context(|| format!("{origin}: not a NumPy array"))?;
    let [rows, 2] = *file.shape() else { return Ok(None) };
    let n = rows.isqrt();
    if n * n == rows {
        let pairs = numbers(file, rows.saturating_mul(2), origin, room)?;
        let expected = (0..n).flat_map(|x| (0..n).map(move |y| [x as f64, y as f64]));
        let wrong = pairs.chunks_exact(2).zip(expected).enumerate().find(|(_, (pair, expected))| *pair != expected);
        if let Some((row, (pair, [x, y]))) = wrong {
            bail!(
                "{origin}: row {row}: expected ({x}, {y}), got ({}, {}). List each pair of 0..={} once, sorted by x, then \
                 y, and reorder the other arrays the same way",
                pair[0],
                pair[1],
                n - 1
            );
        }
    }
    Ok(Some(rows))
}

/// n and the number of units, where an array of this shape is over pairs. With `listed` pairs its first axis is over these.
fn over_pairs(shape: &[u64], listed: Option<u64>) -> Option<(usize, usize)> {
    let root = |rows: u64| Some(rows.isqrt()).filter(|n| n * n == rows);
    let (n, rest) = match shape {
        [rows, rest @ ..] if Some(*rows) == listed => (root(*rows)?, rest),
        _ if listed.is_some() => return None,
        [a, b, rest @ ..] if a == b => (*a, rest),
        [rows, rest @ ..] if !rest.is_empty() => (root(*rows)?, rest),
        _ => return None,
    };
    let units = rest.iter().try_fold(1u64, |product, &x| product.checked_mul(x))?;
    (n >= 3 && units >= 1).then_some(())?;
    Some((usize::try_from(n).ok()?, usize::try_from(units).ok()?))
}

/// Types of numbers that are read.
#[derive(Clone, Copy)]
enum Number {
    F32,
    F64,
    Int(u64, bool),
}

fn reader_of(dtype: &DType) -> Option<Number> {
    let DType::Plain(plain) = dtype else { return None };
    Some(match (plain.type_char(), plain.size_field()) {
        (TypeChar::Float, 4) => Number::F32,
        (TypeChar::Float, 8) => Number::F64,
        (TypeChar::Int, size @ (1 | 2 | 4 | 8)) => Number::Int(size, true),
        (TypeChar::Uint, size @ (1 | 2 | 4 | 8)) => Number::Int(size, false),
        _ => return None,
    })
}

fn grid(
    name: String,
    reader: impl Read,
    origin: &str,
    listed: Option<u64>,
    room: &dyn Fn(&str, u64) -> Result<()>,
) -> Result<Grid> {
    let file = NpyFile::new(reader).with_context(|| format!("{origin}: not a NumPy array, or truncated"))?;
    let shape = file.shape().to_vec();
    let (n, units) = over_pairs(&shape, listed).with_context(|| {
        format!("{origin}: has shape {shape:?}. Give one of [n, n], [n, n, m] or [n * n, m], with n >= 3")
    })?;
    // `NpyFile::len` wraps.
    let count = [n, units].iter().fold(n as u64, |count, &more| count.saturating_mul(more as u64));
    let values = numbers(file, count, origin, room)?;
    if let Some(at) = values.iter().position(|x| !x.is_finite()) {
        let (pair, unit) = (at / units, at % units);
        bail!(
            "{origin}: unit {unit} at x = {}, y = {} is {}. Name the arrays to read with --array, or replace values that \
             are not finite",
            pair / n,
            pair % n,
            values[at]
        );
    }
    let largest = values.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    ensure!(
        largest == 0.0 || (1e-30..=1e30).contains(&largest),
        "{origin}: its largest absolute value {largest:e} is outside 1e-30..=1e30 (coefficients are float32). Scale the array"
    );
    Ok(Grid { name, n, units, values })
}

/// The values of an array of real numbers, `count` of them, in row-major order.
fn numbers(
    file: NpyFile<impl Read>,
    count: u64,
    origin: &str,
    room: &dyn Fn(&str, u64) -> Result<()>,
) -> Result<Vec<f64>> {
    let number = reader_of(&file.dtype()).with_context(|| {
        format!(
            "{origin}: unsupported dtype {}. Convert it to float32 or float64 (complex numbers: x.real or x.imag)",
            file.dtype().descr()
        )
    })?;
    room(origin, count.saturating_mul(8))?;
    let shape = (file.order() == npyz::Order::Fortran).then(|| file.shape().to_vec());
    let cut_off = || format!("{origin}: truncated: its header declares {count} values");
    let values = match number {
        Number::F32 => all::<f32, _>(file, f64::from),
        Number::F64 => all::<f64, _>(file, |x| x),
        Number::Int(1, true) => all::<i8, _>(file, f64::from),
        Number::Int(2, true) => all::<i16, _>(file, f64::from),
        Number::Int(4, true) => all::<i32, _>(file, f64::from),
        Number::Int(_, true) => all::<i64, _>(file, |x| x as f64),
        Number::Int(1, false) => all::<u8, _>(file, f64::from),
        Number::Int(2, false) => all::<u16, _>(file, f64::from),
        Number::Int(4, false) => all::<u32, _>(file, f64::from),
        Number::Int(_, false) => all::<u64, _>(file, |x| x as f64),
    };
    let values: Vec<f64> = values.with_context(cut_off)?;
    ensure!(values.len() as u64 == count, "{}", cut_off());
    Ok(match shape {
        Some(shape) => row_major(&values, &shape),
        None => values,
    })
}

fn all<T: npyz::Deserialize, R: Read>(file: NpyFile<R>, to: impl Fn(T) -> f64) -> Result<Vec<f64>> {
    Ok(file.data::<T>()?.map(|x| x.map(&to)).collect::<std::io::Result<_>>()?)
}

/// Values in column-major order put into row-major order.
fn row_major(values: &[f64], shape: &[u64]) -> Vec<f64> {
    let mut strides = vec![1usize; shape.len()];
    for i in 1..shape.len() {
        strides[i] = strides[i - 1] * shape[i - 1] as usize;
    }
    let place = |mut index: usize| -> usize {
        let axes = shape.iter().zip(&strides).rev();
        axes.map(|(&size, stride)| {
            let along = index % size as usize;
            index /= size as usize;
            along * stride
        })
        .sum()
    };
    (0..values.len()).map(|index| values[place(index)]).collect()
}
