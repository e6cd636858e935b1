//! The token that forwarded requests carry, renewed before it expires.

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use tokio::sync::Mutex;

use anyhow::Context as _;

use crate::client::Client;
use crate::endpoint::auth_headers;
use crate::microvms;

/// Age at which a token is replaced, in seconds for each minute of its life. Wall-clock time, as a
/// machine may sleep meanwhile.
const RENEW_AFTER_SECONDS: i64 = 45;

/// Tokens for some ports of one microVM.
pub(crate) struct Tokens {
    client: Client,
    microvm: String,
    ports: Vec<u16>,
    /// For how long each is good.
    minutes: u32,
    newest: Mutex<Option<(Timestamp, Header)>>,
}

type Header = (HeaderName, HeaderValue);

impl Tokens {
    /// Tokens that are each good for 1 to 60 minutes.
    pub(crate) fn new(client: Client, microvm: String, ports: Vec<u16>, minutes: u32) -> Self {
        Self { client, microvm, ports, minutes, newest: Mutex::default() }
    }

    /// A token that was made just now.
    #[cfg(test)]
    pub(super) fn given(client: Client, header: Header) -> Self {
        let newest = Mutex::new(Some((Timestamp::now(), header)));
        Self { newest, ..Self::new(client, String::new(), Vec::new(), 60) }
    }

    /// The header with a token that is good for a while.
    pub(crate) async fn header(&self) -> anyhow::Result<Header> {
        let mut newest = self.newest.lock().await;
        let now = Timestamp::now();
        if let Some((made, header)) = &*newest
            && is_fresh(*made, now, self.minutes)
        {
            return Ok(header.clone());
        }
        let answer =
            microvms::create_auth_token(&self.client, &self.microvm, &self.ports, self.minutes).await?;
        let header = auth_headers(&answer)?.pop().context("the answer holds no token")?;
        *newest = Some((now, header.clone()));
        Ok(header)
    }
}

/// A clock that was set back makes a token old too.
fn is_fresh(made: Timestamp, now: Timestamp, minutes: u32) -> bool {
    (0..RENEW_AFTER_SECONDS * i64::from(minutes)).contains(&(now.as_second() - made.as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_it_expires() {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        for (minutes, renewed_after_seconds) in [(1, 45), (60, 45 * 60)] {
            assert!(is_fresh(at(0), at(0), minutes));
            assert!(is_fresh(at(0), at(renewed_after_seconds - 1), minutes));
            assert!(!is_fresh(at(0), at(renewed_after_seconds), minutes));
            assert!(!is_fresh(at(0), at(-1), minutes));
        }
    }
}
