//! Utilisation of the machine's processors, memory and GPUs, or of the container's share of them.

mod gpu;

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use sysinfo::System;

pub use gpu::gpus;

/// The figures of a container's processes, where the system keeps them.
const CGROUP: &str = "/sys/fs/cgroup";
/// The interval over which processor use is measured.
const WATCHED: Duration = Duration::from_millis(200);
const GIB: f64 = (1024 * 1024 * 1024) as f64;

/// Processors and memory.
#[derive(Debug, Serialize)]
pub struct Cpu {
    /// Share of the processors that was busy, in percent of all that may be used.
    pub utilization_percent: f64,
    pub ram_gb: Ram,
}

/// Memory in GiB.
#[derive(Debug, Serialize)]
pub struct Ram {
    pub total: f64,
    pub used: f64,
    /// What programs can still have, caches that would make room included.
    pub free: f64,
    pub percent_used: f64,
}

/// Watches the processors for a fifth of a second. Blocks.
pub fn cpu() -> Cpu {
    let mut system = System::new();
    system.refresh_cpu_usage();
    let before = Share::read(Path::new(CGROUP));
    std::thread::sleep(WATCHED.max(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL));
    let share = before.and_then(|before| before.busy_until(&Share::read(Path::new(CGROUP))?));
    system.refresh_cpu_usage();
    let busy = share.unwrap_or_else(|| f64::from(system.global_cpu_usage()));
    Cpu {
        utilization_percent: round(busy.clamp(0.0, 100.0), 1),
        ram_gb: ram(&mut system),
    }
}

fn ram(system: &mut System) -> Ram {
    system.refresh_memory();
    let host = system.total_memory();
    let limits = system.cgroup_limits();
    match limits.filter(|limits| limits.total_memory < host) {
        Some(limits) => Ram::new(limits.total_memory, limits.rss),
        None => Ram::new(host, host.saturating_sub(system.available_memory())),
    }
}

impl Ram {
    /// In bytes.
    fn new(total: u64, used: u64) -> Self {
        let used = used.min(total);
        Self {
            total: gib(total),
            used: gib(used),
            free: gib(total - used),
            percent_used: round(100.0 * used as f64 / total.max(1) as f64, 1),
        }
    }
}

/// Processor time that a container has used, where it has a limit.
struct Share {
    /// Microseconds of computing.
    used: u64,
    /// Processors that it may keep busy.
    processors: f64,
    at: Instant,
}

impl Share {
    fn read(folder: &Path) -> Option<Self> {
        let text = |name| std::fs::read_to_string(folder.join(name)).ok();
        let (limit, used) = (text("cpu.max")?, text("cpu.stat")?);
        Some(Self {
            processors: limit_of(&limit)?,
            used: usage_of(&used)?,
            at: Instant::now(),
        })
    }

    /// The share that was busy meanwhile, in percent.
    fn busy_until(&self, later: &Self) -> Option<f64> {
        let micros = (later.at - self.at).as_micros() as f64;
        let used = later.used.checked_sub(self.used)? as f64;
        Some(100.0 * used / (micros * later.processors))
    }
}

/// Reads `cpu.max`: `200000 100000` is two processors, `max 100000` is no limit.
fn limit_of(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

/// Reads the microseconds out of `cpu.stat`.
fn usage_of(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "))?;
    line.trim().parse().ok()
}

fn gib(bytes: u64) -> f64 {
    round(bytes as f64 / GIB, 2)
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_cgroup_limit_is_read() {
        assert_eq!(limit_of("150000 100000\n"), Some(1.5));
        for text in ["max 100000\n", "", "x y", "0 100000", "100000 0"] {
            assert_eq!(limit_of(text), None, "{text}");
        }
        assert_eq!(usage_of("usage_usec 12\nuser_usec 7\n"), Some(12));
        assert_eq!(usage_of("user_usec 7\n"), None);
        let now = Instant::now();
        let share = |used, ms| Share {
            used,
            processors: 2.0,
            at: now + Duration::from_millis(ms),
        };
        let busy = share(1000, 0).busy_until(&share(101_000, 100));
        assert!((busy.unwrap() - 50.0).abs() < 1e-9);
        assert!(share(5, 0).busy_until(&share(4, 100)).is_none());
    }

    #[test]
    fn test_memory_budgets_add_up() {
        let ram = Ram::new(32 << 30, 8 << 30);
        assert_eq!((ram.total, ram.used, ram.free), (32.0, 8.0, 24.0));
        assert!((ram.percent_used - 25.0).abs() < 1e-9);
        let cpu = cpu();
        assert!((0.0..=100.0).contains(&cpu.utilization_percent));
        let ram = cpu.ram_gb;
        assert!(ram.total > 0.0 && (ram.total - ram.used - ram.free).abs() < 0.02);
    }
}
