//! What goes wrong ends in a true record, and loses nothing that could be kept.

use std::path::PathBuf;

use hearth_api::{IdlePolicy, ImageVersion, MicrovmState};
use hearth_node::Unreachable;
use hearth_records::Microvms as _;
use hearth_records::testing::image_arn;
use hearth_testkit::waiting::{DEADLINE, eventually};
use hearth_vmm::fake::FakeOperation;
use hearth_vmm::{Error, ExitReason};

use crate::support::{WAKES, World};

fn no_space() -> Error {
    Error::NoSpace { path: PathBuf::from("/data/memory.0001.layer") }
}

#[tokio::test]
async fn a_launch_that_fails_ends_with_a_reason() {
    let world = World::new().await;
    world.vmm.fail_next(FakeOperation::Restore, no_space());
    let id = world.launch(None).await;
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    let reason = ended.state_reason().unwrap();
    assert!(reason.starts_with("The MicroVM could not be launched: no space left"), "{reason}");
    world.assert_released(&id);
}

#[tokio::test]
async fn a_missing_kvm_at_launch_names_itself() {
    let world = World::new().await;
    world.vmm.fail_next(FakeOperation::Restore, Error::NoKvm(std::io::ErrorKind::NotFound.into()));
    let id = world.launch(None).await;
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    let reason = ended.state_reason().unwrap();
    let expected =
        "The MicroVM could not be launched: /dev/kvm cannot be opened, under which guests run here";
    assert!(reason.starts_with(expected) && reason.contains("entity not found"), "{reason}");
    world.assert_released(&id);
}

#[tokio::test]
async fn a_full_disk_while_suspending_leaves_the_microvm_running() {
    let world = World::new().await;
    let id = world.running(None).await;
    let before = world.record(&id).await.generation;
    world.vmm.fail_next(FakeOperation::CreateSnapshot, no_space());
    world.registry.suspend(&id, None).await.unwrap();
    let look = async || {
        let record = world.record(&id).await;
        if record.generation >= before + 2 { Ok(record) } else { Err(record) }
    };
    let record = eventually("the suspend ends", look).await;
    assert_eq!(record.state, MicrovmState::Running);
    assert!(record.state_reason().unwrap().contains("keeps running"));
    assert!(world.vmm.vm(id.as_str()).unwrap().is_running());
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspended).await;
}

#[tokio::test]
async fn a_resume_that_fails_keeps_the_state_and_can_be_tried_again() {
    let world = World::new().await;
    let wakes = IdlePolicy {
        max_idle_duration_seconds: 600,
        suspended_duration_seconds: 600,
        auto_resume_enabled: true,
    };
    let id = world.running(Some(wakes)).await;
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspended).await;
    world.vmm.fail_next(FakeOperation::Restore, Error::TimedOut { command: "cont".to_owned(), seconds: 30 });
    assert_eq!(world.registry.ensure_running(&id).await.unwrap_err(), Unreachable::Failed);
    let record = world.record(&id).await;
    assert_eq!(record.state, MicrovmState::Suspended);
    assert!(record.state_reason().unwrap().starts_with("The MicroVM could not be resumed"));
    world.registry.ensure_running(&id).await.unwrap();
}

#[tokio::test]
async fn a_damaged_snapshot_ends_the_microvm_and_says_which_file() {
    let world = World::new().await;
    let id = world.running(None).await;
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspended).await;
    let damaged =
        Error::Damaged { path: PathBuf::from("/data/device-state"), detail: "bad checksum".to_owned() };
    world.vmm.fail_next(FakeOperation::Restore, damaged);
    world.registry.resume(&id, None).await.unwrap();
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    assert!(ended.state_reason().unwrap().contains("/data/device-state is damaged"));
    world.assert_released(&id);
}

#[tokio::test]
async fn a_damaged_image_leaves_its_microvms_suspended_and_a_removed_version_stays_with_them() {
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspended).await;
    let (arn, version) = (image_arn("000000000000", "app"), ImageVersion::FIRST);
    let path = world.snapshots.image(&arn, version).unwrap().directory().join("memory");
    world.vmm.fail_next(FakeOperation::Restore, Error::Damaged { path, detail: "bad checksum".to_owned() });
    assert_eq!(world.registry.ensure_running(&id).await.unwrap_err(), Unreachable::Failed);
    let record = world.record(&id).await;
    assert_eq!(record.state, MicrovmState::Suspended);
    assert!(record.state_reason().unwrap().contains("memory is damaged: bad checksum"));

    world.snapshots.remove_version(&arn, version);
    world.snapshots.image(&arn, version).unwrap_err();
    world.registry.ensure_running(&id).await.unwrap();
}

#[tokio::test]
async fn a_vmm_that_dies_ends_its_microvm_only() {
    let world = World::new().await;
    let (id, other) = (world.running(None).await, world.running(None).await);
    let failed = ExitReason::Failed { status: 137, log_tail: "killed".to_owned() };
    world.vmm.vm(id.as_str()).unwrap().exit(failed);
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    assert!(ended.state_reason().unwrap().contains("ended unexpectedly (status 137)"));
    assert_eq!(world.record(&other).await.state, MicrovmState::Running);
}

#[tokio::test]
async fn the_end_of_the_app_ends_the_microvm_with_its_code() {
    let world = World::new().await;
    let id = world.running(None).await;
    world.app_exit_tx.send_replace(Some(3));
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    assert_eq!(ended.state_reason().as_deref(), Some("Container Stopped with Exit Code: 3"));
    world.assert_released(&id);
}

#[tokio::test]
async fn a_stop_of_the_service_ends_what_cannot_be_suspended() {
    let world = World::new().await;
    let id = world.running(None).await;
    world.vmm.fail_next(FakeOperation::CreateSnapshot, no_space());
    tokio::time::timeout(DEADLINE, world.registry.shutdown()).await.unwrap();
    let ended = world.record(&id).await;
    assert_eq!(ended.state, MicrovmState::Terminated);
    assert_eq!(
        ended.state_reason().as_deref(),
        Some("The service was stopped and the MicroVM could not be suspended.")
    );
    world.assert_released(&id);
}

#[tokio::test]
async fn a_guest_that_powers_itself_off_ends() {
    let world = World::new().await;
    let id = world.running(None).await;
    world.vmm.vm(id.as_str()).unwrap().exit(ExitReason::Stopped);
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    assert_eq!(ended.state_reason().as_deref(), Some("The guest powered itself off."));
    world.assert_released(&id);
}

#[tokio::test]
async fn a_guest_that_neither_sleeps_nor_goes_on_is_lost() {
    let world = World::new().await;
    let id = world.running(None).await;
    world.vmm.fail_next(FakeOperation::CreateSnapshot, no_space());
    world.vmm.fail_next(FakeOperation::Resume, Error::TimedOut { command: "cont".to_owned(), seconds: 30 });
    world.registry.suspend(&id, None).await.unwrap();
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    let reason = ended.state_reason().unwrap();
    assert!(
        reason.starts_with("The MicroVM was lost while it was being suspended: no space left"),
        "{reason}"
    );
    world.assert_released(&id);
}

#[tokio::test]
async fn a_stop_of_the_service_ends_what_is_being_launched() {
    let world = World::new().await;
    world.vmm.delay(FakeOperation::Restore, std::time::Duration::from_millis(300));
    let id = world.launch(None).await;
    tokio::time::timeout(DEADLINE, world.registry.shutdown()).await.unwrap();
    let ended = world.record(&id).await;
    assert_eq!(ended.state, MicrovmState::Terminated);
    let reason = "The service was stopped while the MicroVM was being launched.";
    assert_eq!(ended.state_reason().as_deref(), Some(reason));
    world.assert_released(&id);
}

#[tokio::test]
async fn a_microvm_without_its_image_version_ends() {
    let world = World::new().await;
    let id = world.launch_version(hearth_api::ImageVersion(2)).await;
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    assert_eq!(ended.state_reason().as_deref(), Some("The image version of the MicroVM no longer exists."));
    assert_eq!(world.registry.terminate(&id, None).await, Ok(()));
}

#[tokio::test]
async fn a_lost_payload_ends_the_launch() {
    let world = World::hooked(&["run"], 60).await;
    world.vmm.delay(FakeOperation::Restore, std::time::Duration::from_millis(300));
    let id = world.launch_with_payload("secret").await;
    world.store.put_payload(&id, b"of another key").await.unwrap();
    let ended = world.wait_for(&id, MicrovmState::Terminated).await;
    let reason = "The MicroVM could not be launched: the payload of its run hook is lost.";
    assert_eq!(ended.state_reason().as_deref(), Some(reason));
    world.assert_released(&id);
    assert!(world.hooks.lock().unwrap().called.is_empty());
}
