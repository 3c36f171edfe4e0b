//! The kernels' sources.

use crate::gpu::kernel::Kernel;
use anyhow::Result;

macro_rules! shader {
    ($stem:literal) => {
        ($stem, include_str!(concat!("../shaders/", $stem, ".wgsl")))
    };
}

/// A product, with what all its variants share.
macro_rules! product {
    ($stem:literal) => {
        (
            $stem,
            concat!(include_str!(concat!("../shaders/", $stem, ".wgsl")), include_str!("../shaders/shared/place.wgsl")),
        )
    };
}

/// Stem and text of every operation.
pub const OPERATIONS: &[(&str, &str)] = &[
    shader!("embed"),
    shader!("attention"),
    shader!("mlp"),
    shader!("unembed"),
    shader!("loss"),
    shader!("adamw"),
    shader!("compose"),
    shader!("slots"),
    shader!("rows"),
    shader!("dots"),
    shader!("dots_subgroup"),
    product!("product"),
    product!("product_subgroup"),
];

/// Appended to every operation; module scope has no order in WGSL.
pub const HELPERS: &str = concat!(
    include_str!("../shaders/shared/dims.wgsl"),
    include_str!("../shaders/shared/index.wgsl"),
    include_str!("../shaders/shared/tile.wgsl"),
    include_str!("../shaders/shared/fours.wgsl"),
);

/// All kernels, parsed.
pub fn kernels() -> Result<Vec<Kernel>> {
    OPERATIONS.iter().map(|(stem, source)| Kernel::new(stem, source, HELPERS)).collect()
}
