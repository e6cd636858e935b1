//! The state machine of a microVM: pure, synchronous, without clock or I/O. Its diagram and its
//! table are in `docs/lifecycle.md`, written by a test from this code.
//!
//! One step at a time. What is asked for during a step is remembered in `next` and begun when the
//! step ends; only a termination cuts the step short, and is shown as TERMINATING at once. Phases
//! of hooks are passed only when the image has the hook enabled.

use hearth_api::MicrovmState;
pub use hearth_records::Phase;
use hearth_records::Reason;

mod vocabulary;

pub use vocabulary::{Decision, DenyReason, EnabledHooks, Event, Failure, IdleAction, Step};

/// What follows when the current step ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    Nothing,
    Resume,
    Suspend,
    Terminate(Reason),
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    phase: Phase,
    next: Next,
    hooks: EnabledHooks,
    /// The service suspends everything and ends: nothing is resumed any more.
    stopping: bool,
}

impl Machine {
    /// A microVM that has just been recorded: its first step is [`Step::Launch`].
    pub fn launching() -> Self {
        Self::found(Phase::Launching)
    }

    /// The same with these hooks; without, none is called.
    #[must_use]
    pub fn with_hooks(self, hooks: EnabledHooks) -> Self {
        Self { hooks, ..self }
    }

    /// A microVM that was found suspended when the service started.
    pub fn suspended() -> Self {
        Self::found(Phase::Suspended)
    }

    /// A microVM that was found in this phase when the service started; the step of a phase that
    /// has one is to be begun.
    pub fn found(phase: Phase) -> Self {
        Self { phase, next: Next::Nothing, hooks: EnabledHooks::default(), stopping: false }
    }

    /// Current phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What GetMicrovm shows.
    pub fn public_state(&self) -> MicrovmState {
        match (self.phase, &self.next) {
            (Phase::Terminated, _) => MicrovmState::Terminated,
            (_, Next::Terminate(_)) => MicrovmState::Terminating,
            (phase, _) => phase.public_state(),
        }
    }

    /// Why it will end when the step under way is over, if it will.
    pub fn ends_for(&self) -> Option<&Reason> {
        match &self.next {
            Next::Terminate(reason) => Some(reason),
            _ => None,
        }
    }

    /// Takes an event.
    pub fn on(&mut self, event: Event) -> Decision {
        match event {
            Event::Suspend => self.on_suspend(),
            Event::Resume | Event::Traffic => self.on_resume(),
            Event::Terminate => self.terminate(&Reason::Success),
            Event::Idle(IdleAction::Suspend) if self.phase == Phase::Running => self.begin_suspend(),
            Event::Idle(IdleAction::Terminate) if self.phase == Phase::Running => {
                self.terminate(&Reason::LifetimeOver)
            }
            Event::SuspendedTooLong if self.phase == Phase::Suspended => {
                self.terminate(&Reason::LifetimeOver)
            }
            Event::Idle(_) | Event::SuspendedTooLong | Event::Leave | Event::Disowned => Decision::Ignore,
            Event::MaximumDuration => self.terminate(&Reason::LifetimeOver),
            Event::StepDone => self.on_step_done(),
            Event::StepFailed(failure) => self.on_step_failed(failure),
            Event::VmmExited(how) => self.on_exit(Reason::VmmEnded { how }),
            Event::ContainerExited(code) => self.on_exit(Reason::AppEnded { code }),
            Event::Unsuspended => self.on_exit(Reason::StoppedUnsuspended),
            Event::Shutdown => self.on_shutdown(),
        }
    }

    /// Whether it has ended, or will when the step under way is over.
    pub fn is_ending(&self) -> bool {
        matches!(self.public_state(), MicrovmState::Terminating | MicrovmState::Terminated)
    }

    fn on_suspend(&mut self) -> Decision {
        if self.is_ending() {
            return Decision::Deny(DenyReason::Terminated);
        }
        match self.phase {
            Phase::Running => self.begin_suspend(),
            // The last request wins: a resume that was waiting for the suspend's end is taken back.
            Phase::SuspendHook | Phase::Suspending => {
                self.next = Next::Nothing;
                Decision::Ignore
            }
            Phase::Launching | Phase::RunHook | Phase::Resuming | Phase::ResumeHook => {
                Decision::Deny(DenyReason::Busy(self.public_state()))
            }
            Phase::Suspended | Phase::TerminateHook | Phase::Terminating | Phase::Terminated => {
                Decision::Ignore
            }
        }
    }

    fn on_resume(&mut self) -> Decision {
        if self.is_ending() {
            return Decision::Deny(DenyReason::Terminated);
        }
        match self.phase {
            // It would run when the service has gone, or not be suspended when it goes.
            _ if self.stopping => Decision::Deny(DenyReason::Busy(self.public_state())),
            Phase::Suspended => self.begin(Phase::Resuming, Step::Resume),
            Phase::SuspendHook | Phase::Suspending => {
                self.next = Next::Resume;
                Decision::Ignore
            }
            _ => Decision::Ignore,
        }
    }

    fn terminate(&mut self, reason: &Reason) -> Decision {
        match self.phase {
            _ if self.is_ending() => Decision::Ignore,
            Phase::Running if self.hooks.terminate => {
                self.next = Next::Terminate(reason.clone());
                self.begin(Phase::TerminateHook, Step::TerminateHook(reason.clone()))
            }
            phase if phase.is_step() => {
                self.next = Next::Terminate(reason.clone());
                Decision::CutShort
            }
            _ => self.release(reason.clone()),
        }
    }

    fn begin(&mut self, phase: Phase, step: Step) -> Decision {
        self.phase = phase;
        Decision::Begin(step)
    }

    fn begin_suspend(&mut self) -> Decision {
        if self.hooks.suspend {
            self.begin(Phase::SuspendHook, Step::SuspendHook)
        } else {
            self.begin(Phase::Suspending, Step::Suspend)
        }
    }

    fn release(&mut self, reason: Reason) -> Decision {
        self.begin(Phase::Terminating, Step::Terminate(reason))
    }

    fn on_step_done(&mut self) -> Decision {
        let ends = matches!(self.next, Next::Terminate(_));
        self.phase = match self.phase {
            Phase::Launching if self.hooks.run && !ends => return self.begin(Phase::RunHook, Step::RunHook),
            Phase::Resuming if self.hooks.resume && !ends => {
                return self.begin(Phase::ResumeHook, Step::ResumeHook);
            }
            Phase::SuspendHook if !ends => return self.begin(Phase::Suspending, Step::Suspend),
            Phase::Suspending => Phase::Suspended,
            Phase::Terminating => Phase::Terminated,
            phase if phase.is_step() => Phase::Running,
            _ => return Decision::Ignore,
        };
        self.begin_next()
    }

    fn on_step_failed(&mut self, failure: Failure) -> Decision {
        match (self.phase, failure) {
            (Phase::Suspending, Failure::Undone(_)) => {
                if self.next == Next::Resume {
                    self.next = Next::Nothing;
                }
                // The app was told that it would be suspended; now it must hear that it goes on.
                if self.hooks.suspend && self.hooks.resume && self.next == Next::Nothing {
                    return self.begin(Phase::ResumeHook, Step::ResumeHook);
                }
                self.phase = Phase::Running;
                self.begin_next()
            }
            (Phase::Resuming, Failure::Undone(_)) => {
                self.phase = Phase::Suspended;
                self.begin_next()
            }
            // What could not be told or released is in the log; the record must
            // still come to its end.
            (Phase::TerminateHook | Phase::Terminating, _) => self.on_step_done(),
            (_, Failure::Undone(reason) | Failure::Fatal(reason)) => self.on_exit(reason),
        }
    }

    /// The VM or its app is gone, or a hook has failed, whatever was being done with it.
    fn on_exit(&mut self, reason: Reason) -> Decision {
        match self.phase {
            // The step under way ends by itself, and there is nothing to add to its reason.
            Phase::TerminateHook | Phase::Terminating | Phase::Terminated | Phase::Suspended => {
                Decision::Ignore
            }
            _ => match std::mem::replace(&mut self.next, Next::Nothing) {
                Next::Terminate(earlier) => self.release(earlier),
                Next::Nothing | Next::Resume | Next::Suspend => self.release(reason),
            },
        }
    }

    fn on_shutdown(&mut self) -> Decision {
        self.stopping = true;
        match self.phase {
            Phase::Running => self.begin_suspend(),
            Phase::Launching | Phase::RunHook => self.terminate(&Reason::StoppedInLaunch),
            Phase::Resuming | Phase::ResumeHook if self.next == Next::Nothing => {
                self.next = Next::Suspend;
                Decision::Ignore
            }
            Phase::SuspendHook | Phase::Suspending if self.next == Next::Resume => {
                self.next = Next::Nothing;
                Decision::Ignore
            }
            _ => Decision::Ignore,
        }
    }

    fn begin_next(&mut self) -> Decision {
        match (std::mem::replace(&mut self.next, Next::Nothing), self.phase) {
            // Whoever cut a step short waits for no hook.
            (Next::Terminate(reason), phase) if phase != Phase::Terminated => self.release(reason),
            (Next::Resume, Phase::Suspended) => self.begin(Phase::Resuming, Step::Resume),
            (Next::Suspend, Phase::Running) => self.begin_suspend(),
            _ => Decision::Changed,
        }
    }
}

#[cfg(test)]
mod tests;
