//! The hooks: when they are called, what keeps requests back meanwhile, and how each failure ends.

use hearth_api::{MicrovmId, MicrovmState};
use hearth_guest_protocol::HookResult;
use hearth_lifecycle::RunningMicrovm;
use hearth_node::{Life as _, Unreachable};
use hearth_records::Microvms as _;
use hearth_testkit::waiting::eventually;
use hearth_vmm::ExitReason;
use hearth_vmm::fake::FakeOperation;

use crate::support::{WAKES, World};

const ALL: [&str; 4] = ["run", "resume", "suspend", "terminate"];

fn answer(world: &World, hook: &'static str, result: Option<HookResult>) {
    world.hooks.lock().unwrap().answers.insert(hook, result);
}

fn called(world: &World) -> Vec<String> {
    world.hooks.lock().unwrap().called.iter().map(|(name, _)| name.clone()).collect()
}

async fn wait_for_call(world: &World, hook: &str) {
    let look = async || {
        let called = called(world);
        if called.last().is_some_and(|last| last == hook) { Ok(()) } else { Err(called) }
    };
    eventually(&format!("{hook} is called"), look).await;
}

/// It is ending, or nobody knows it any more.
fn assert_ended(answer: Result<RunningMicrovm, Unreachable>) {
    let refused = answer.unwrap_err();
    assert!(matches!(refused, Unreachable::Terminated | Unreachable::NotFound), "{refused:?}");
}

async fn ends_with(world: &World, id: &MicrovmId, reason: &str) {
    let ended = world.wait_for(id, MicrovmState::Terminated).await;
    assert_eq!(ended.state_reason().as_deref(), Some(reason));
    world.assert_released(id);
    assert!(!world.snapshots.microvm(id).directory().exists());
}

#[tokio::test]
async fn each_hook_is_called_in_its_place_and_the_payload_goes_to_the_first() {
    let world = World::hooked(&ALL, 60).await;
    let id = world.launch_with_payload("{\"key\": 1}").await;
    world.wait_for(&id, MicrovmState::Running).await;
    assert_eq!(world.store.payload(&id).await.unwrap(), None);
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspended).await;
    world.registry.resume(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Running).await;
    world.registry.terminate(&id, None).await.unwrap();
    ends_with(&world, &id, "Success.").await;
    let run = format!(r#"{{"microvmId":"{id}","runHookPayload":"{{\"key\": 1}}"}}"#);
    let expected = [("run", run.as_str()), ("suspend", ""), ("resume", ""), ("terminate", "")];
    let expected = expected.map(|(name, body)| (name.to_owned(), body.to_owned()));
    assert_eq!(world.hooks.lock().unwrap().called, expected);
}

#[tokio::test]
async fn a_hook_that_is_not_enabled_is_not_called() {
    let world = World::hooked(&["suspend"], 60).await;
    let id = world.running(None).await;
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspended).await;
    world.registry.resume(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Running).await;
    world.registry.terminate(&id, None).await.unwrap();
    ends_with(&world, &id, "Success.").await;
    assert_eq!(called(&world), ["suspend"]);
}

#[tokio::test]
async fn a_hook_that_fails_ends_the_microvm_with_its_sentence() {
    for (result, says) in [
        (HookResult::Status { code: 400 }, "returned HTTP status 400"),
        (HookResult::Status { code: 503 }, "returned HTTP status 503"),
        (HookResult::Refused, "connection was refused"),
        (HookResult::TimedOut, "timed out"),
        (HookResult::Broken, "failed"),
    ] {
        for (hook, name) in [("run", "Run"), ("suspend", "Suspend"), ("resume", "Resume")] {
            let world = World::hooked(&ALL, 60).await;
            answer(&world, hook, Some(result));
            let id = world.launch(Some(WAKES)).await;
            if hook != "run" {
                world.wait_for(&id, MicrovmState::Running).await;
                world.registry.suspend(&id, None).await.unwrap();
            }
            if hook == "resume" {
                world.wait_for(&id, MicrovmState::Suspended).await;
            }
            if hook != "suspend" {
                // Held until the hook has failed, not passed on.
                assert_ended(world.registry.ensure_running(&id).await);
            }
            let end = "Please check your hook endpoint and application logs for more details.";
            ends_with(&world, &id, &format!("{name} lifecycle hook {says}. {end}")).await;
            assert!(!called(&world).contains(&"terminate".to_owned()));
        }
    }
}

#[tokio::test]
async fn the_answer_of_the_terminate_hook_does_not_matter() {
    for result in [HookResult::Status { code: 500 }, HookResult::Refused, HookResult::TimedOut] {
        let world = World::hooked(&ALL, 60).await;
        answer(&world, "terminate", Some(result));
        let id = world.running(None).await;
        world.registry.terminate(&id, None).await.unwrap();
        ends_with(&world, &id, "Success.").await;
        assert_eq!(called(&world), ["run", "terminate"]);
    }
}

#[tokio::test]
async fn requests_wait_for_the_run_hook_and_are_then_passed_on() {
    let world = World::hooked(&ALL, 1).await;
    answer(&world, "run", None);
    let id = world.launch(None).await;
    wait_for_call(&world, "run").await;
    assert_eq!(world.record(&id).await.state, MicrovmState::Pending);
    let held = world.registry.ensure_running(&id);
    tokio::pin!(held);
    assert!(futures::poll!(&mut held).is_pending());
    // The agent's silence is the same as that of the app.
    let end = "Run lifecycle hook timed out. Please check your hook endpoint and application logs for more details.";
    assert_eq!(held.await.unwrap_err(), Unreachable::Terminated);
    ends_with(&world, &id, end).await;

    answer(&world, "run", Some(HookResult::Status { code: 200 }));
    let id = world.launch(None).await;
    assert_eq!(world.registry.ensure_running(&id).await.unwrap().id(), &id);
    assert_eq!(called(&world), ["run", "run"]);
}

#[tokio::test]
async fn a_termination_does_not_wait_for_the_step_it_cuts_short() {
    for hook in ALL {
        let world = World::hooked(&ALL, 60).await;
        if hook != "terminate" {
            answer(&world, hook, None);
        }
        let id = world.launch_with_payload("secret").await;
        if hook != "run" {
            world.wait_for(&id, MicrovmState::Running).await;
            world.registry.suspend(&id, None).await.unwrap();
        }
        if hook == "resume" {
            world.wait_for(&id, MicrovmState::Suspended).await;
            world.registry.resume(&id, None).await.unwrap();
        }
        if hook == "terminate" {
            world.wait_for(&id, MicrovmState::Suspended).await;
        } else {
            wait_for_call(&world, hook).await;
        }
        world.registry.terminate(&id, None).await.unwrap();
        if hook != "terminate" {
            assert_ended(world.registry.ensure_running(&id).await);
        }
        ends_with(&world, &id, "Success.").await;
        assert!(!called(&world).contains(&"terminate".to_owned()), "not from here");
    }
}

#[tokio::test]
async fn the_end_of_the_app_or_the_vmm_in_a_hook_is_the_better_reason() {
    let world = World::hooked(&ALL, 60).await;
    answer(&world, "suspend", Some(HookResult::Broken));
    let id = world.running(None).await;
    world.app_exit_tx.send_replace(Some(137));
    world.registry.suspend(&id, None).await.unwrap();
    ends_with(&world, &id, "Container Stopped with Exit Code: 137").await;

    let world = World::hooked(&ALL, 60).await;
    answer(&world, "run", None);
    let id = world.launch(None).await;
    wait_for_call(&world, "run").await;
    let failed = ExitReason::Failed { status: 139, log_tail: String::new() };
    world.vmm.vm(id.as_str()).unwrap().exit(failed);
    ends_with(&world, &id, "The virtual machine monitor ended unexpectedly (status 139).").await;
}

#[tokio::test]
async fn a_suspend_that_is_undone_after_its_hook_is_followed_by_the_resume_hook() {
    let world = World::hooked(&ALL, 60).await;
    let id = world.running(None).await;
    let full = hearth_vmm::Error::NoSpace { path: "/data/memory.0001.layer".into() };
    world.vmm.fail_next(FakeOperation::CreateSnapshot, full);
    world.registry.suspend(&id, None).await.unwrap();
    wait_for_call(&world, "resume").await;
    let record = world.wait_for(&id, MicrovmState::Running).await;
    assert!(record.state_reason().unwrap().contains("keeps running"));
    assert_eq!(called(&world), ["run", "suspend", "resume"]);
}
