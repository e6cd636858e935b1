//! The first words to a restored guest.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hearth_guest_protocol::{Request, client};
use hearth_vmm::{GuestStream, Vm};

use crate::error::Error;

/// How long the agent of a restored guest may take to answer.
const RESTORED_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two attempts to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
/// The guest's clock is behind by less than an exchange with the agent took; a slower one is
/// followed by another.
const CLOCK_ERROR: Duration = Duration::from_millis(20);
/// Further exchanges at most: on a host that is too busy for a quick one, the clock
/// is as good as it gets.
const CLOCK_CORRECTIONS: usize = 4;

/// Tells the agent the time and mixes host entropy into the guest's RNG; due after every restore,
/// before anything else reaches the guest. The first exchange is slow, as an emulator has to
/// translate all that it runs, so that the time in it is outdated on its arrival; the next takes a
/// millisecond or two and sets the clock right.
///
/// The connection is given back: the agent takes the next request on it, which spares the first
/// request after a restore the cold start of another connection.
pub async fn restored(vm: &Arc<dyn Vm>) -> Result<Box<dyn GuestStream>, Error> {
    let entropy: [u8; 32] = rand::random();
    let mut entropy = blake3::Hash::from(entropy).to_hex().to_string();
    let answer = async {
        let mut stream = connect_patiently(vm).await.map_err(Error::Unreachable)?;
        for _ in 0..=CLOCK_CORRECTIONS {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let sent = Instant::now();
            let request = Request::Restored {
                unix_nanos: now.as_nanos() as u64,
                entropy: std::mem::take(&mut entropy),
            };
            client::ask(&mut stream, &request).await.map_err(Error::Agent)?;
            let took = sent.elapsed();
            tracing::debug!(?took, "told the guest the time");
            if took <= CLOCK_ERROR {
                break;
            }
        }
        Ok(stream)
    };
    tokio::time::timeout(RESTORED_TIMEOUT, answer).await.unwrap_or(Err(Error::TimedOut(RESTORED_TIMEOUT)))
}

/// Connects to the agent of a guest that runs. One attempt waits for a few seconds at most, in
/// which a guest on a busy host may not have come to answer.
async fn connect_patiently(vm: &Arc<dyn Vm>) -> std::io::Result<Box<dyn GuestStream>> {
    loop {
        match vm.connect_guest().await {
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                tracing::debug!("the agent's kernel did not answer; trying again");
                // An attempt may also fail at once.
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
            connected => return connected,
        }
    }
}
