use tokio::time::advance;

use super::*;

/// Nearly [`PACE_TIME`].
const NEARLY: Duration = Duration::from_millis(29_900);

async fn next(places: &Places) -> Option<Place> {
    timeout(PAUSE / 2, places.take()).await.ok()
}

#[tokio::test(start_paused = true)]
async fn who_has_been_without_a_request_for_longest_gives_way() {
    let places = Places::new(3);
    let (busy, first, second) = (places.take().await, places.take().await, places.take().await);
    let work = busy.activity().request();
    advance(Duration::from_millis(1)).await;
    drop(first.activity().request());
    assert!(next(&places).await.is_none(), "it is told, and has not gone yet");
    assert!(first.needed().is_cancelled(), "it has had its turn");
    assert!(next(&places).await.is_none() && !second.needed().is_cancelled(), "it is within its grace");
    advance(GRACE).await;
    assert!(next(&places).await.is_none());
    assert!(second.needed().is_cancelled());
    drop(second);
    let third = next(&places).await.unwrap();
    assert!(next(&places).await.is_none());
    assert!(!busy.needed().is_cancelled() && !third.needed().is_cancelled());
    drop((work, first, busy, third));
    assert!(lock(&places.taken).connections.is_empty(), "who has gone is forgotten");
    assert_eq!(places.free.available_permits(), 3);
}

/// Time goes on while somebody wants a place.
async fn someone_waits(places: &Places, time: Duration) -> Option<Place> {
    timeout(time, places.take()).await.ok()
}

/// A place with a request of this source, whose body is waited for.
async fn uploading(places: &Places, source: u8) -> (Place, hearth_data_plane::Busy) {
    let place = places.take().await;
    let busy = place.activity().request();
    place.progress().request([192, 0, 2, source].into());
    place.progress().wants_body(true);
    (place, busy)
}

fn cut(connections: &[(Place, hearth_data_plane::Busy)]) -> Vec<usize> {
    let is_cut = |number: &usize| connections[*number].0.cut().is_cancelled();
    (0..connections.len()).filter(is_cut).collect()
}

/// The kind: places that are held by requests which never end.
#[tokio::test(start_paused = true)]
async fn requests_that_crawl_give_way_the_oldest_of_whoever_has_most_first() {
    let places = Places::new(6);
    let mut connections = Vec::new();
    for source in [1, 2, 2, 2, 3, 4] {
        connections.push(uploading(&places, source).await);
        advance(Duration::from_millis(1)).await;
    }
    // The server is at work for one of them, and another is as fast as is asked for.
    connections[1].0.progress().wants_body(false);
    assert!(someone_waits(&places, NEARLY).await.is_none());
    assert_eq!(cut(&connections), [0; 0], "none has been waited for as long as it takes to tell");
    connections[2].0.progress().count(BYTES_PER_SECOND as usize * 40);
    assert!(someone_waits(&places, PAUSE * 4).await.is_none(), "who was told has not gone yet");
    assert_eq!(cut(&connections), [3]);
    drop(connections.remove(3));
    assert!(next(&places).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_request_has_its_grace_when_it_is_not_the_one_that_was_seen() {
    let places = Places::new(2);
    let ((first, work), second) = (uploading(&places, 1).await, uploading(&places, 2).await);
    assert!(someone_waits(&places, NEARLY).await.is_none());
    drop(work);
    advance(Duration::from_hours(1)).await;
    let _next = first.activity().request();
    assert!(someone_waits(&places, PAUSE * 4).await.is_none());
    assert!(second.0.cut().is_cancelled() && !first.cut().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_request_after_the_other_is_no_new_grace() {
    let places = Places::new(1);
    let (place, mut work) = uploading(&places, 1).await;
    for _ in 0..35 {
        assert!(someone_waits(&places, Duration::from_secs(1)).await.is_none());
        drop(work);
        work = place.activity().request();
    }
    assert!(place.cut().is_cancelled());
}

/// The kind: the last of anything is nobody's, however fast it is used.
#[tokio::test(start_paused = true)]
async fn whoever_has_a_large_part_gives_way_though_nothing_crawls_and_accounts_are_one_from_everywhere() {
    let places = Places::new(16);
    let account = hearth_api::AccountId::from_stored("000000000000");
    let mut connections = Vec::new();
    for source in 0..16 {
        connections.push(uploading(&places, source).await);
        advance(Duration::from_millis(1)).await;
        if source >= 12 {
            connections[usize::from(source)].0.progress().user().set(&account);
        }
    }
    let move_all = |connections: &[(Place, hearth_data_plane::Busy)]| {
        for (place, _) in connections {
            place.progress().count(1 << 30);
        }
    };
    for _ in 0..3 {
        move_all(&connections);
        assert!(someone_waits(&places, BUSY_GRACE / 2).await.is_none());
    }
    assert_eq!(cut(&connections), [12]);
    drop(connections.remove(12));
    let taken = next(&places).await;
    assert!(taken.is_some());
    for _ in 0..3 {
        move_all(&connections);
        assert!(someone_waits(&places, BUSY_GRACE / 2).await.is_none());
    }
    assert_eq!(cut(&connections), [0; 0], "it has no more than its part");
}
/// The kind: places that are held by many requests, each of them short.
#[tokio::test(start_paused = true)]
async fn requests_that_follow_one_another_hold_no_place_between_them() {
    let places = Places::new(2);
    let held = [places.take().await, places.take().await];
    for _ in 0..5 {
        for place in &held {
            advance(GRACE / 4).await;
            drop(place.activity().request());
        }
    }
    assert!(next(&places).await.is_none(), "who was told has not gone yet");
    assert!(held[0].needed().is_cancelled() && !held[1].needed().is_cancelled());
}

/// The kind: places that are held by what the server is at work for.
#[tokio::test(start_paused = true)]
async fn work_of_whoever_has_a_large_part_gives_way_when_nothing_else_can() {
    let places = Places::new(6);
    let mut connections = Vec::new();
    for source in [1, 2, 2, 2, 2, 3] {
        connections.push(uploading(&places, source).await);
        connections.last().unwrap().0.progress().wants_body(false);
        advance(Duration::from_millis(1)).await;
    }
    assert!(someone_waits(&places, BUSY_GRACE * 9 / 10).await.is_none());
    assert_eq!(cut(&connections), [0; 0]);
    assert!(someone_waits(&places, BUSY_GRACE / 5).await.is_none());
    assert_eq!(cut(&connections), [1]);
    drop(connections.remove(1));
    let _taken = next(&places).await.unwrap();
    assert!(someone_waits(&places, BUSY_GRACE * 2).await.is_none());
    assert_eq!(cut(&connections), [0; 0], "nobody has a large part");
}

#[tokio::test(start_paused = true)]
async fn strangers_with_a_url_of_an_account_give_way_before_its_own() {
    let places = Places::new(4);
    let account = hearth_api::AccountId::from_stored("000000000000");
    let mut connections = Vec::new();
    for source in [1, 2, 2, 2] {
        connections.push(uploading(&places, source).await);
        connections.last().unwrap().0.progress().user().set(&account);
        advance(Duration::from_millis(1)).await;
    }
    assert!(someone_waits(&places, BUSY_GRACE * 2).await.is_none());
    assert_eq!(cut(&connections), [1]);
}
