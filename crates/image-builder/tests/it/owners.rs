//! Builds that are somebody else's: nothing of them is published or taken away here.

use std::sync::atomic::Ordering;

use hearth_api::{BuildState, ImageArn, ImageState};
use hearth_records::{
    self as records, Cause, EventQuery, EventStart, Events as _, Images as _, NodeId, Origin, Owner, Written,
};
use hearth_testkit::waiting::until;

use crate::world::{Building, NODE, World};

const ACCOUNT: &str = "111111111111";
const OTHER: &str = "other";

/// Claims a build that is under way for a node, as one that starts does.
async fn claim(world: &World, building: &Building, node: &str) -> records::Building {
    let was = world.store.building(&building.build).await.unwrap().unwrap();
    let claimed = was.claimed_by(&NodeId::from_stored(node));
    let written = world.store.change_build(&was, &claimed, &Origin::of(Cause::Host)).await.unwrap();
    assert_eq!(written, Written::Yes);
    claimed
}

/// What is told of an image: of what, from what, to what, and why.
async fn told(world: &World, arn: &ImageArn) -> Vec<String> {
    let query = EventQuery {
        account: &arn.account,
        start: EventStart::After(0),
        resource: Some(&arn.to_string()),
        limit: 100,
    };
    let events = world.store.events(&query).await.unwrap().into_iter().map(|event| event.event);
    events
        .map(|event| {
            let kind = event.resource.parts().0.trim_start_matches("microvm-image").trim_matches('-');
            let [from, to] = [&event.from, &event.to].map(|text| text.as_deref().unwrap_or("-"));
            format!("{kind} {} {from} {to} {}", event.what.as_str(), event.origin.cause.as_str())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_was_claimed_by_others_ends_and_publishes_nothing() {
    let Some(world) = World::new(0x4ff7_0000, None, |config| config.concurrent_builds = 1).await else {
        return;
    };
    for (name, node) in [("theirs", OTHER), ("ours", NODE)] {
        let app = world.build(ACCOUNT, name, "FROM prepared:1\n").await;
        until("it builds", async || world.runs(&app)).await;
        let waiting = world.build(ACCOUNT, &format!("{name}-waiting"), "FROM prepared:1\n").await;
        assert!(world.scratch(&app).join("image/disk.raw").exists());
        assert!(world.networks.load(Ordering::SeqCst) == 1);

        let waits = claim(&world, &waiting, node).await;
        let claimed = claim(&world, &app, node).await;
        until("nothing of it runs", async || world.networks.load(Ordering::SeqCst) == 0).await;
        for (building, claimed) in [(&app, claimed), (&waiting, waits)] {
            let scratch = world.scratch(building);
            until("it has ended", async || !scratch.exists()).await;
            assert_eq!(world.store.building(&building.build).await.unwrap(), Some(claimed));
            let log = world.log(&building.arn).await;
            assert!(!log.iter().any(|line| line.contains("deleted")), "{log:?}");
        }
        assert!(!world.runs(&waiting), "it has not begun");
        assert!(!world.version_directory(&app.arn).exists());
    }
    world.builder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_ends_what_its_own_node_left_and_nobody_elses() {
    let Some(world) = World::new(0x4ff6_0000, None, |_| ()).await else { return };
    for (name, node, state) in [
        ("own", NODE, BuildState::Failed),
        ("old", NodeId::nobody().as_str(), BuildState::Failed),
        ("theirs", OTHER, BuildState::Pending),
    ] {
        let new = world.recorded(ACCOUNT, name, "FROM prepared:1\n", node).await;
        let directory = world.version_directory(&new.image.arn);
        std::fs::create_dir_all(&directory).unwrap();
        world.builder.recover().await.unwrap();

        let found = world.store.building(&new.build.id).await.unwrap().unwrap();
        let fails = state == BuildState::Failed;
        assert_eq!((found.build.state, directory.exists()), (state, !fails), "{name}");
        let mut expected =
            vec!["STATE - CREATING API", "version STATE - PENDING API", "build STATE - PENDING API"];
        let owner = format!("OWNER {node} {NODE} HOST");
        let owners = ["build", "version"].map(|kind| format!("{kind} {owner}"));
        if fails {
            assert_eq!(found.build.owner, Owner { node: NodeId::from_stored(NODE), epoch: 2 });
            assert_eq!(found.image.state, ImageState::CreateFailed);
            expected.extend(owners.iter().map(String::as_str));
            expected.extend([
                "build STATE PENDING FAILED HOST",
                "version STATE PENDING FAILED HOST",
                "STATE CREATING CREATE_FAILED HOST",
            ]);
        } else {
            assert_eq!(found.build.owner, new.build.owner);
        }
        let told = told(&world, &new.image.arn).await;
        assert_eq!(told.iter().map(|line| line.trim_start()).collect::<Vec<_>>(), expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_tells_what_began_and_ended_it() {
    let Some(world) = World::new(0x4ff5_0000, None, |_| ()).await else { return };
    let wrong = world.build(ACCOUNT, "wrong", "FROM prepared:1\nRUN <<EOF\nnever ends\n").await;
    let failed = async || world.record(&wrong).await.state == BuildState::Failed;
    until("the mistake is told", failed).await;
    assert!(told(&world, &wrong.arn).await.contains(&"build STATE PENDING FAILED BUILD".to_owned()));

    let stopped = world.build(ACCOUNT, "stopped", "FROM prepared:1\n").await;
    until("it builds", async || world.runs(&stopped)).await;
    world.builder.shutdown().await;
    let told = told(&world, &stopped.arn).await;
    for line in ["PENDING IN_PROGRESS BUILD", "IN_PROGRESS FAILED OPERATOR"] {
        for kind in ["build", "version"] {
            assert!(told.contains(&format!("{kind} STATE {line}")), "{told:?}");
        }
    }
    assert_eq!(told.last().unwrap().trim_start(), "STATE CREATING CREATE_FAILED OPERATOR");
}
