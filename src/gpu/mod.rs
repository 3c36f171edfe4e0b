//! wgpu, naga and buffers. Nothing here knows of transformers: a kernel is a shader whose variables have names, and a
//! tensor is a window on a buffer.

pub mod device;
pub mod kernel;
pub mod pass;
pub mod tensors;
pub mod wait;
