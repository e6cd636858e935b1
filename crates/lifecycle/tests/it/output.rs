//! The app's output on its way to the log.

use hearth_api::MicrovmState;
use hearth_records::{EventOrder, LogPosition, LogQuery, Logs as _, MicrovmRecord};
use hearth_testkit::waiting::eventually;

use crate::support::World;

async fn lines(world: &World, record: &MicrovmRecord) -> Vec<String> {
    let query = LogQuery {
        account: &record.account,
        group: "/aws/lambda-microvms/app",
        stream: None,
        after: LogPosition::START,
        before: LogPosition::END,
        order: EventOrder::Oldest,
        limit: 10_000,
    };
    let Ok(page) = world.store.log_events(&query).await.unwrap() else { return Vec::new() };
    assert!(page.events.iter().all(|event| event.stream.ends_with(&format!("[1.0]{}", record.id))));
    page.events.into_iter().map(|event| event.message).collect()
}

async fn wait_for_lines(world: &World, record: &MicrovmRecord, expected: &[&str]) {
    let look = async || {
        let found = lines(world, record).await;
        if found == expected { Ok(()) } else { Err(found) }
    };
    eventually(&format!("the lines are {expected:?}"), look).await;
}

fn text(pieces: &[(u64, &str)]) -> Vec<(u64, String)> {
    pieces.iter().map(|(position, text)| (*position, (*text).to_owned())).collect()
}

#[tokio::test]
async fn every_line_is_stored_once_over_suspend_and_resume() {
    let world = World::new().await;
    let id = world.running(None).await;
    let record = world.record(&id).await;
    world.output_tx.send_replace(text(&[(0, "one\ntw")]));
    wait_for_lines(&world, &record, &["one"]).await;
    world.registry.suspend(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Suspended).await;
    world.output_tx.send_replace(text(&[(0, "one\ntw"), (6, "o\nthree\n")]));
    world.registry.resume(&id, None).await.unwrap();
    world.wait_for(&id, MicrovmState::Running).await;
    wait_for_lines(&world, &record, &["one", "two", "three"]).await;
}

#[tokio::test]
async fn the_last_words_of_an_app_that_ends_are_kept_also_without_an_end_of_line() {
    let world = World::new().await;
    let id = world.running(None).await;
    let record = world.record(&id).await;
    let mut expected: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
    let many = expected.join("\n") + "\n";
    world.output_tx.send_replace(text(&[(0, &many), (many.len() as u64, "panicked")]));
    world.app_exit_tx.send_replace(Some(1));
    world.wait_for(&id, MicrovmState::Terminated).await;
    expected.push("panicked".to_owned());
    wait_for_lines(&world, &record, &expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn what_fell_out_of_the_guests_ring_is_mentioned() {
    let world = World::new().await;
    let id = world.running(None).await;
    let record = world.record(&id).await;
    world.output_tx.send_replace(text(&[(0, "one\nhalf"), (1008, "of a line\nlast\n")]));
    let missing =
        "[hearth] 1000 bytes of output are missing here: they came faster than they could be stored.";
    wait_for_lines(&world, &record, &["one", "half", missing, "of a line", "last"]).await;
}
