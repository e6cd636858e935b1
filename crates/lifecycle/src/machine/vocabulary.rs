//! What goes into the machine and what comes out.

use hearth_api::MicrovmState;
use hearth_records::{Cause, Reason};

/// Which hooks the image wants called during a life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four hooks, each is called or not")]
pub struct EnabledHooks {
    /// After a launch.
    pub run: bool,
    /// After a resume.
    pub resume: bool,
    /// Before a suspend.
    pub suspend: bool,
    /// Before the end of a running microVM.
    pub terminate: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// SuspendMicrovm.
    Suspend,
    /// ResumeMicrovm.
    Resume,
    /// TerminateMicrovm.
    Terminate,
    /// An authorised request arrived at the endpoint of a microVM that may be woken by traffic.
    Traffic,
    /// No byte went through the endpoint for the idle time; what the idle policy wants then.
    Idle(IdleAction),
    /// The idle policy's time in SUSPENDED is over.
    SuspendedTooLong,
    /// `maximumDurationInSeconds` is over.
    MaximumDuration,
    /// The step that was begun has succeeded.
    StepDone,
    /// The step that was begun has failed.
    StepFailed(Failure),
    /// The VMM process ended by itself, like this.
    VmmExited(String),
    /// The app's first process ended with this code.
    ContainerExited(i32),
    /// The service is being stopped, and nothing shall go on running.
    Shutdown,
    /// The service is being stopped, and the suspend has failed.
    Unsuspended,
    /// The service is being stopped; what runs goes on and waits for its successor.
    Leave,
    /// Somebody else is the owner of the microVM; nothing is written any more.
    Disowned,
}

impl Event {
    /// Whether it tells of something that cannot be refused any more, unlike a request or a timer.
    pub(crate) fn has_happened(&self) -> bool {
        matches!(
            self,
            Self::StepDone
                | Self::StepFailed(_)
                | Self::VmmExited(_)
                | Self::ContainerExited(_)
                | Self::Shutdown
                | Self::Unsuspended
        )
    }

    /// What has set going what it sets going; nothing where that is what began the step.
    pub(crate) fn cause(&self) -> Option<Cause> {
        Some(match self {
            Self::Suspend | Self::Resume | Self::Terminate => Cause::Api,
            Self::Traffic => Cause::Traffic,
            Self::Idle(_) => Cause::Idle,
            Self::SuspendedTooLong => Cause::SuspendedTooLong,
            Self::MaximumDuration => Cause::Lifetime,
            Self::StepDone | Self::Disowned => return None,
            Self::StepFailed(Failure::Undone(reason) | Failure::Fatal(reason)) => match reason {
                Reason::HookFailed { .. } => Cause::Hook,
                Reason::AppEnded { .. } => Cause::AppExit,
                Reason::VmmEnded { .. } => Cause::VmmExit,
                // It was cut short by what has its own cause.
                Reason::HookCutShort => return None,
                _ => Cause::Host,
            },
            Self::VmmExited(_) => Cause::VmmExit,
            Self::ContainerExited(_) => Cause::AppExit,
            Self::Shutdown | Self::Unsuspended | Self::Leave => Cause::Operator,
        })
    }
}

/// What to do with an idle microVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleAction {
    /// Suspend it.
    Suspend,
    /// Terminate it (`suspendedDurationSeconds` is 0).
    Terminate,
}

/// How a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The microVM is as it was before the step: still running, or still safe on disk.
    Undone(Reason),
    /// The microVM cannot go on.
    Fatal(Reason),
}

/// A step that the supervisor performs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Restore from the image's snapshot.
    Launch,
    /// Call the run hook.
    RunHook,
    /// Call the suspend hook.
    SuspendHook,
    /// Write the snapshot, end the process.
    Suspend,
    /// Restore from the microVM's own snapshot.
    Resume,
    /// Call the resume hook.
    ResumeHook,
    /// Call the terminate hook; the reason goes into the record.
    TerminateHook(Reason),
    /// Release everything; the reason goes into the record.
    Terminate(Reason),
}

/// What the machine made of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Persist, publish, then perform this step and report [`Event::StepDone`] or
    /// [`Event::StepFailed`].
    Begin(Step),
    /// The phase changed and nothing is to be done but persist and publish.
    Changed,
    /// Persist, publish, and cut the step that is under way short; how it ends is
    /// reported as always.
    CutShort,
    /// Nothing changes; a request is answered with success.
    Ignore,
    /// The request is refused.
    Deny(DenyReason),
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenyReason {
    /// The microVM has ended or is ending.
    Terminated,
    /// The microVM is being launched or resumed.
    Busy(MicrovmState),
    /// It could not be written down, and so is not done.
    NotRecorded,
}
