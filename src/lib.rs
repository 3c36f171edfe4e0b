//! grokscope trains a one-layer transformer on modular arithmetic until it groks, and takes it apart.
pub mod analysis;
pub mod cli;
pub mod cpu;
pub mod devices;
pub mod gpu;
pub mod model;
pub mod plan;
pub mod program;
pub mod progress;
pub mod random;
pub mod run;
pub mod session;
pub mod shaders;
pub mod task;
pub mod train;
