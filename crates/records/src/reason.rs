//! Why a microVM or a build is in its state. What it says in English is made only where it is
//! shown.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a microVM or a build is in its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Reason {
    /// It was asked for.
    Success,
    /// Its time was over, or that in SUSPENDED was.
    LifetimeOver,
    /// Its app has ended.
    AppEnded {
        /// The exit code; 128 and the number of the signal that ended it.
        code: i32,
    },
    /// Its VMM has ended by itself.
    VmmEnded {
        /// How, as the driver says it.
        how: String,
    },
    /// Its VMM was gone when the service started again: killed, or the host was restarted.
    VmmLost,
    /// A hook has not answered with success.
    HookFailed {
        /// Which one.
        hook: Hook,
        /// What it did instead.
        outcome: HookOutcome,
    },
    /// A hook was no longer waited for.
    HookCutShort,
    /// What its run hook was to be told is lost.
    PayloadLost,
    /// It could not be launched.
    NotLaunched {
        /// Errors and their causes.
        why: String,
    },
    /// It could not be resumed.
    NotResumed {
        /// Errors and their causes.
        why: String,
    },
    /// It could not be suspended, and runs on.
    RunsOn {
        /// Errors and their causes.
        why: String,
    },
    /// It was lost while it was being suspended.
    LostInSuspend {
        /// Errors and their causes.
        why: String,
    },
    /// A service that started could not take it over.
    NotTakenOver {
        /// Errors and their causes.
        why: String,
    },
    /// It had no guest for what was to be done with it.
    NoGuest,
    /// Its image version is gone.
    NoImageVersion,
    /// The service was stopped while it was being launched.
    StoppedInLaunch,
    /// The service was stopped, and it could not be suspended.
    StoppedUnsuspended,
    /// What drove it has failed.
    SupervisorLost,
    /// Its build has failed.
    BuildFailed {
        /// Code and sentence, as the build's record has them.
        why: String,
    },
    /// What an earlier version of the service has recorded.
    Said {
        /// The sentence.
        text: String,
    },
}

/// A hook of a microVM's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Hook {
    /// After a launch.
    Run,
    /// After a resume.
    Resume,
    /// Before a suspend.
    Suspend,
    /// Before the end.
    Terminate,
}

/// What a hook did instead of answering with success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HookOutcome {
    /// It answered with another HTTP status than 200.
    Status(u16),
    /// Nobody listened at its port.
    Refused,
    /// It did not answer in time.
    TimedOut,
    /// The connection broke.
    Broken,
}

impl Hook {
    /// As the service writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "Run",
            Self::Resume => "Resume",
            Self::Suspend => "Suspend",
            Self::Terminate => "Terminate",
        }
    }
}

/// `stateReason`. The sentences on success, lifetime, exit codes and hooks were recorded from the
/// service.
impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = match self {
            Self::Success => "Success.",
            Self::LifetimeOver => "MicroVM exceeded maximum lifetime.",
            Self::AppEnded { code } => return write!(formatter, "Container Stopped with Exit Code: {code}"),
            Self::VmmEnded { how } => return write!(formatter, "The {how}."),
            Self::VmmLost => "The virtual machine monitor ended while the service was not running.",
            Self::HookFailed { hook, outcome } => {
                let advice = "Please check your hook endpoint and application logs for more details.";
                return write!(formatter, "{} lifecycle hook {outcome}. {advice}", hook.name());
            }
            Self::HookCutShort => "The hook was cut short.",
            Self::PayloadLost => "The MicroVM could not be launched: the payload of its run hook is lost.",
            Self::NotLaunched { why } => {
                return write!(formatter, "The MicroVM could not be launched: {why}.");
            }
            Self::NotResumed { why } => {
                return write!(formatter, "The MicroVM could not be resumed: {why}.");
            }
            Self::RunsOn { why } => {
                return write!(formatter, "The MicroVM could not be suspended and keeps running: {why}.");
            }
            Self::LostInSuspend { why } => {
                return write!(formatter, "The MicroVM was lost while it was being suspended: {why}.");
            }
            Self::NotTakenOver { why } => {
                return write!(formatter, "The MicroVM could not be taken over by the service: {why}.");
            }
            Self::NoGuest => "The MicroVM had no guest.",
            Self::NoImageVersion => "The image version of the MicroVM no longer exists.",
            Self::StoppedInLaunch => "The service was stopped while the MicroVM was being launched.",
            Self::StoppedUnsuspended => "The service was stopped and the MicroVM could not be suspended.",
            Self::SupervisorLost => "The service has failed while it was driving the MicroVM.",
            Self::BuildFailed { why } => why,
            Self::Said { text } => text,
        };
        formatter.write_str(sentence)
    }
}

impl fmt::Display for HookOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(formatter, "returned HTTP status {code}"),
            Self::Refused => formatter.write_str("connection was refused"),
            Self::TimedOut => formatter.write_str("timed out"),
            Self::Broken => formatter.write_str("failed"),
        }
    }
}
