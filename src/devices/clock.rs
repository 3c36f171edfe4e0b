//! The clock that devices are given.

use crate::gpu::wait::Clock;
use std::sync::LazyLock;
use std::time::Instant;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, get_current_pid};

/// The machine's.
pub const CLOCK: Clock = Clock { now, busy };

fn now() -> f64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed().as_secs_f64()
}

/// Where the system does not say, the process seems to be busy all the time.
fn busy() -> f64 {
    let used = || {
        let pid = get_current_pid().ok()?;
        let mut system = System::new().ok()?;
        let only_time = ProcessRefreshKind::nothing().with_cpu().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, only_time);
        Some(system.process(pid)?.accumulated_cpu_time() as f64 / 1e3)
    };
    used().unwrap_or_else(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_counts_what_the_process_computes_and_not_its_waits() {
        let (began, busy_before) = (Instant::now(), busy());
        while began.elapsed().as_secs_f64() < 0.3 {
            std::hint::black_box(busy_before);
        }
        let computed = busy() - busy_before;
        assert!(computed > 0.1, "{computed} s");
        assert!(now() >= 0.0);
    }
}
