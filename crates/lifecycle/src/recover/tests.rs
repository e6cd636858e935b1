//! Every row of the table in docs/lifecycle.md.

use super::*;

fn find(state: MicrovmState, has_snapshot: bool, diverged: bool, guest: &GuestFound) -> Verdict {
    verdict(&Finding { state, has_snapshot, diverged, has_run_hook: false, guest: guest.clone() })
}

fn refused() -> GuestFound {
    GuestFound::Refused("it is too new".into())
}

const ENDS: Verdict = Verdict::Terminate(None);

fn lost() -> Verdict {
    Verdict::Terminate(Some(REASON_VMM_LOST.into()))
}

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
    for has_snapshot in [false, true] {
        for guest in [GuestFound::Paused, GuestFound::Running] {
            for (state, expected) in [
                (Pending, Verdict::FinishStart),
                (Running, Verdict::TakeOver),
                (Suspending, Verdict::FinishSuspend),
                (Suspended, Verdict::FinishSuspend),
                (Terminating, ENDS),
            ] {
                assert_eq!(find(state, has_snapshot, true, &guest), expected, "{state:?} {guest:?}");
            }
        }
        for state in [Pending, Running, Suspending, Suspended] {
            assert_eq!(find(state, has_snapshot, true, &GuestFound::Gone), lost(), "{state:?}");
            let Verdict::Terminate(Some(reason)) = find(state, has_snapshot, true, &refused()) else {
                panic!("{state:?}: what cannot be taken over ends");
            };
            assert_eq!(reason, "The MicroVM could not be taken over by the service: it is too new.");
        }
        assert_eq!(find(Terminating, has_snapshot, true, &refused()), ENDS);
    }
}

#[test]
fn a_launch_that_has_not_begun_is_begun_again_unless_a_hook_waits_for_its_payload() {
    for guest in [GuestFound::Gone, GuestFound::Paused] {
        assert_eq!(find(MicrovmState::Pending, false, false, &guest), Verdict::LaunchAgain);
    }
    for (diverged, guest) in
        [(false, GuestFound::Gone), (true, GuestFound::Running), (true, GuestFound::Gone)]
    {
        let state = MicrovmState::Pending;
        let finding = Finding { state, has_snapshot: false, diverged, has_run_hook: true, guest };
        assert_eq!(verdict(&finding), Verdict::Terminate(Some(REASON_LAUNCH_LOST.into())), "{finding:?}");
    }
    // A resume has a payload no more: its hook is called again.
    let finding = Finding {
        state: MicrovmState::Pending,
        has_snapshot: true,
        diverged: true,
        has_run_hook: true,
        guest: GuestFound::Running,
    };
    assert_eq!(verdict(&finding), Verdict::FinishStart);
}
