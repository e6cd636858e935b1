//! Every row of the table in docs/lifecycle.md.

use super::*;

fn find(phase: Phase, fits: bool, guest: &GuestFound) -> Verdict {
    verdict(&Finding { phase, fits, suspend_hook: false, guest: guest.clone() })
}

fn refused() -> GuestFound {
    GuestFound::Refused("it is too new".into())
}

fn guests() -> [GuestFound; 4] {
    [GuestFound::Gone, GuestFound::Paused, GuestFound::Running, refused()]
}

const ENDS: Verdict = Verdict::Terminate(None);

#[test]
fn what_was_being_ended_is_ended() {
    for phase in [Phase::TerminateHook, Phase::Terminating, Phase::Terminated] {
        for (guest, fits) in guests().iter().flat_map(|guest| [(guest, false), (guest, true)]) {
            assert_eq!(find(phase, fits, guest), ENDS, "{phase:?} {guest:?}");
        }
    }
}

#[test]
fn a_snapshot_that_fits_is_believed_before_any_process() {
    for guest in guests() {
        for phase in [Phase::Running, Phase::SuspendHook, Phase::Suspending, Phase::Suspended] {
            assert_eq!(find(phase, true, &guest), Verdict::Suspended, "{phase:?} {guest:?}");
        }
    }
}

#[test]
fn a_resume_goes_on_with_a_guest_that_runs_and_is_begun_again_without() {
    for phase in [Phase::Resuming, Phase::ResumeHook] {
        for fits in [false, true] {
            assert_eq!(find(phase, fits, &GuestFound::Running), Verdict::FinishResume);
        }
        for guest in [GuestFound::Gone, GuestFound::Paused, refused()] {
            assert_eq!(find(phase, true, &guest), Verdict::ResumeAgain, "{guest:?}");
        }
        assert_eq!(find(phase, false, &GuestFound::Paused), Verdict::FinishResume, "there is no way back");
    }
}

#[test]
fn a_guest_that_ran_goes_on_where_it_was() {
    for guest in [GuestFound::Paused, GuestFound::Running] {
        assert_eq!(find(Phase::Running, false, &guest), Verdict::TakeOver);
        for phase in [Phase::SuspendHook, Phase::Suspending, Phase::Suspended] {
            assert_eq!(find(phase, false, &guest), Verdict::FinishSuspend, "{phase:?} {guest:?}");
        }
    }
}

#[test]
fn a_guest_that_is_lost_ends_the_microvm() {
    let all = [
        Phase::Running,
        Phase::SuspendHook,
        Phase::Suspending,
        Phase::Suspended,
        Phase::Resuming,
        Phase::ResumeHook,
    ];
    for phase in all {
        let lost = if phase == Phase::Suspended { snapshot_lost() } else { Reason::VmmLost };
        let lost = Verdict::Terminate(Some(lost));
        assert_eq!(find(phase, false, &GuestFound::Gone), lost, "{phase:?}");
        let Verdict::Terminate(Some(reason)) = find(phase, false, &refused()) else {
            panic!("{phase:?}: what cannot be taken over ends");
        };
        let sentence = "The MicroVM could not be taken over by the service: it is too new.";
        assert_eq!(reason.to_string(), sentence);
    }
}

#[test]
fn a_launch_is_finished_where_nothing_was_heard_and_begun_again_otherwise() {
    for guest in [GuestFound::Gone, GuestFound::Paused, refused()] {
        assert_eq!(find(Phase::Launching, false, &guest), Verdict::LaunchAgain, "{guest:?}");
    }
    assert_eq!(find(Phase::Launching, false, &GuestFound::Running), Verdict::FinishLaunch);
    for guest in guests() {
        assert_eq!(find(Phase::RunHook, false, &guest), Verdict::LaunchAgain, "{guest:?}");
    }
}

#[test]
fn a_suspend_hook_is_called_unless_it_was_over() {
    let found =
        |phase, guest: GuestFound| verdict(&Finding { phase, fits: false, suspend_hook: true, guest });
    assert_eq!(found(Phase::SuspendHook, GuestFound::Running), Verdict::FinishSuspendHook);
    assert_eq!(found(Phase::SuspendHook, GuestFound::Paused), Verdict::FinishSuspend);
    assert_eq!(found(Phase::Suspending, GuestFound::Running), Verdict::FinishSuspend);
}
