//! Launch, sleep, wake, end.

use hearth_api::{IdlePolicy, MicrovmId, MicrovmState};
use hearth_guest::Egress;
use hearth_node::{Life as _, Node as _, Refusal, Unreachable};
use hearth_vmm::fake::FakeOperation;

use crate::support::{WAKES, World};

#[tokio::test]
async fn a_microvm_runs_sleeps_wakes_and_ends() {
    let world = World::new().await;
    let id = world.running(None).await;
    world.registry.suspend(&id, None).await.unwrap();
    let suspended = world.wait_for(&id, MicrovmState::Suspended).await;
    assert!(suspended.suspended_at.is_some());
    world.assert_released(&id);
    world.registry.suspend(&id, None).await.unwrap();
    world.registry.resume(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Running).await;
    world.registry.resume(&id, None).await.unwrap();
    world.registry.terminate(&id, None).await.unwrap();
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    assert_eq!(ended.state_reason().as_deref(), Some("Success."));
    assert!(ended.terminated_at.is_some());
    world.assert_released(&id);
    assert!(!world.snapshots.microvm(&id).directory().exists());
    world.registry.terminate(&id, None).await.unwrap();
    assert_eq!(world.registry.resume(&id, None).await, Err(Refusal::Terminated));
    assert_eq!(world.registry.suspend(&MicrovmId::new(), None).await, Err(Refusal::NotFound));
}

#[tokio::test]
async fn a_connector_of_the_account_gives_no_way_out_neither_at_the_launch_nor_at_a_resume() {
    let world = World::new().await;
    let own = "arn:aws:lambda:us-east-1:000000000000:network-connector:nc-1".to_owned();
    world.egresses.lock().unwrap().clear();
    let id = world.launch_with(None, vec![own]).await;
    world.wait_for(&id, MicrovmState::Running).await;
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspended).await;
    world.registry.resume(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Running).await;
    assert_eq!(*world.egresses.lock().unwrap(), [Egress::None, Egress::None]);
    world.running(None).await;
    assert_eq!(world.egresses.lock().unwrap().last(), Some(&Egress::Internet));
}

#[tokio::test]
async fn many_requests_to_a_sleeping_microvm_cause_one_resume() {
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspended).await;
    let waiting = (0..20).map(|_| world.registry.ensure_running(&id));
    for answer in futures::future::join_all(waiting).await {
        assert_eq!(answer.unwrap().generation(), 2);
    }
    let restores =
        world.vmm.calls().into_iter().filter(|(_, operation)| *operation == FakeOperation::Restore);
    assert_eq!(restores.count(), 2, "one for the launch, one for the resume");
}

#[tokio::test]
async fn traffic_does_not_wake_what_shall_not_be_woken() {
    let world = World::new().await;
    let id = world.running(None).await;
    let running = world.registry.ensure_running(&id).await.unwrap();
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspended).await;
    running.ended().await;
    assert_eq!(world.registry.ensure_running(&id).await.unwrap_err(), Unreachable::Suspended);
    assert_eq!(world.registry.ensure_running(&MicrovmId::new()).await.unwrap_err(), Unreachable::NotFound);
}

#[tokio::test]
async fn an_idle_microvm_is_suspended_and_ended_after_its_time() {
    let world = World::new().await;
    let policy = IdlePolicy {
        max_idle_duration_seconds: 1,
        suspended_duration_seconds: 1,
        auto_resume_enabled: false,
    };
    let id = world.running(Some(policy)).await;
    world.wait_for(&id, MicrovmState::Suspended).await;
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    assert_eq!(ended.state_reason().as_deref(), Some("MicroVM exceeded maximum lifetime."));
    world.assert_released(&id);
}

#[tokio::test]
async fn bytes_through_the_endpoint_keep_a_microvm_awake() {
    let world = World::new().await;
    let policy = IdlePolicy {
        max_idle_duration_seconds: 1,
        suspended_duration_seconds: 600,
        auto_resume_enabled: true,
    };
    let id = world.running(Some(policy)).await;
    let running = world.registry.ensure_running(&id).await.unwrap();
    for _ in 0..25 {
        running.traffic(1);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert_eq!(world.record(&id).await.state, MicrovmState::Running);
    }
    world.wait_for(&id, MicrovmState::Suspended).await;
}

#[tokio::test]
async fn the_end_of_the_service_suspends_what_runs_and_a_restart_finds_it() {
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    world.registry.shutdown().await;
    assert_eq!(world.record(&id).await.state, MicrovmState::Suspended);
    world.assert_released(&id);
    let restarted = world.restarted().await;
    let label = world.record(&id).await.endpoint_label;
    assert_eq!(*restarted.endpoint(&id).unwrap().label, *label.as_str());
    restarted.ensure_running(&id).await.unwrap();
    assert_eq!(world.record(&id).await.state, MicrovmState::Running);
}

#[tokio::test]
async fn an_endpoint_stays_that_of_its_microvm_when_it_has_ended() {
    let world = World::new().await;
    let (id, other) = (world.running(None).await, world.running(None).await);
    let labels = [world.record(&id).await.endpoint_label, world.record(&other).await.endpoint_label];
    assert_eq!(*world.registry.endpoint(&id).unwrap().label, *labels[0].as_str());
    for ending in [&id, &other] {
        world.registry.terminate(ending, None).await.unwrap();
        world.wait_for(ending, MicrovmState::Terminated).await;
        let [own, others] = &labels;
        assert!(world.registry.was_endpoint_of(own.as_str(), &id).await);
        assert!(!world.registry.was_endpoint_of(others.as_str(), &id).await);
    }
    assert!(!world.registry.was_endpoint_of(labels[0].as_str(), &MicrovmId::new()).await);
}

#[tokio::test]
async fn a_terminate_during_a_launch_is_shown_at_once() {
    let world = World::new().await;
    world.vmm.delay(FakeOperation::Restore, std::time::Duration::from_millis(500));
    let id = world.launch(None).await;
    world.registry.terminate(&id, None).await.unwrap();
    assert_eq!(world.record(&id).await.state, MicrovmState::Terminating);
    world.wait_for(&id, MicrovmState::Terminated).await;
    world.assert_released(&id);
}
