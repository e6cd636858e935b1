//! Single transitions; random sequences are in [`model`], the documentation's diagram and
//! table in [`document`].

use super::*;

mod document;
mod model;

const ALL_HOOKS: EnabledHooks = EnabledHooks { run: true, resume: true, suspend: true, terminate: true };

fn running() -> Machine {
    let mut machine = Machine::launching();
    machine.on(Event::StepDone);
    machine
}

fn undone() -> Event {
    Event::StepFailed(Failure::Undone(said("no space")))
}

fn said(text: &str) -> Reason {
    Reason::Said { text: text.to_owned() }
}

fn fatal(text: &str) -> Event {
    Event::StepFailed(Failure::Fatal(said(text)))
}

fn terminate(reason: Reason) -> Decision {
    Decision::Begin(Step::Terminate(reason))
}

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
    assert_eq!(machine.on(Event::Terminate), terminate(Reason::Success));
    assert_eq!(machine.on(Event::StepDone), Decision::Changed);
    assert_eq!(machine.public_state(), MicrovmState::Terminated);
    assert_eq!(machine.on(Event::Terminate), Decision::Ignore);
    assert_eq!(machine.on(Event::Resume), Decision::Deny(DenyReason::Terminated));
}

#[test]
fn a_life_with_all_hooks() {
    let mut machine = Machine::launching().with_hooks(ALL_HOOKS);
    assert_eq!(machine.on(Event::StepDone), Decision::Begin(Step::RunHook));
    assert_eq!(machine.public_state(), MicrovmState::Pending);
    assert_eq!(machine.on(Event::Suspend), Decision::Deny(DenyReason::Busy(MicrovmState::Pending)));
    assert_eq!(machine.on(Event::StepDone), Decision::Changed);
    assert_eq!(machine.on(Event::Idle(IdleAction::Suspend)), Decision::Begin(Step::SuspendHook));
    assert_eq!(machine.public_state(), MicrovmState::Suspending);
    assert_eq!(machine.on(Event::Traffic), Decision::Ignore);
    assert_eq!(machine.on(Event::StepDone), Decision::Begin(Step::Suspend));
    assert_eq!(machine.on(Event::StepDone), Decision::Begin(Step::Resume), "for the request");
    assert_eq!(machine.on(Event::StepDone), Decision::Begin(Step::ResumeHook));
    assert_eq!(machine.public_state(), MicrovmState::Pending);
    assert_eq!(machine.on(Event::StepDone), Decision::Changed);
    assert_eq!(
        machine.on(Event::MaximumDuration),
        Decision::Begin(Step::TerminateHook(Reason::LifetimeOver))
    );
    assert_eq!(machine.public_state(), MicrovmState::Terminating);
    assert_eq!(machine.on(Event::Terminate), Decision::Ignore);
    assert_eq!(machine.on(fatal("it said no")), terminate(Reason::LifetimeOver));
}

#[test]
fn a_hook_that_fails_ends_the_microvm_without_another_hook() {
    for steps in [0, 1, 2] {
        let mut machine = Machine::launching().with_hooks(ALL_HOOKS);
        machine.on(Event::StepDone);
        if steps > 0 {
            machine.on(Event::StepDone);
            machine.on(Event::Suspend);
        }
        if steps > 1 {
            machine.on(Event::StepDone);
            machine.on(Event::StepDone);
            machine.on(Event::Resume);
            machine.on(Event::StepDone);
        }
        assert_eq!(machine.on(fatal("it said no")), terminate(said("it said no")));
    }
}

#[test]
fn only_what_runs_is_told_of_its_end() {
    let mut machine = Machine::suspended().with_hooks(ALL_HOOKS);
    assert_eq!(machine.on(Event::Terminate), terminate(Reason::Success));
    for gone in [Event::ContainerExited(3), Event::VmmExited("gone".into())] {
        let mut machine = running().with_hooks(ALL_HOOKS);
        assert!(matches!(machine.on(gone), Decision::Begin(Step::Terminate(_))));
    }
}

#[test]
fn a_termination_cuts_every_step_short() {
    let hooked = Machine::launching().with_hooks(ALL_HOOKS);
    for done in 0..2 {
        for event in [Event::StepDone, fatal("cut"), undone()] {
            let mut machine = hooked.clone();
            for _ in 0..done {
                machine.on(Event::StepDone);
            }
            assert_eq!(machine.on(Event::Terminate), Decision::CutShort);
            assert_eq!(machine.public_state(), MicrovmState::Terminating);
            assert_eq!(machine.on(Event::MaximumDuration), Decision::Ignore, "the first reason stays");
            assert_eq!(machine.on(event), terminate(Reason::Success));
        }
    }
}

#[test]
fn a_request_during_a_suspend_resumes_right_after_it() {
    let mut machine = running();
    machine.on(Event::Suspend);
    assert_eq!(machine.on(Event::Traffic), Decision::Ignore);
    assert_eq!(machine.on(Event::StepDone), Decision::Begin(Step::Resume));
}

#[test]
fn a_suspend_that_was_undone_leaves_the_microvm_running_and_its_app_is_told() {
    let mut machine = running();
    machine.on(Event::Idle(IdleAction::Suspend));
    assert_eq!(machine.on(undone()), Decision::Changed);
    assert_eq!(machine.public_state(), MicrovmState::Running);
    let mut machine = running().with_hooks(ALL_HOOKS);
    machine.on(Event::Suspend);
    machine.on(Event::StepDone);
    assert_eq!(machine.on(undone()), Decision::Begin(Step::ResumeHook));
}

#[test]
fn a_shutdown_suspends_what_runs_and_ends_what_is_being_launched() {
    let mut suspending = running();
    assert_eq!(suspending.on(Event::Shutdown), Decision::Begin(Step::Suspend));
    let busy = Decision::Deny(DenyReason::Busy(MicrovmState::Suspending));
    assert_eq!(suspending.on(Event::Traffic), busy, "it would be ended where it runs");
    assert_eq!(suspending.on(Event::StepDone), Decision::Changed);
    assert_eq!(suspending.public_state(), MicrovmState::Suspended);
    let mut launching = Machine::launching();
    assert_eq!(launching.on(Event::Shutdown), Decision::CutShort);
    assert_eq!(launching.on(Event::StepDone), terminate(Reason::StoppedInLaunch));
}
