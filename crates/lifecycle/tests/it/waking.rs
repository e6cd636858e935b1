//! Requests that meet a microVM which is suspended, woken, and suspended again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hearth_api::MicrovmState;
use hearth_node::{Life as _, Refusal};

use crate::support::{WAKES, World};

/// Suspended as soon as it runs, many times, while clients ask for it without a pause: each is
/// given a life in which its request may begin, and no life ends while a request is under way.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_held_however_often_their_microvm_is_suspended_meanwhile() {
    const SUSPENDS: usize = 25;
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    let (suspends, cut) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let client = async |number: u64| {
        let mut requests = 0;
        while suspends.load(Ordering::SeqCst) < SUSPENDS {
            let running = world.registry.ensure_running(&id).await.expect("it can be woken at any time");
            let Some(mut passing) = running.enter() else { continue };
            tokio::time::sleep(Duration::from_millis(number % 3)).await;
            passing.answered();
            tokio::time::sleep(Duration::from_millis(number % 2)).await;
            let ended = running.ended();
            if futures::poll!(std::pin::pin!(ended)).is_ready() {
                cut.fetch_add(1, Ordering::SeqCst);
            }
            requests += 1;
        }
        requests
    };
    let suspending = async {
        while suspends.load(Ordering::SeqCst) < SUSPENDS {
            match world.registry.suspend(&id, None).await {
                Ok(()) => drop(suspends.fetch_add(1, Ordering::SeqCst)),
                Err(Refusal::Busy(MicrovmState::Pending)) => {}
                Err(other) => panic!("{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let clients = futures::future::join_all((0..8).map(client));
    let (requests, ()) = futures::future::join(clients, suspending).await;
    assert!(requests.iter().all(|requests| *requests > 0), "{requests:?}");
    assert_eq!(cut.load(Ordering::SeqCst), 0, "requests were cut");
}

#[tokio::test]
async fn a_suspend_waits_for_a_request_under_way_and_holds_the_next() {
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    let first = world.registry.ensure_running(&id).await.unwrap();
    let passing = first.enter().unwrap();
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspending).await;
    let next = world.registry.ensure_running(&id);
    tokio::pin!(next);
    tokio::select! {
        biased;
        _ = &mut next => panic!("it runs"),
        () = tokio::time::sleep(Duration::from_millis(50)) => {}
    }
    assert!(first.enter().is_none());
    assert_eq!(world.record(&id).await.state, MicrovmState::Suspending);
    drop(passing);
    let second = next.await.unwrap();
    assert_eq!((first.generation(), second.generation()), (1, 2));
    assert!(second.enter().is_some());
}

/// A termination waits for nobody.
#[tokio::test]
async fn a_termination_cuts_the_wait_of_a_suspend_short() {
    let world = World::new().await;
    let id = world.running(Some(WAKES)).await;
    let running = world.registry.ensure_running(&id).await.unwrap();
    let _passing = running.enter().unwrap();
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspending).await;
    let began = std::time::Instant::now();
    world.registry.terminate(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Terminated).await;
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    world.assert_released(&id);
}
