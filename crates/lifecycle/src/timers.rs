//! When something is due. Wall-clock moments come from the record, idle time from the traffic counter.

use std::time::Duration;

use hearth_api::{MicrovmState, Timestamp};
use hearth_store::MicrovmRecord;
use tokio::time::Instant;

use crate::machine::{Event, IdleAction};
use crate::published::RunningMicrovm;

/// The next timer of a microVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    /// When.
    pub(crate) at: Instant,
    /// What it means then.
    pub(crate) event: Event,
}

/// The earliest timer of `record`, given the wall clock `now` and the running guest, if any.
pub(crate) fn next(record: &MicrovmRecord, running: Option<&RunningMicrovm>, now: Timestamp) -> Option<Due> {
    let in_seconds = |from: Timestamp, seconds: u32| {
        let due_millis = from.as_millis() + i64::from(seconds) * 1000;
        Instant::now() + Duration::from_millis((due_millis - now.as_millis()).max(0) as u64)
    };
    let settings = &record.settings;
    let end = Due {
        at: in_seconds(record.started_at, settings.maximum_duration_in_seconds),
        event: Event::MaximumDuration,
    };
    let policy = match (settings.idle_policy, record.state) {
        (Some(policy), MicrovmState::Running) => running.map(|running| Due {
            at: running.last_traffic() + Duration::from_secs(policy.max_idle_duration_seconds.into()),
            event: Event::Idle(if policy.suspended_duration_seconds == 0 {
                IdleAction::Terminate
            } else {
                IdleAction::Suspend
            }),
        }),
        (Some(policy), MicrovmState::Suspended) => record.suspended_at.map(|since| Due {
            at: in_seconds(since, policy.suspended_duration_seconds),
            event: Event::SuspendedTooLong,
        }),
        _ => None,
    };
    match (record.state, policy) {
        (MicrovmState::Terminating | MicrovmState::Terminated, _) => None,
        (_, Some(policy)) if policy.at < end.at => Some(policy),
        _ => Some(end),
    }
}
