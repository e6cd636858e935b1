//! The same with two processes, each with a database connection and VMs of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;

use async_trait::async_trait;
use hearth_api::{MicrovmId, MicrovmState};
use hearth_vmm::fake::{FakeOperation, Schedule};

use crate::support::{WAKES, World};
use crate::two_writers::{Granted, HANDS, MICROVMS, audit, drive_by};

/// The data directory and the name of the node, for a process that is one of the two.
const ROLE: &str = "HEARTH_TWO_PROCESSES";
const NODES: [&str; 2] = ["one", "another"];

/// Sees to it that only one node at a time lets a microVM run: for each that runs there is a file.
#[derive(Debug)]
struct Witness {
    root: PathBuf,
    node: String,
}

fn runs(root: &Path) -> PathBuf {
    root.join("runs")
}

#[async_trait]
impl Schedule for Witness {
    async fn before(&self, name: &str, operation: FakeOperation) -> hearth_vmm::Result<()> {
        let file = runs(&self.root).join(name);
        let own = || std::fs::read_to_string(&file).is_ok_and(|node| node == self.node);
        match operation {
            FakeOperation::Resume if !own() => {
                let aside = file.with_extension(&self.node);
                std::fs::write(&aside, &self.node).unwrap();
                // Unlike a rename this fails where there is a file.
                if std::fs::hard_link(&aside, &file).is_err() {
                    let other = std::fs::read_to_string(&file);
                    std::fs::write(self.root.join("violation"), format!("{name} runs at {other:?} too"))
                        .unwrap();
                }
                std::fs::remove_file(&aside).unwrap();
            }
            FakeOperation::Kill if own() => std::fs::remove_file(&file).unwrap(),
            _ => {}
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_processes_one_has_a_microvm_at_a_time() {
    if let Ok(role) = std::env::var(ROLE) {
        let (node, root) = role.split_once(' ').unwrap();
        return be(node, Path::new(root)).await;
    }
    let world = World::new().await;
    let mut ids = Vec::new();
    for _ in 0..MICROVMS {
        let id = world.running(Some(WAKES)).await;
        world.registry.suspend(&id, None).await.unwrap();
        world.wait_for(&id, MicrovmState::Suspended).await;
        ids.push(id);
    }
    world.registry.leave().await;
    let root = world.root();
    std::fs::create_dir(runs(root)).unwrap();
    std::fs::write(root.join("ids"), serde_json::to_string(&ids).unwrap()).unwrap();
    for mut process in NODES.map(|node| begin(node, root)) {
        assert!(process.wait().unwrap().success());
    }
    let violation = std::fs::read_to_string(root.join("violation"));
    assert!(violation.is_err(), "{violation:?}");
    let mut granted = Vec::new();
    for node in NODES {
        let done: Vec<Granted> = serde_json::from_slice(&std::fs::read(root.join(node)).unwrap()).unwrap();
        assert!(!done.is_empty(), "{node} did nothing");
        granted.extend(done);
    }
    let runs_at =
        |id: &MicrovmId| std::fs::read_to_string(runs(root).join(id.as_str())).into_iter().collect();
    // Which has read nothing yet.
    let auditor = World::at(root, "auditor").await;
    let owners = audit(&auditor, &ids, &granted, runs_at).await;
    println!("{} granted, at the end {owners:?}", granted.len());
    assert!(NODES.iter().all(|node| owners.contains_key(*node)), "both had some: {owners:?}");
}

/// Starts this test in another process, as one of the nodes.
fn begin(node: &str, root: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "two_processes::of_two_processes_one_has_a_microvm_at_a_time"])
        .env(ROLE, format!("{node} {}", root.display()))
        .spawn()
        .unwrap()
}

/// One of the two.
async fn be(node: &str, root: &Path) {
    let world = World::at(root, node).await;
    world.vmm.obey(Arc::new(Witness { root: root.to_owned(), node: node.to_owned() }));
    let ids: Vec<MicrovmId> = serde_json::from_slice(&std::fs::read(root.join("ids")).unwrap()).unwrap();
    let seed: u64 = rand::random();
    println!("{node}: seed {seed}");
    let granted = drive_by(HANDS / 2, std::slice::from_ref(&world.registry), &Arc::new(ids), seed).await;
    world.registry.leave().await;
    std::fs::write(root.join(node), serde_json::to_string(&granted).unwrap()).unwrap();
}
