//! How fast the time stamp counter runs that a guest under TCG reads: it is the host's own.
//!
//! Left to itself the guest's kernel calibrates it at boot against emulated timers, and on a busy
//! host gets it wrong by anything from some per cent to several times (both were seen). Its clocks
//! then run at that speed in every clone of the snapshot.

#[cfg(target_arch = "x86_64")]
use std::time::Duration;

/// Frequency of the host's time stamp counter in kHz; `None` on another architecture.
#[cfg(target_arch = "x86_64")]
pub(super) async fn khz() -> Option<u32> {
    /// An error of the two readings of a microsecond is one of 20 in a million.
    const WINDOW: Duration = Duration::from_millis(50);
    let (counter, nanos) = reading();
    tokio::time::sleep(WINDOW).await;
    let (later_counter, later_nanos) = reading();
    frequency_khz(later_counter.wrapping_sub(counter), later_nanos.saturating_sub(nanos))
}

/// Other architectures tell their guests.
#[cfg(not(target_arch = "x86_64"))]
#[expect(clippy::unused_async, reason = "the other one waits")]
pub(super) async fn khz() -> Option<u32> {
    None
}

/// Both clocks at one moment: the pair of several between whose two looks at the
/// counter the least passed.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn reading() -> (u64, u64) {
    let attempt = || {
        // SAFETY: every x86-64 CPU has this instruction, and Linux lets programs use it.
        let before = unsafe { std::arch::x86_64::_rdtsc() };
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicRaw);
        // SAFETY: as above.
        let after = unsafe { std::arch::x86_64::_rdtsc() };
        let nanos = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
        (after.wrapping_sub(before), before.wrapping_add(after.wrapping_sub(before) / 2), nanos)
    };
    let (_, counter, nanos) = (0..10).map(|_| attempt()).min().unwrap_or_default();
    (counter, nanos)
}

#[cfg(target_arch = "x86_64")]
fn frequency_khz(ticks: u64, nanos: u64) -> Option<u32> {
    let khz = (u128::from(ticks) * 1_000_000).checked_div(nanos.into())?;
    u32::try_from(khz).ok().filter(|khz| *khz > 0)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn a_frequency_is_ticks_per_time() {
        assert_eq!(frequency_khz(130_000_000, 50_000_000), Some(2_600_000));
        assert_eq!(frequency_khz(0, 50_000_000), None);
        assert_eq!(frequency_khz(1, 0), None);
    }

    #[tokio::test]
    async fn two_measurements_agree() {
        let (one, other) = (khz().await.unwrap(), khz().await.unwrap());
        assert!(one.abs_diff(other) < one / 1000, "{one} and {other} kHz");
    }
}
