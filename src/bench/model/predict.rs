//! The formula: counts and a device's constants in, microseconds out.

use super::Counts;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What the model knows of a GPU.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// A part of what its adapter is called.
    pub name: &'static str,
    /// SMs, compute units, cores.
    pub cores: f64,
    /// Warps that a core issues for in a clock.
    pub schedulers: f64,
    /// Lanes of a warp.
    pub lanes: u32,
    /// 1e9 clocks a second.
    pub ghz: f64,
    /// 1e12 floating point operations a second.
    pub tflop_s: f64,
    /// 1e9 bytes a second from memory.
    pub memory_gb_s: f64,
    /// 1e9 bytes a second from L2.
    pub l2_gb_s: f64,
    /// Nanoseconds of a load from L1.
    pub l1_ns: f64,
    /// Nanoseconds of a load from L2.
    pub l2_ns: f64,
    /// Microseconds from one dispatch to the next, which has to wait for it.
    pub launch_us: f64,
    /// Warps that a core holds.
    pub resident: f64,
}

/// Bytes that stay in the last cache.
const CACHE: f64 = 48e6;

/// Those that have constants. Sheets of their makers; latencies, and launches with barriers between them, are published
/// measurements.
pub const DEVICES: [Device; 5] = [
    Device {
        name: "H200",
        cores: 132.0,
        schedulers: 4.0,
        lanes: 32,
        ghz: 1.83,
        tflop_s: 62.0,
        memory_gb_s: 4800.0,
        l2_gb_s: 5500.0,
        l1_ns: 18.0,
        l2_ns: 145.0,
        launch_us: 1.5,
        resident: 48.0,
    },
    Device {
        name: "RTX 4090",
        cores: 128.0,
        schedulers: 4.0,
        lanes: 32,
        ghz: 2.5,
        tflop_s: 82.0,
        memory_gb_s: 1008.0,
        l2_gb_s: 4500.0,
        l1_ns: 13.0,
        l2_ns: 110.0,
        launch_us: 1.5,
        resident: 48.0,
    },
    Device {
        name: "RX 7900 XTX",
        cores: 96.0,
        schedulers: 2.0,
        lanes: 32,
        ghz: 2.4,
        tflop_s: 61.0,
        memory_gb_s: 960.0,
        l2_gb_s: 3500.0,
        l1_ns: 50.0,
        l2_ns: 120.0,
        launch_us: 0.9,
        resident: 32.0,
    },
    Device {
        name: "M2 Max",
        cores: 38.0,
        schedulers: 4.0,
        lanes: 32,
        ghz: 1.4,
        tflop_s: 13.6,
        memory_gb_s: 400.0,
        l2_gb_s: 1200.0,
        l1_ns: 70.0,
        l2_ns: 230.0,
        launch_us: 2.5,
        resident: 24.0,
    },
    Device {
        name: "Iris Xe",
        cores: 96.0,
        schedulers: 1.0,
        lanes: 8,
        ghz: 1.3,
        tflop_s: 2.0,
        memory_gb_s: 60.0,
        l2_gb_s: 250.0,
        l1_ns: 90.0,
        l2_ns: 200.0,
        launch_us: 4.0,
        resident: 7.0,
    },
];

/// The device of a name, or of a part of it, in small or capital letters.
///
/// # Errors
/// None or several of that name.
pub fn device(name: &str) -> Result<&'static Device> {
    let has = |whole: &str| whole.to_lowercase().contains(&name.to_lowercase());
    let mut found = DEVICES.iter().filter(|device| has(device.name));
    let names = DEVICES.map(|device| device.name).join(", ");
    let one = found.next().filter(|_| found.next().is_none());
    one.with_context(|| format!("--model={name}: expected one of {names}, or a part that only one of them has"))
}

/// The device that an adapter is.
pub fn of_adapter(name: &str) -> Option<&'static Device> {
    DEVICES.iter().find(|device| name.contains(device.name))
}

/// Microseconds of a dispatch without its launch, and what they are made of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Time {
    /// Its operations at the device's peak.
    pub arithmetic_us: f64,
    /// Its traffic through L2, or from memory.
    pub traffic_us: f64,
    /// Instructions of the longest invocation, a clock each.
    pub issue_us: f64,
    /// Waits of the longest invocation.
    pub waits_us: f64,
    /// What it takes.
    pub us: f64,
}

impl Device {
    /// The largest of: arithmetic at peak; traffic; the instructions of all warps of a scheduler; instructions and waits of one warp,
    /// as often as the device has to be filled.
    pub fn time(&self, counts: &Counts) -> Time {
        let warps = counts.groups() * f64::from(counts.workgroup.iter().product::<u32>().div_ceil(self.lanes));
        let arithmetic_us = counts.flops / self.tflop_s / 1e6;
        let through_l2 = counts.traffic / self.l2_gb_s / 1e3;
        let from_memory = if counts.bytes > CACHE { counts.bytes / self.memory_gb_s / 1e3 } else { 0.0 };
        let traffic_us = through_l2.max(from_memory);
        let issue_us = counts.instructions as f64 / self.ghz / 1e3;
        // What goes on meanwhile shortens a wait; it is part of the instructions.
        let waits = |times: u64, covered: u64, ns: f64| (times as f64 * ns - covered as f64 / self.ghz).max(0.0) / 1e3;
        let waits_us = waits(counts.waits_l2, counts.covered_l2, self.l2_ns)
            + waits(counts.waits_l1, counts.covered_l1, self.l1_ns);
        let of_a_scheduler = (warps / self.cores / self.schedulers).ceil().max(1.0);
        let fillings = (warps / self.cores / self.resident).ceil().max(1.0);
        let latency = fillings * (issue_us + waits_us);
        let mean_us = counts.mean_instructions.unwrap_or(counts.instructions as f64) / self.ghz / 1e3;
        let us = arithmetic_us.max(traffic_us).max(of_a_scheduler * mean_us).max(latency);
        Time { arithmetic_us, traffic_us, issue_us, waits_us, us }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H200: Device = DEVICES[0];

    fn counts(workgroups: u32) -> Counts {
        Counts {
            title: "k".into(),
            workgroups: [workgroups, 1, 1],
            workgroup: [32, 1, 1],
            flops: 0.0,
            bytes: 0.0,
            traffic: 0.0,
            waits_l2: 100,
            waits_l1: 10,
            covered_l2: 0,
            covered_l1: 0,
            multiply_adds: 0,
            instructions: 18_300,
            shared_bytes: 0,
            mean_instructions: None,
        }
    }

    #[test]
    fn a_dispatch_takes_what_takes_longest() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b, "{a}, expected {b}");
        // 10 us of instructions, 14.5 + 0.18 us of waits.
        close(H200.time(&counts(1)).us, 24.68);
        close(H200.time(&counts(528)).us, 24.68);
        // Three warps a scheduler: their instructions fill each other's waits.
        close(H200.time(&counts(3 * 528)).us, 30.0);
        // More warps than the device holds.
        close(H200.time(&Counts { instructions: 1, ..counts(2 * 48 * 132) }).us, 2.0 * (14.68 + 1.0 / 1830.0));
        // Instructions while loads are on their way shorten the wait for them, and no other.
        close(H200.time(&Counts { covered_l2: 1830, ..counts(1) }).us, 23.68);
        close(H200.time(&Counts { covered_l2: 1_000_000, ..counts(1) }).us, 10.18);
        close(H200.time(&Counts { flops: 6.2e9, ..counts(1) }).us, 100.0);
        close(H200.time(&Counts { traffic: 5.5e8, ..counts(1) }).us, 100.0);
        close(H200.time(&Counts { bytes: 4.8e8, ..counts(1) }).us, 100.0);
        close(H200.time(&Counts { bytes: 4.7e7, ..counts(1) }).us, 24.68);
    }

    #[test]
    fn devices_are_found_by_a_part_of_their_name() {
        assert_eq!(device("4090").unwrap().name, "RTX 4090");
        assert_eq!(device("h200").unwrap().name, "H200");
        assert!(device("00").is_err(), "two of them");
        assert!(device("H100").is_err());
        assert_eq!(of_adapter("NVIDIA GeForce RTX 4090").unwrap().name, "RTX 4090");
        assert!(of_adapter("llvmpipe (LLVM 15.0.6, 256 bits)").is_none());
    }
}
