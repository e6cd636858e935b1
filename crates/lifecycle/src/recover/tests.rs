//! Every row of the table in docs/lifecycle.md.

use super::*;

fn finding(state: MicrovmState, has_snapshot: bool, diverged: bool, guest: &GuestFound) -> Finding {
    let (run_hook_called, hooks) = (false, EnabledHooks::default());
    Finding { state, has_snapshot, diverged, run_hook_called, hooks, guest: guest.clone() }
}

fn find(state: MicrovmState, has_snapshot: bool, diverged: bool, guest: &GuestFound) -> Verdict {
    verdict(&finding(state, has_snapshot, diverged, guest))
}

fn refused() -> GuestFound {
    GuestFound::Refused("it is too new".into())
}

fn lost() -> Verdict {
    Verdict::Terminate(Some(Reason::VmmLost))
}

const ENDS: Verdict = Verdict::Terminate(None);
const ALL_HOOKS: EnabledHooks = EnabledHooks { run: true, resume: true, suspend: true, terminate: true };

#[test]
fn a_snapshot_that_fits_is_believed_before_any_process() {
    use MicrovmState::{Pending, Running, Suspended, Suspending, Terminating};
    for guest in [GuestFound::Gone, GuestFound::Paused, GuestFound::Running, refused()] {
        for state in [Running, Suspending, Suspended] {
            assert_eq!(find(state, true, false, &guest), Verdict::Suspended, "{state:?} {guest:?}");
        }
        assert_eq!(find(Pending, true, false, &guest), Verdict::ResumeAgain, "{guest:?}");
        assert_eq!(find(Terminating, true, false, &guest), ENDS, "{guest:?}");
    }
}

#[test]
fn a_guest_that_ran_goes_on_where_it_was() {
    use MicrovmState::{Pending, Running, Suspended, Suspending, Terminating};
    for guest in [GuestFound::Paused, GuestFound::Running] {
        for (state, expected) in [
            (Pending, Verdict::FinishResume),
            (Running, Verdict::TakeOver),
            (Suspending, Verdict::FinishSuspend),
            (Suspended, Verdict::FinishSuspend),
            (Terminating, ENDS),
        ] {
            assert_eq!(find(state, true, true, &guest), expected, "{state:?} {guest:?}");
            if state != Pending {
                assert_eq!(
                    find(state, false, true, &guest),
                    expected,
                    "{state:?} {guest:?}, never suspended"
                );
            }
        }
    }
}

#[test]
fn a_guest_that_is_lost_ends_the_microvm() {
    use MicrovmState::{Pending, Running, Suspended, Suspending, Terminating};
    for state in [Pending, Running, Suspending, Suspended] {
        assert_eq!(find(state, true, true, &GuestFound::Gone), lost(), "{state:?}");
        let Verdict::Terminate(Some(reason)) = find(state, true, true, &refused()) else {
            panic!("{state:?}: what cannot be taken over ends");
        };
        let sentence = "The MicroVM could not be taken over by the service: it is too new.";
        assert_eq!(reason.to_string(), sentence);
    }
    assert_eq!(find(Terminating, true, true, &refused()), ENDS);
    assert_eq!(find(Running, false, true, &GuestFound::Gone), lost());
}

#[test]
fn a_launch_is_finished_where_nothing_was_heard_and_begun_again_otherwise() {
    let pending = |diverged, guest: &GuestFound| finding(MicrovmState::Pending, false, diverged, guest);
    for guest in [GuestFound::Gone, GuestFound::Paused, refused()] {
        assert_eq!(verdict(&pending(false, &guest)), Verdict::LaunchAgain, "{guest:?}");
    }
    assert_eq!(verdict(&pending(true, &GuestFound::Gone)), Verdict::LaunchAgain);
    for guest in [GuestFound::Paused, GuestFound::Running] {
        let bare = pending(true, &guest);
        let hooked = Finding { hooks: ALL_HOOKS, ..bare.clone() };
        let called = Finding { run_hook_called: true, ..hooked.clone() };
        assert_eq!(verdict(&bare), Verdict::FinishLaunch);
        assert_eq!(verdict(&hooked), Verdict::LaunchAgain, "its run hook may have been under way");
        assert_eq!(verdict(&called), Verdict::TakeOver);
    }
    let called = Finding { run_hook_called: true, hooks: ALL_HOOKS, ..pending(true, &GuestFound::Gone) };
    assert_eq!(verdict(&called), lost(), "its payload is gone");
}

#[test]
fn a_suspend_hook_is_called_unless_it_was_over() {
    let suspending = |guest: &GuestFound| Finding {
        hooks: ALL_HOOKS,
        ..finding(MicrovmState::Suspending, false, true, guest)
    };
    assert_eq!(verdict(&suspending(&GuestFound::Running)), Verdict::FinishSuspendHook);
    assert_eq!(verdict(&suspending(&GuestFound::Paused)), Verdict::FinishSuspend);
}
