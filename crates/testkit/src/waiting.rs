//! Waiting for what another task or process does.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::Instant;

/// How long a test waits for what it expects before it fails.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Looks again and again until what is looked for is there, and returns it. Panics after
/// [`DEADLINE`] with `what` and what was there instead.
pub async fn eventually<T, E: Debug>(what: &str, mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(instead) => assert!(Instant::now() < deadline, "in vain: {what}: {instead:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// [`eventually`] for a condition.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    eventually(what, async || holds().await.then_some(()).ok_or("not yet")).await;
}
