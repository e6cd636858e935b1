//! The state machine of a microVM: pure, synchronous, without clock or I/O.
//!
//! ```text
//!            StepDone            Suspend, Idle             StepDone
//! Launching ─────────▶ Running ────────────────▶ Suspending ───────▶ Suspended ◀─┐
//!     │                 ▲  ▲ └──────────── StepFailed(keeps running) ─┘  │        │ StepFailed
//!     │                 │  └──────────────── StepDone ── Resuming ◀──────┘────────┘ (state kept)
//!     │                 │                                    Resume, Traffic
//!     └── StepFailed, Terminate, timers, VMM or container exit ──▶ Terminating ──StepDone──▶ Terminated
//! ```
//!
//! A step is never cut short: what is asked for meanwhile is remembered in `next` and begun when the step ends.
//! A remembered termination is shown as TERMINATING at once.

use hearth_api::MicrovmState;

/// Where a microVM is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Being restored from the image's snapshot.
    Launching,
    /// Answers at its endpoint.
    Running,
    /// Being written to disk.
    Suspending,
    /// On disk only.
    Suspended,
    /// Being restored from its own snapshot.
    Resuming,
    /// Being released.
    Terminating,
    /// Gone.
    Terminated,
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
    /// The VMM process ended by itself.
    VmmExited(String),
    /// The app's first process ended with this code.
    ContainerExited(i32),
    /// The service is being stopped, and nothing shall go on running.
    Shutdown,
    /// The service is being stopped; what runs goes on and waits for its successor.
    Leave,
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
    Undone(String),
    /// The microVM cannot go on.
    Fatal(String),
}

/// A step that the supervisor performs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Restore from the image's snapshot.
    Launch,
    /// Write the snapshot, end the process.
    Suspend,
    /// Restore from the microVM's own snapshot.
    Resume,
    /// Release everything; the reason goes into the record.
    Terminate(String),
}

/// What the machine made of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Persist, publish, then perform this step and report [`Event::StepDone`] or [`Event::StepFailed`].
    Begin(Step),
    /// The phase changed and nothing is to be done but persist and publish.
    Changed,
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
}

/// What follows when the current step ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    Nothing,
    Resume,
    Suspend,
    Terminate(String),
}

/// `stateReason` of a microVM that ended because it was asked to (recorded from the service).
pub const REASON_SUCCESS: &str = "Success.";
/// `stateReason` of a microVM whose time was over (recorded from the service, also for the suspended time).
pub const REASON_LIFETIME: &str = "MicroVM exceeded maximum lifetime.";
/// `stateReason` of a microVM that was being launched when the service was stopped.
pub const REASON_STOPPED_IN_LAUNCH: &str = "The service was stopped while the MicroVM was being launched.";

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    phase: Phase,
    next: Next,
}

impl Machine {
    /// A microVM that has just been recorded: its first step is [`Step::Launch`].
    pub fn launching() -> Self {
        Self { phase: Phase::Launching, next: Next::Nothing }
    }

    /// A microVM that was found suspended when the service started.
    pub fn suspended() -> Self {
        Self { phase: Phase::Suspended, next: Next::Nothing }
    }

    /// A microVM that was found in this phase when the service started; the step of a phase that has one is to be begun.
    pub fn found(phase: Phase) -> Self {
        Self { phase, next: Next::Nothing }
    }

    /// Current phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What GetMicrovm shows. The enum of the API has no RESUMING: the service shows PENDING then.
    pub fn public_state(&self) -> MicrovmState {
        match (self.phase, &self.next) {
            (Phase::Terminated, _) => MicrovmState::Terminated,
            (Phase::Terminating, _) | (_, Next::Terminate(_)) => MicrovmState::Terminating,
            (Phase::Launching | Phase::Resuming, _) => MicrovmState::Pending,
            (Phase::Running, _) => MicrovmState::Running,
            (Phase::Suspending, _) => MicrovmState::Suspending,
            (Phase::Suspended, _) => MicrovmState::Suspended,
        }
    }

    /// Takes an event.
    pub fn on(&mut self, event: Event) -> Decision {
        match event {
            Event::Suspend => self.on_suspend(),
            Event::Resume | Event::Traffic => self.on_resume(),
            Event::Terminate => self.terminate(REASON_SUCCESS),
            Event::Idle(IdleAction::Suspend) if self.phase == Phase::Running => self.begin_suspend(),
            Event::Idle(IdleAction::Terminate) if self.phase == Phase::Running => {
                self.terminate(REASON_LIFETIME)
            }
            Event::SuspendedTooLong if self.phase == Phase::Suspended => self.terminate(REASON_LIFETIME),
            Event::Idle(_) | Event::SuspendedTooLong | Event::Leave => Decision::Ignore,
            Event::MaximumDuration => self.terminate(REASON_LIFETIME),
            Event::StepDone => self.on_step_done(),
            Event::StepFailed(failure) => self.on_step_failed(failure),
            Event::VmmExited(reason) => self.on_exit(reason),
            Event::ContainerExited(code) => self.on_exit(format!("Container Stopped with Exit Code: {code}")),
            Event::Shutdown => self.on_shutdown(),
        }
    }

    fn on_suspend(&mut self) -> Decision {
        match (self.phase, &self.next) {
            (Phase::Terminating | Phase::Terminated, _) | (_, Next::Terminate(_)) => {
                Decision::Deny(DenyReason::Terminated)
            }
            (Phase::Running, _) => self.begin_suspend(),
            // The last request wins: a resume that was waiting for the suspend's end is taken back.
            (Phase::Suspending, _) => {
                self.next = Next::Nothing;
                Decision::Ignore
            }
            (Phase::Suspended, _) => Decision::Ignore,
            (Phase::Launching | Phase::Resuming, _) => Decision::Deny(DenyReason::Busy(self.public_state())),
        }
    }

    fn on_resume(&mut self) -> Decision {
        match (self.phase, &self.next) {
            (Phase::Terminating | Phase::Terminated, _) | (_, Next::Terminate(_)) => {
                Decision::Deny(DenyReason::Terminated)
            }
            (Phase::Suspended, _) => {
                self.phase = Phase::Resuming;
                Decision::Begin(Step::Resume)
            }
            (Phase::Suspending, _) => {
                self.next = Next::Resume;
                Decision::Ignore
            }
            (Phase::Launching | Phase::Running | Phase::Resuming, _) => Decision::Ignore,
        }
    }

    fn terminate(&mut self, reason: &str) -> Decision {
        match self.phase {
            Phase::Terminating | Phase::Terminated => Decision::Ignore,
            Phase::Running | Phase::Suspended => {
                self.phase = Phase::Terminating;
                Decision::Begin(Step::Terminate(reason.to_owned()))
            }
            Phase::Launching | Phase::Suspending | Phase::Resuming => {
                if matches!(self.next, Next::Terminate(_)) {
                    return Decision::Ignore;
                }
                self.next = Next::Terminate(reason.to_owned());
                Decision::Changed
            }
        }
    }

    fn begin_suspend(&mut self) -> Decision {
        self.phase = Phase::Suspending;
        Decision::Begin(Step::Suspend)
    }

    fn on_step_done(&mut self) -> Decision {
        self.phase = match self.phase {
            Phase::Launching | Phase::Resuming => Phase::Running,
            Phase::Suspending => Phase::Suspended,
            Phase::Terminating => Phase::Terminated,
            Phase::Running | Phase::Suspended | Phase::Terminated => return Decision::Ignore,
        };
        self.begin_next()
    }

    fn on_step_failed(&mut self, failure: Failure) -> Decision {
        match (self.phase, failure) {
            (Phase::Suspending, Failure::Undone(_)) => {
                self.phase = Phase::Running;
                if self.next == Next::Resume {
                    self.next = Next::Nothing;
                }
                self.begin_next()
            }
            (Phase::Resuming, Failure::Undone(_)) => {
                self.phase = Phase::Suspended;
                self.begin_next()
            }
            // What could not be released is in the log; the record must still come to its end.
            (Phase::Terminating, _) => self.on_step_done(),
            (_, Failure::Undone(reason) | Failure::Fatal(reason)) => self.on_exit(reason),
        }
    }

    /// The VM or its app is gone, whatever was being done with it.
    fn on_exit(&mut self, reason: String) -> Decision {
        match self.phase {
            Phase::Terminating | Phase::Terminated | Phase::Suspended => Decision::Ignore,
            Phase::Launching | Phase::Running | Phase::Suspending | Phase::Resuming => {
                self.phase = Phase::Terminating;
                let reason = match std::mem::replace(&mut self.next, Next::Nothing) {
                    Next::Terminate(earlier) => earlier,
                    Next::Nothing | Next::Resume | Next::Suspend => reason,
                };
                Decision::Begin(Step::Terminate(reason))
            }
        }
    }

    fn on_shutdown(&mut self) -> Decision {
        match self.phase {
            Phase::Running => self.begin_suspend(),
            Phase::Launching => self.terminate(REASON_STOPPED_IN_LAUNCH),
            Phase::Resuming if self.next == Next::Nothing => {
                self.next = Next::Suspend;
                Decision::Ignore
            }
            Phase::Suspending if self.next == Next::Resume => {
                self.next = Next::Nothing;
                Decision::Ignore
            }
            Phase::Suspending
            | Phase::Resuming
            | Phase::Suspended
            | Phase::Terminating
            | Phase::Terminated => Decision::Ignore,
        }
    }

    fn begin_next(&mut self) -> Decision {
        match (std::mem::replace(&mut self.next, Next::Nothing), self.phase) {
            (Next::Terminate(reason), Phase::Running | Phase::Suspended) => {
                self.phase = Phase::Terminating;
                Decision::Begin(Step::Terminate(reason))
            }
            (Next::Resume, Phase::Suspended) => {
                self.phase = Phase::Resuming;
                Decision::Begin(Step::Resume)
            }
            (Next::Suspend, Phase::Running) => self.begin_suspend(),
            _ => Decision::Changed,
        }
    }
}

#[cfg(test)]
mod tests;
