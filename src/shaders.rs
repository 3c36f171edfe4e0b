//! The kernels' sources.

use crate::gpu::kernel::Kernel;
use anyhow::Result;
use std::sync::OnceLock;

macro_rules! shader {
    ($stem:literal) => {
        ($stem, include_str!(concat!("../shaders/", $stem, ".wgsl")))
    };
}

/// The same with what its family shares: the shared files, and last the file of the kernel. Its name is the stem, unless `as` gives another.
macro_rules! with {
    (@ [$($shared:literal)*] $file:literal) => { with!(@ [$($shared)*] $file as $file) };
    (@ [$($shared:literal)*] $file:literal as $stem:literal) => {
        (
            $stem,
            concat!(
                include_str!(concat!("../shaders/", $file, ".wgsl")),
                $(include_str!(concat!("../shaders/shared/", $shared, ".wgsl"))),*
            ),
        )
    };
    (@ [$($shared:literal)*] $next:literal, $($rest:tt)+) => { with!(@ [$($shared)* $next] $($rest)+) };
    ($($names:tt)+) => { with!(@ [] $($names)+) };
}

/// Stem and text of every operation.
pub const OPERATIONS: &[(&str, &str)] = &[
    shader!("embed"),
    shader!("attention"),
    shader!("mlp"),
    shader!("unembed"),
    with!("loss", "tree", "loss"),
    with!("loss", "row_a_lane", "loss_software"),
    with!("loss", "tree", "stablemax"),
    with!("loss", "row_a_lane", "stablemax_software"),
    with!("table", "copy", "copy"),
    with!("table", "copy", "copy_software"),
    with!("update", "grokfast"),
    shader!("orthogonal"),
    with!("update", "adamw"),
    with!("update", "sgd"),
    with!("update", "muon"),
    shader!("orthonormal"),
    with!("lanes", "sum_of_lanes", "compose"),
    with!("few_lanes", "sum_of_lanes", "compose" as "compose_software"),
    with!("lanes", "sum_of_lanes", "slots"),
    with!("few_lanes", "sum_of_lanes", "slots" as "slots_software"),
    with!("rows", "rows"),
    with!("rows", "rows_software"),
    with!("dots", "dots"),
    with!("dots", "dots_software"),
    with!("dots", "dots_subgroup"),
    with!("table", "place", "block", "product"),
    with!("table", "place", "block", "product_64x64"),
    with!("table", "place", "product_software"),
    with!("table", "place", "product_subgroup"),
];

/// Appended to every operation; module scope has no order in WGSL.
pub const HELPERS: &str = concat!(
    include_str!("../shaders/shared/dims.wgsl"),
    include_str!("../shaders/shared/index.wgsl"),
    include_str!("../shaders/shared/tile.wgsl"),
    include_str!("../shaders/shared/fours.wgsl"),
);

/// All kernels, which a process parses once.
pub fn kernels() -> Result<&'static [Kernel]> {
    static PARSED: OnceLock<Vec<Kernel>> = OnceLock::new();
    if let Some(kernels) = PARSED.get() {
        return Ok(kernels);
    }
    let kernels = OPERATIONS.iter().map(|(stem, source)| Kernel::new(stem, source, HELPERS)).collect::<Result<_>>()?;
    Ok(PARSED.get_or_init(|| kernels))
}

/// The text of `probes.wgsl` and that of its helpers. The self-check runs the probes in addition to the programs' kernels.
pub const PROBES: (&str, &str) =
    (include_str!("../shaders/probes.wgsl"), include_str!("../shaders/shared/update.wgsl"));

/// The probes, parsed.
pub fn probes() -> Result<Kernel> {
    Kernel::new("probes", PROBES.0, PROBES.1)
}
