//! Two nodes on the same records, each of which takes the other's suspended microVMs over when it
//! likes, and drives what it believes to be its own: no microVM ever runs at both, who is no longer
//! the owner stops, and what was acknowledged is in the records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hearth_api::{AccountId, MicrovmId, MicrovmState};
use hearth_lifecycle::{Registry, recover};
use hearth_node::Node as _;
use hearth_records::{Actor, EventQuery, EventStart, Events as _, Resource, What};
use hearth_vmm::fake::FakeVmm;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::{WAKES, World};

pub(crate) const MICROVMS: usize = 50;
/// Drivers at a time.
pub(crate) const HANDS: u64 = 16;

#[derive(Clone)]
struct Node {
    registry: Arc<Registry>,
    vmm: Arc<FakeVmm>,
}

/// One who does things at random; the requests that were granted.
async fn drive(
    nodes: Vec<Arc<Registry>>,
    ids: Arc<Vec<MicrovmId>>,
    seed: u64,
    over: Arc<AtomicBool>,
) -> Vec<Granted> {
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut granted = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let node = &nodes[random.random_range(0..nodes.len())];
        let id = &ids[random.random_range(0..ids.len())];
        let request_id = format!("{seed}-{}", granted.len());
        let actor = Some(Actor { principal: "somebody".to_owned(), request_id: request_id.clone() });
        let done = match random.random_range(0..100) {
            0..40 => {
                let _ = recover::take_over(node, id).await.unwrap();
                None
            }
            40..65 => node.suspend(id, actor).await.is_ok().then_some("suspend"),
            65..85 => node.resume(id, actor).await.is_ok().then_some("resume"),
            85..99 => {
                let _ = tokio::time::timeout(Duration::from_millis(50), node.ensure_running(id)).await;
                None
            }
            _ => node.terminate(id, actor).await.is_ok().then_some("terminate"),
        };
        granted.extend(done.map(|what| Granted { what: what.to_owned(), id: id.clone(), request_id }));
        tokio::time::sleep(Duration::from_millis(random.random_range(0..4))).await;
    }
    granted
}

/// Drives by so many hands, each with a seed made of this one, for [`duration`].
pub(crate) async fn drive_by(
    hands: u64,
    nodes: &[Arc<Registry>],
    ids: &Arc<Vec<MicrovmId>>,
    seed: u64,
) -> Vec<Granted> {
    let over = Arc::new(AtomicBool::new(false));
    let driving: Vec<_> = (0..hands)
        .map(|hand| tokio::spawn(drive(nodes.to_vec(), ids.clone(), seed ^ hand, over.clone())))
        .collect();
    tokio::time::sleep(duration()).await;
    over.store(true, Ordering::SeqCst);
    let mut granted = Vec::new();
    for hand in driving {
        granted.extend(hand.await.unwrap());
    }
    granted
}

#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Granted {
    what: String,
    id: MicrovmId,
    request_id: String,
}

/// Looks all the time.
async fn watch(nodes: [Node; 2], ids: Arc<Vec<MicrovmId>>, over: Arc<AtomicBool>) -> u64 {
    let mut looks = 0;
    while !over.load(Ordering::SeqCst) {
        for id in ids.iter() {
            let runs =
                nodes.each_ref().map(|node| node.vmm.vm(id.as_str()).is_some_and(|vm| vm.is_running()));
            assert_ne!(runs, [true, true], "{id} runs at both nodes");
            looks += 1;
        }
        tokio::task::yield_now().await;
    }
    looks
}

/// `HEARTH_TWO_WRITERS_SECONDS`, or a few.
fn duration() -> Duration {
    let seconds = std::env::var("HEARTH_TWO_WRITERS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(5))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_nodes_one_has_a_microvm_at_a_time() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let world = World::new().await;
    let (registry, vmm) = world.beside("another");
    let first = Node { registry: world.registry.clone(), vmm: world.vmm.clone() };
    let nodes = [first, Node { registry, vmm }];
    let mut ids = Vec::new();
    for _ in 0..MICROVMS {
        ids.push(world.running(Some(WAKES)).await);
    }
    let (ids, over) = (Arc::new(ids), Arc::new(AtomicBool::new(false)));
    let watching = tokio::spawn(watch(nodes.clone(), ids.clone(), over.clone()));
    let registries = nodes.each_ref().map(|node| node.registry.clone());
    let granted = drive_by(HANDS, &registries, &ids, seed).await;
    over.store(true, Ordering::SeqCst);
    let looks = watching.await.unwrap();
    for node in &nodes {
        node.registry.leave().await;
    }
    let runs_at = |id: &MicrovmId| {
        let runs = |node: &&Node| node.vmm.vm(id.as_str()).is_some_and(|vm| vm.is_running());
        nodes.iter().filter(runs).map(|node| node.registry.id().to_string()).collect()
    };
    let owners = audit(&world, &ids, &granted, runs_at).await;
    println!("{} granted, {looks} looks, at the end {owners:?}", granted.len());
    assert!(owners.len() == 2, "both had some: {owners:?}");
}

/// Events are one line of states without a fork; each request that was granted and changed
/// something is in it; who runs a microVM is its owner, and the record says that it runs.
pub(crate) async fn audit(
    world: &World,
    ids: &[MicrovmId],
    granted: &[Granted],
    runs_at: impl Fn(&MicrovmId) -> Vec<String>,
) -> BTreeMap<String, usize> {
    let account = AccountId::from_stored("000000000000");
    let mut owners = BTreeMap::new();
    for id in ids {
        let query = EventQuery {
            account: &account,
            start: EventStart::After(0),
            resource: Some(id.as_str()),
            limit: u32::MAX,
        };
        let events = world.store.events(&query).await.unwrap();
        let mut state = None;
        for event in events.iter().map(|event| &event.event).filter(|event| event.what == What::State) {
            assert!(matches!(event.resource, Resource::Microvm(..)));
            assert_eq!(event.from, state, "{id}: a fork");
            state = event.to.clone();
        }
        let record = world.record(id).await;
        assert_eq!(state.as_deref(), Some(record.phase.as_str()), "{id}");
        let terminated = granted.iter().any(|granted| granted.id == *id && granted.what == "terminate");
        if terminated {
            assert_eq!(record.state, MicrovmState::Terminated, "{id}: an acknowledged end is lost");
        } else {
            assert_ne!(record.state, MicrovmState::Terminated, "{id}: {:?}", record.reason);
        }
        let runs = record.state == MicrovmState::Running;
        let expected: Vec<_> = runs.then(|| record.owner.node.to_string()).into_iter().collect();
        assert_eq!(runs_at(id), expected, "{id}: {record:?}");
        *owners.entry(record.owner.node.to_string()).or_default() += 1;
        let told = |granted: &&Granted| {
            let by = |event: &hearth_records::Event| {
                let actor = event.event.origin.actor.as_ref();
                actor.is_some_and(|actor| actor.request_id == granted.request_id)
            };
            granted.id == *id && granted.what == "terminate" && events.iter().any(by)
        };
        assert_eq!(
            granted.iter().any(|granted| told(&granted)),
            terminated,
            "{id}: the first end has its actor"
        );
    }
    owners
}
