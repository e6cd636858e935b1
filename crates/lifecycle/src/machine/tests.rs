//! Single transitions, and random sequences against the rules that must always hold.

use proptest::prelude::*;

use super::*;

#[test]
fn a_life_with_one_sleep() {
    let mut machine = Machine::launching();
    assert_eq!(machine.public_state(), MicrovmState::Pending);
    assert_eq!(machine.on(Event::StepDone), Decision::Changed);
    assert_eq!(machine.on(Event::Suspend), Decision::Begin(Step::Suspend));
    assert_eq!(machine.on(Event::Suspend), Decision::Ignore);
    assert_eq!(machine.on(Event::StepDone), Decision::Changed);
    assert_eq!(machine.public_state(), MicrovmState::Suspended);
    assert_eq!(machine.on(Event::Traffic), Decision::Begin(Step::Resume));
    assert_eq!(machine.on(Event::StepDone), Decision::Changed);
    assert_eq!(machine.on(Event::Terminate), Decision::Begin(Step::Terminate(REASON_SUCCESS.into())));
    assert_eq!(machine.on(Event::StepDone), Decision::Changed);
    assert_eq!(machine.public_state(), MicrovmState::Terminated);
    assert_eq!(machine.on(Event::Terminate), Decision::Ignore);
    assert_eq!(machine.on(Event::Resume), Decision::Deny(DenyReason::Terminated));
}

#[test]
fn a_terminate_during_a_launch_is_shown_at_once_and_done_afterwards() {
    let mut machine = Machine::launching();
    assert_eq!(machine.on(Event::Terminate), Decision::Changed);
    assert_eq!(machine.public_state(), MicrovmState::Terminating);
    assert_eq!(machine.on(Event::StepDone), Decision::Begin(Step::Terminate(REASON_SUCCESS.into())));
}

#[test]
fn a_request_during_a_suspend_resumes_right_after_it() {
    let mut machine = Machine::launching();
    machine.on(Event::StepDone);
    machine.on(Event::Suspend);
    assert_eq!(machine.on(Event::Traffic), Decision::Ignore);
    assert_eq!(machine.on(Event::StepDone), Decision::Begin(Step::Resume));
}

#[test]
fn a_suspend_that_was_undone_leaves_the_microvm_running() {
    let mut machine = Machine::launching();
    machine.on(Event::StepDone);
    machine.on(Event::Idle(IdleAction::Suspend));
    assert_eq!(machine.on(Event::StepFailed(Failure::Undone("no space".into()))), Decision::Changed);
    assert_eq!(machine.public_state(), MicrovmState::Running);
}

#[test]
fn a_shutdown_suspends_what_runs_and_ends_what_is_being_launched() {
    let mut running = Machine::launching();
    running.on(Event::StepDone);
    assert_eq!(running.on(Event::Shutdown), Decision::Begin(Step::Suspend));
    let mut launching = Machine::launching();
    assert_eq!(launching.on(Event::Shutdown), Decision::Changed);
    assert!(matches!(launching.on(Event::StepDone), Decision::Begin(Step::Terminate(_))));
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Suspend),
        Just(Event::Resume),
        Just(Event::Terminate),
        Just(Event::Traffic),
        Just(Event::Idle(IdleAction::Suspend)),
        Just(Event::Idle(IdleAction::Terminate)),
        Just(Event::SuspendedTooLong),
        Just(Event::MaximumDuration),
        Just(Event::StepDone),
        Just(Event::StepFailed(Failure::Undone("undone".into()))),
        Just(Event::StepFailed(Failure::Fatal("fatal".into()))),
        Just(Event::VmmExited("gone".into())),
        Just(Event::ContainerExited(3)),
        Just(Event::Shutdown),
    ]
}

fn busy(phase: Phase) -> bool {
    matches!(phase, Phase::Launching | Phase::Suspending | Phase::Resuming | Phase::Terminating)
}

proptest! {
    /// At most one step is under way; a step is begun exactly when the machine enters a busy phase; TERMINATED is
    /// reached once and never left; a termination that was asked for is never forgotten.
    #[test]
    fn the_rules_hold_for_any_sequence(events in prop::collection::vec(any_event(), 1..60)) {
        let mut machine = Machine::launching();
        let mut terminate_asked = false;
        for event in events {
            let before = machine.clone();
            let ends_step = matches!(event, Event::StepDone | Event::StepFailed(_));
            if ends_step && !busy(before.phase()) {
                continue; // the supervisor reports the end of a step only while one is under way
            }
            let gone = matches!(event, Event::VmmExited(_) | Event::ContainerExited(_));
            if gone && before.phase() != Phase::Running {
                continue; // watched only while running; during a step the step itself fails
            }
            terminate_asked |= event == Event::Terminate;
            let decision = machine.on(event);
            let began = matches!(decision, Decision::Begin(_));
            prop_assert_eq!(began, busy(machine.phase()) && (ends_step || machine.phase() != before.phase()));
            prop_assert!(!(began && busy(before.phase()) && !ends_step), "two steps at a time");
            if before.phase() == Phase::Terminated {
                prop_assert_eq!(machine.phase(), Phase::Terminated);
            }
            if terminate_asked {
                let state = machine.public_state();
                prop_assert!(matches!(state, MicrovmState::Terminating | MicrovmState::Terminated), "{:?}", state);
            }
        }
    }
}
