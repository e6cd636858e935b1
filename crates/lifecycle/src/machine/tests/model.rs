//! Random lives against a model that knows nothing of steps: only what was promised,
//! and what is held.

use proptest::prelude::*;

use super::*;

/// What the supervisor does with decisions, reduced to what matters: the guest, the
/// snapshot, the record.
#[derive(Debug)]
struct Host {
    machine: Machine,
    step: Option<Step>,
    /// A guest is held.
    guest: bool,
    /// A snapshot on disk fits the disk.
    snapshot: bool,
    released: u32,
    /// What the record says, and why.
    recorded: MicrovmState,
    reason: Option<Reason>,
    hooks: EnabledHooks,
}

/// What was promised to callers and not yet fulfilled.
#[derive(Debug, Default)]
struct Promises {
    /// Terminate was answered with success.
    end: bool,
    /// Somebody waits for RUNNING.
    run: bool,
    /// The app has been told of the current life: a request may reach it.
    told: bool,
}

#[derive(Debug, Clone)]
enum Input {
    Event(Event),
    /// The step ends like this; nothing if there is none.
    Done,
    Undone,
    Fatal,
    /// The service is killed and started again.
    Crash,
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        8 => Just(Input::Done),
        1 => Just(Input::Undone),
        1 => Just(Input::Fatal),
        1 => Just(Input::Crash),
        8 => prop_oneof![
            Just(Event::Suspend),
            Just(Event::Resume),
            Just(Event::Terminate),
            Just(Event::Traffic),
            Just(Event::Traffic),
            Just(Event::Idle(IdleAction::Suspend)),
            Just(Event::Idle(IdleAction::Terminate)),
            Just(Event::SuspendedTooLong),
            Just(Event::MaximumDuration),
            Just(Event::VmmExited("gone".into())),
            Just(Event::ContainerExited(3)),
            Just(Event::Shutdown),
        ]
        .prop_map(Input::Event),
    ]
}

fn any_hooks() -> impl Strategy<Value = EnabledHooks> {
    any::<[bool; 4]>().prop_map(|[run, resume, suspend, terminate]| EnabledHooks {
        run,
        resume,
        suspend,
        terminate,
    })
}

/// Which public states may follow one another; written from the documentation of the API,
/// not from the code.
fn may_follow(from: MicrovmState, to: MicrovmState) -> bool {
    use MicrovmState::{Pending, Running, Suspended, Suspending, Terminated, Terminating};
    match from {
        Pending => matches!(to, Running | Suspended | Suspending | Terminating),
        Running => matches!(to, Suspending | Terminating),
        // PENDING by way of a suspend that was undone or overtaken by a request.
        Suspending => matches!(to, Suspended | Running | Pending | Terminating),
        Suspended => matches!(to, Pending | Terminating),
        Terminating => to == Terminated,
        Terminated => false,
    }
}

impl Host {
    fn new(hooks: EnabledHooks) -> Self {
        Self {
            machine: Machine::launching().with_hooks(hooks),
            step: Some(Step::Launch),
            guest: false,
            snapshot: false,
            released: 0,
            recorded: MicrovmState::Pending,
            reason: None,
            hooks,
        }
    }

    fn feed(&mut self, event: Event, promises: &mut Promises) -> Result<(), TestCaseError> {
        let before = (self.machine.phase(), self.step.clone());
        let ends_step = matches!(event, Event::StepDone | Event::StepFailed(_));
        let asked = event.clone();
        let decision = self.machine.on(event);
        if ends_step {
            self.step = None;
        }
        match &decision {
            Decision::Begin(step) => {
                prop_assert!(self.step.is_none(), "two steps at a time: {before:?} {asked:?} {step:?}");
                if let Step::Terminate(reason) | Step::TerminateHook(reason) = step {
                    self.reason = Some(reason.clone());
                }
                if matches!(
                    step,
                    Step::RunHook | Step::ResumeHook | Step::SuspendHook | Step::TerminateHook(_)
                ) {
                    prop_assert!(self.guest, "a hook without a guest");
                }
                self.step = Some(step.clone());
            }
            Decision::CutShort => prop_assert!(self.step.is_some(), "there is nothing to cut"),
            Decision::Ignore | Decision::Deny(_) => {
                prop_assert!(!ends_step || before.0 == self.machine.phase());
            }
            Decision::Changed => prop_assert!(ends_step, "{before:?} {asked:?}"),
        }
        prop_assert_eq!(self.machine.phase().is_step(), self.step.is_some());
        let accepted = !matches!(decision, Decision::Deny(_));
        promises.end |= asked == Event::Terminate;
        promises.run |= accepted && matches!(asked, Event::Resume | Event::Traffic);
        // Whoever suspends takes back what was asked for before; so does the end of the service.
        promises.run &= !(accepted && matches!(asked, Event::Suspend | Event::Shutdown));
        self.record(promises)
    }

    fn record(&mut self, promises: &mut Promises) -> Result<(), TestCaseError> {
        let state = self.machine.public_state();
        if state != self.recorded {
            prop_assert!(may_follow(self.recorded, state), "{:?} to {state:?}", self.recorded);
            self.recorded = state;
        }
        if state == MicrovmState::Running {
            prop_assert!(self.guest && promises.told, "RUNNING, and the app does not know: {self:?}");
            promises.run = false;
        }
        if state == MicrovmState::Suspended {
            prop_assert!(self.snapshot && !self.guest);
        }
        if promises.end {
            prop_assert!(
                matches!(state, MicrovmState::Terminating | MicrovmState::Terminated),
                "a termination was forgotten"
            );
        }
        if state == MicrovmState::Terminated {
            prop_assert_eq!(self.released, 1, "released once");
            prop_assert!(self.reason.is_some(), "an end without a reason");
        }
        Ok(())
    }

    /// Ends the step as the supervisor's steps do.
    fn end_step(&mut self, how: &Input, promises: &mut Promises) -> Result<(), TestCaseError> {
        let Some(step) = self.step.clone() else { return Ok(()) };
        let ok = matches!(how, Input::Done);
        let event = match (&step, how) {
            (_, Input::Done) | (Step::Terminate(_), _) => Event::StepDone,
            (Step::Suspend | Step::Resume, Input::Undone) => undone(),
            _ => fatal("fatal"),
        };
        match step {
            Step::Launch | Step::Resume => {
                // Whoever waits for a resume that fails is told so.
                promises.run &= ok;
                prop_assert!(!self.guest, "a second guest");
                self.guest = ok;
                let hook = if step == Step::Launch { self.hooks.run } else { self.hooks.resume };
                promises.told = ok && !hook;
                self.snapshot &= !ok;
            }
            Step::RunHook | Step::ResumeHook => promises.told = ok,
            Step::SuspendHook => promises.told &= !self.hooks.resume,
            Step::Suspend => {
                self.guest = !ok;
                self.snapshot = ok;
            }
            Step::TerminateHook(_) => {}
            Step::Terminate(_) => {
                (self.guest, self.snapshot) = (false, false);
                self.released += 1;
            }
        }
        self.feed(event, promises)
    }

    /// The next service believes what is on disk: who has a snapshot is suspended,
    /// who has none is ended.
    fn crash(&mut self, promises: &mut Promises) {
        if self.recorded == MicrovmState::Terminated {
            return;
        }
        *promises = Promises::default();
        (self.guest, self.step) = (false, None);
        if self.snapshot {
            self.machine = Machine::suspended().with_hooks(self.hooks);
            self.recorded = MicrovmState::Suspended;
        } else {
            self.machine.phase = Phase::Terminated;
            self.recorded = MicrovmState::Terminated;
            self.reason = Some(Reason::SupervisorLost);
            self.released += 1;
        }
    }
}

proptest! {
    /// One step at a time, only allowed changes of state, RUNNING only when the app knows, no
    /// termination or request forgotten, one release, one reason.
    #[test]
    fn random_lives_keep_their_promises(
        hooks in any_hooks(),
        inputs in prop::collection::vec(any_input(), 1..80),
    ) {
        let mut host = Host::new(hooks);
        let mut promises = Promises::default();
        for input in inputs {
            match input {
                Input::Event(event) => {
                    let gone = matches!(event, Event::VmmExited(_) | Event::ContainerExited(_));
                    // Watched only while it runs; during a step the step itself fails.
                    if !gone || host.machine.phase() == Phase::Running {
                        host.feed(event, &mut promises)?;
                    }
                }
                Input::Crash => host.crash(&mut promises),
                done => host.end_step(&done, &mut promises)?,
            }
        }
        // Left alone, everything comes to rest, and whoever waits gets an answer.
        for _ in 0..8 {
            host.end_step(&Input::Done, &mut promises)?;
        }
        prop_assert!(host.step.is_none(), "a step without end");
        let state = host.machine.public_state();
        prop_assert_eq!(state == MicrovmState::Running, host.guest, "{:?}", state);
        prop_assert!(!promises.run || state == MicrovmState::Terminated, "a request was lost in {:?}", state);
        prop_assert!(!promises.end || state == MicrovmState::Terminated);
    }
}
