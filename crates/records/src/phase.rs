//! Where a microVM is in its life.

use hearth_api::MicrovmState;

/// Where a microVM is in its life: finer than what the API shows, and what a service that starts
/// goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Being restored from the image's snapshot.
    Launching,
    /// The guest runs; its app is being told so by the run hook.
    RunHook,
    /// Answers at its endpoint.
    Running,
    /// The app is being told that it will be suspended.
    SuspendHook,
    /// Being written to disk.
    Suspending,
    /// On disk only.
    Suspended,
    /// Being restored from its own snapshot.
    Resuming,
    /// The guest runs again; its app is being told so by the resume hook.
    ResumeHook,
    /// The app is being told that it will be ended.
    TerminateHook,
    /// Being released.
    Terminating,
    /// Gone.
    Terminated,
}

impl Phase {
    /// Every phase, in the order of a life.
    pub const ALL: [Self; 11] = [
        Self::Launching,
        Self::RunHook,
        Self::Running,
        Self::SuspendHook,
        Self::Suspending,
        Self::Suspended,
        Self::Resuming,
        Self::ResumeHook,
        Self::TerminateHook,
        Self::Terminating,
        Self::Terminated,
    ];

    /// Spelling in records and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Launching => "LAUNCHING",
            Self::RunHook => "RUN_HOOK",
            Self::Running => "RUNNING",
            Self::SuspendHook => "SUSPEND_HOOK",
            Self::Suspending => "SUSPENDING",
            Self::Suspended => "SUSPENDED",
            Self::Resuming => "RESUMING",
            Self::ResumeHook => "RESUME_HOOK",
            Self::TerminateHook => "TERMINATE_HOOK",
            Self::Terminating => "TERMINATING",
            Self::Terminated => "TERMINATED",
        }
    }

    /// Reads the spelling of [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text)
    }

    /// Whether a step is under way in it.
    pub fn is_step(self) -> bool {
        !matches!(self, Self::Running | Self::Suspended | Self::Terminated)
    }

    /// Whether the app has not yet been told that it runs: the payload of the run hook is needed.
    pub fn is_first_start(self) -> bool {
        matches!(self, Self::Launching | Self::RunHook)
    }

    /// What GetMicrovm shows in it. The enum of the API has no RESUMING: the service shows PENDING
    /// then.
    pub fn public_state(self) -> MicrovmState {
        match self {
            Self::Launching | Self::RunHook | Self::Resuming | Self::ResumeHook => MicrovmState::Pending,
            Self::Running => MicrovmState::Running,
            Self::SuspendHook | Self::Suspending => MicrovmState::Suspending,
            Self::Suspended => MicrovmState::Suspended,
            Self::TerminateHook | Self::Terminating => MicrovmState::Terminating,
            Self::Terminated => MicrovmState::Terminated,
        }
    }
}
