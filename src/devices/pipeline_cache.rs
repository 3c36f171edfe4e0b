//! Saves compiled pipelines for the next run, on backends with pipeline caches (Vulkan).

use super::cache;
use crate::gpu::device::Gpu;
use crate::run::disk;
use crate::run::lens::sha256;
use std::path::PathBuf;

/// Bytes of the digest before the driver's data.
const DIGEST: usize = 64;

/// Bytes of a file at most. Drivers keep some hundred kilobytes for a program.
const LARGEST: u64 = 1 << 26;

/// The file of an adapter's pipelines; None if its backend has no pipeline cache.
fn path(gpu: &Gpu) -> Option<PathBuf> {
    if !gpu.device.features().contains(wgpu::Features::PIPELINE_CACHE) {
        return None;
    }
    Some(cache::directory()?.join(wgpu::util::pipeline_cache_key(&gpu.info)?))
}

/// Loads the pipelines of earlier runs into the device's pipeline cache. A file that is missing or damaged counts as empty.
pub fn load(gpu: &mut Gpu) {
    let Some(path) = path(gpu) else { return };
    let data = cache::read(&path, LARGEST).and_then(|file| verified(&file).map(<[u8]>::to_vec));
    let descriptor = wgpu::PipelineCacheDescriptor { label: Some("pipelines"), data: data.as_deref(), fallback: true };
    // SAFETY: the data came from `get_data` for an adapter with the same key, and its digest shows that it is intact. wgpu and the
    // driver check the driver's version.
    gpu.pipeline_cache = Some(unsafe { gpu.device.create_pipeline_cache(&descriptor) });
}

/// Saves the device's pipelines. A directory that cannot be written is no error, because the next run can compile them again.
pub fn save(gpu: &Gpu) {
    let (Some(path), Some(cache)) = (path(gpu), &gpu.pipeline_cache) else { return };
    let Some(data) = cache.get_data() else { return };
    let file = [sha256(&data).as_bytes(), &data].concat();
    if cache::read(&path, LARGEST).is_some_and(|before| before == file) {
        return;
    }
    if let Some(directory) = path.parent() {
        let _ = disk::make_directory(directory).and_then(|()| disk::write_shared(&path, &file));
    }
}

/// Returns the driver's data in a file, or None if the file is damaged.
fn verified(file: &[u8]) -> Option<&[u8]> {
    let (digest, data) = file.split_at_checked(DIGEST)?;
    (sha256(data).as_bytes() == digest).then_some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_files_reach_the_driver() {
        let file = [sha256(b"pipelines").as_bytes(), b"pipelines"].concat();
        assert_eq!(verified(&file), Some(&b"pipelines"[..]));
        for end in 0..file.len() {
            assert_eq!(verified(&file[..end]), None, "cut at {end}");
        }
        for place in 0..file.len() {
            let mut damaged = file.clone();
            damaged[place] ^= 1;
            assert_eq!(verified(&damaged), None, "a bit at {place}");
        }
    }
}
