use tokio::time::{advance, timeout};

use super::*;

fn places(all: usize) -> Places {
    Places::new(Limits { all, microvm: None, account: None }, CancellationToken::new())
}

fn prove(place: &Place, microvm: &str, account: &str) -> Result<(), Refusal> {
    place.prove(&MicrovmId::from_stored(microvm), || account.into())
}

/// Whether a place can be had while `place`'s holder gives it up if it is needed.
async fn needs(places: &Places, place: Place) -> Place {
    let holder = async {
        tokio::select! {
            () = place.needed.cancelled() => {}
            () = place.gives_way.cancelled() => {}
        }
        drop(place);
    };
    tokio::join!(places.take(), holder).0
}

#[tokio::test(start_paused = true)]
async fn the_oldest_without_a_token_gives_up_its_place() {
    let places = places(3);
    let (kept, oldest, other) = (places.take().await, places.take().await, places.take().await);
    prove(&kept, "m", "a").unwrap();
    let began = Instant::now();
    let fourth = needs(&places, oldest).await;
    assert_eq!(began.elapsed(), GRACE, "everybody has a moment to show a token");
    assert!(!kept.gives_way.is_cancelled() && !other.needed.is_cancelled());
    // The next is not the one who came last.
    let fifth = needs(&places, other).await;
    assert!(!fourth.needed.is_cancelled());
    assert_eq!(places.lock().taken, 3);
    drop((kept, fourth, fifth));
    let state = places.lock();
    assert_eq!((state.taken, state.unproven.len(), state.proven.len()), (0, 0, 0));
    assert!(state.of_microvm.is_empty() && state.of_account.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_has_shown_a_token_and_is_busy_keeps_its_place() {
    let places = places(1);
    let kept = places.take().await;
    prove(&kept, "m", "a").unwrap();
    let busy = kept.busy();
    advance(GRACE * 10).await;
    assert!(timeout(GRACE * 10, places.take()).await.is_err());
    assert!(!kept.needed.is_cancelled() && !kept.gives_way.is_cancelled());
    drop(busy);
    needs(&places, kept).await;
}

#[tokio::test(start_paused = true)]
async fn the_longest_idle_of_the_account_with_the_most_gives_way() {
    let places = places(5);
    let mut taken = Vec::new();
    for (microvm, account) in
        [("v", "victim"), ("x", "greedy"), ("y", "greedy"), ("y", "greedy"), ("w", "other")]
    {
        let place = places.take().await;
        prove(&place, microvm, account).unwrap();
        taken.push(place);
    }
    // Of the greedy ones the first is busy, and the second was so until now.
    let busy = taken[1].busy();
    advance(Duration::from_secs(1)).await;
    drop(taken[2].busy());
    let began = Instant::now();
    let next = needs(&places, taken.remove(3)).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(taken.iter().all(|place| !place.gives_way.is_cancelled()));
    // Whoever comes then waits for the newcomer's token, and takes his place if he has none.
    let newcomer = needs(&places, next).await;
    assert_eq!(began.elapsed(), GRACE);
    prove(&newcomer, "n", "new").unwrap();
    let _kept = newcomer.busy();
    needs(&places, taken.remove(2)).await;
    drop(busy);
}

#[tokio::test(start_paused = true)]
async fn one_token_has_a_part_of_the_places_and_one_account_too() {
    let limits = Limits { all: 8, microvm: Some(2), account: Some(3) };
    let places = Places::new(limits, CancellationToken::new());
    let mut taken = Vec::new();
    let mut connect = async |microvm: &str, account: &str| {
        let place = places.take().await;
        let verdict = prove(&place, microvm, account);
        assert_eq!(prove(&place, microvm, account), verdict, "asked again");
        if verdict.is_ok() {
            taken.push(place);
        }
        verdict
    };
    let too_many = Err(Refusal::TooManyRequests);
    let mut verdicts = Vec::new();
    for (microvm, account) in
        [("a", "1"), ("a", "1"), ("a", "1"), ("b", "1"), ("b", "1"), ("c", "2"), ("c", "2")]
    {
        verdicts.push(connect(microvm, account).await);
    }
    assert_eq!(verdicts, [Ok(()), Ok(()), too_many, Ok(()), too_many, Ok(()), Ok(())]);
    taken.remove(0);
    let place = places.take().await;
    assert_eq!(prove(&place, "a", "1"), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_becomes_free_is_taken_at_once() {
    let places = places(2);
    let (first, _second) = (places.take().await, places.take().await);
    let began = Instant::now();
    let leaving = async { drop(first) };
    let (third, ()) = tokio::join!(places.take(), leaving);
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(!third.needed.is_cancelled());
}
