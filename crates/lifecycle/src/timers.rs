//! When something is due. Wall-clock moments come from the record, idle time from
//! the traffic counter.
//!
//! A moment of the record is translated to the steady clock once, when the supervisor first sees
//! it. From then on a step of the wall clock neither fires a timer early nor puts it off. After a
//! restart the wall clock of then counts.

use std::sync::Arc;
use std::time::Duration;

use hearth_api::{MicrovmState, Timestamp};
use hearth_records::MicrovmRecord;

use crate::clock::Clock;
use crate::machine::{Event, IdleAction};
use crate::published::RunningMicrovm;

/// The timers of one microVM.
#[derive(Debug)]
pub(crate) struct Timers {
    clock: Arc<dyn Clock>,
    /// `startedAt` on the steady clock, in milliseconds.
    started: i64,
    /// The last `suspendedAt`, and the same on the steady clock.
    suspended: Option<(Timestamp, i64)>,
}

/// The next timer of a microVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    /// How long from now; zero when it is over.
    remaining: Duration,
    /// What it means then.
    pub(crate) event: Event,
}

impl Timers {
    pub(crate) fn new(clock: Arc<dyn Clock>, record: &MicrovmRecord) -> Self {
        let started = steady(&*clock, record.started_at);
        Self { clock, started, suspended: None }
    }

    /// The earliest timer of `record`, given the running guest, if any.
    pub(crate) fn next(&mut self, record: &MicrovmRecord, running: Option<&RunningMicrovm>) -> Option<Due> {
        let end = self.end(record)?;
        match self.of_policy(record, running) {
            Some(policy) if policy.remaining < end.remaining => Some(policy),
            _ => Some(end),
        }
    }

    /// The end of the maximum duration; `None` when it ends anyway.
    pub(crate) fn end(&self, record: &MicrovmRecord) -> Option<Due> {
        if matches!(record.state, MicrovmState::Terminating | MicrovmState::Terminated) {
            return None;
        }
        let remaining = self.remaining(self.started, record.settings.maximum_duration_in_seconds);
        Some(Due { remaining, event: Event::MaximumDuration })
    }

    /// Sleeps until `due`, or for as long as the steady clock may be left alone; the caller asks
    /// again afterwards. Without a timer, for ever.
    pub(crate) async fn sleep(longest: Duration, due: Option<&Due>) {
        match due {
            Some(due) => tokio::time::sleep(due.remaining.min(longest)).await,
            None => std::future::pending().await,
        }
    }

    pub(crate) fn longest_sleep(&self) -> Duration {
        self.clock.longest_sleep()
    }

    fn of_policy(&mut self, record: &MicrovmRecord, running: Option<&RunningMicrovm>) -> Option<Due> {
        let policy = record.settings.idle_policy?;
        match record.state {
            MicrovmState::Running => {
                let idle = Duration::from_secs(policy.max_idle_duration_seconds.into());
                let remaining = idle.saturating_sub(running?.last_traffic().elapsed());
                let action = match policy.suspended_duration_seconds {
                    0 => IdleAction::Terminate,
                    _ => IdleAction::Suspend,
                };
                Some(Due { remaining, event: Event::Idle(action) })
            }
            MicrovmState::Suspended => {
                let since = self.suspended_since(record.suspended_at?);
                let remaining = self.remaining(since, policy.suspended_duration_seconds);
                Some(Due { remaining, event: Event::SuspendedTooLong })
            }
            _ => None,
        }
    }

    fn suspended_since(&mut self, moment: Timestamp) -> i64 {
        match self.suspended {
            Some((known, since)) if known == moment => since,
            _ => {
                let since = steady(&*self.clock, moment);
                self.suspended = Some((moment, since));
                since
            }
        }
    }

    fn remaining(&self, since: i64, seconds: u32) -> Duration {
        let due = since.saturating_add(i64::from(seconds) * 1000);
        Duration::from_millis(due.saturating_sub(self.clock.steady_millis()).max(0) as u64)
    }
}

impl Due {
    /// Whether its time has come.
    pub(crate) fn is_over(&self) -> bool {
        self.remaining.is_zero()
    }
}

/// A moment of the wall clock on the steady clock, as both stand now. A moment that has not come
/// yet, by a wall clock that was set back, counts as now.
fn steady(clock: &dyn Clock, moment: Timestamp) -> i64 {
    let ago = clock.wall().as_millis().saturating_sub(moment.as_millis()).max(0);
    clock.steady_millis().saturating_sub(ago)
}
