//! The two clocks of this machine, and the identifier of its boot.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::host::Moment;

/// The clock since boot.
///
/// `CLOCK_BOOTTIME` of Linux includes suspend. POSIX has no such clock, so other systems use
/// `CLOCK_MONOTONIC`, which includes suspend on macOS (FreeBSD review D39270).
#[cfg(any(target_os = "linux", target_os = "android"))]
const SINCE_BOOT: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SINCE_BOOT: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

/// Returns the present on both clocks.
#[allow(clippy::disallowed_methods, reason = "the only place that reads the wall clock")]
pub fn now() -> Moment {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let boot = rustix::time::clock_gettime(SINCE_BOOT);
    Moment {
        unix_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
        boot_ms: boot.tv_sec.saturating_mul(1000).saturating_add(boot.tv_nsec / 1_000_000),
    }
}

/// Returns the identifier of the running kernel (proc(5), `random/boot_id`).
///
/// Returns `None` on a system without that file.
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim_end().to_owned())
}
