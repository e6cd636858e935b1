//! Pages of lists: `maxResults` in, `nextToken` in and out.
//!
//! A token is the time until which it is good, the key of the last item, and a MAC over both and
//! over the list that it belongs to: the caller's account, the path and the filters.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearth_api::{Error, Page};

use crate::call::Call;
use crate::config::Context;

const MAXIMUM_RESULTS: u32 = 50;
/// How long a token is good, in seconds.
const TOKEN_LIFETIME_SECONDS: i64 = 24 * 3600;
const MAC_BYTES: usize = 32;
const TIME_BYTES: usize = 8;

/// What page is asked for.
#[derive(Debug, Clone)]
pub(crate) struct PageRequest {
    /// Most items.
    pub(crate) limit: u32,
    /// Key of the last item of the page before.
    pub(crate) after: Option<String>,
    tokens: PageTokens,
}

/// Makes and reads the tokens of one list.
#[derive(Debug, Clone)]
struct PageTokens {
    key: [u8; 32],
    scope: String,
}

/// What a list calls the members of its query, and how long its pages are.
#[derive(Debug)]
pub(crate) struct PageMembers {
    pub(crate) limit: &'static str,
    pub(crate) token: &'static str,
    pub(crate) default: u32,
    pub(crate) longest: u32,
}

/// Of all lists of `lambda-microvms`.
const MEMBERS: PageMembers = PageMembers {
    limit: "maxResults",
    token: "nextToken",
    default: MAXIMUM_RESULTS,
    longest: MAXIMUM_RESULTS,
};

impl PageRequest {
    /// Reads `maxResults` (50 by default and at most; its shape was checked) and `nextToken`.
    pub(crate) fn of(context: &Context, call: &Call) -> Result<Self, Error> {
        Self::named(context, call, &MEMBERS)
    }

    /// Reads members of other names, whose shapes were checked.
    pub(crate) fn named(context: &Context, call: &Call, members: &PageMembers) -> Result<Self, Error> {
        let key = context.services.token_keys.derive("nextToken");
        let scope = call.list_scope(&[members.limit, members.token]);
        Self::read(PageTokens { key, scope }, members, call.query(members.limit), call.query(members.token))
    }

    fn read(
        tokens: PageTokens,
        members: &PageMembers,
        limit: Option<&str>,
        token: Option<&str>,
    ) -> Result<Self, Error> {
        let limit: u32 = limit.and_then(|text| text.parse().ok()).unwrap_or(members.default);
        let after = token.map(|token| tokens.open(token, now())).transpose()?;
        Ok(Self { limit: limit.clamp(1, members.longest), after, tokens })
    }

    /// Makes the page from `found`, which holds one item more than the limit when there are more.
    pub(crate) fn page<R, T>(
        &self,
        mut found: Vec<R>,
        key: impl Fn(&R) -> String,
        show: impl FnMut(R) -> T,
    ) -> Page<T> {
        let more = found.len() > self.limit as usize;
        found.truncate(self.limit as usize);
        let last = found.last().filter(|_| more);
        let next_token = last.map(|last| self.tokens.seal(&key(last), now() + TOKEN_LIFETIME_SECONDS));
        Page { items: found.into_iter().map(show).collect(), next_token }
    }

    /// Makes the page from all items, which have their keys in ascending or
    /// descending order of the list.
    pub(crate) fn slice<R, T>(
        &self,
        all: Vec<R>,
        key: impl Fn(&R) -> String,
        show: impl FnMut(R) -> T,
    ) -> Page<T> {
        let start = self.after.as_ref().map_or(0, |after| {
            all.iter().position(|item| key(item) == *after).map_or(all.len(), |position| position + 1)
        });
        let rest: Vec<R> = all.into_iter().skip(start).collect();
        self.page(rest, key, show)
    }
}

impl PageTokens {
    fn seal(&self, key: &str, good_until: i64) -> String {
        let time = good_until.to_be_bytes();
        let mac = self.mac(time, key.as_bytes());
        URL_SAFE_NO_PAD.encode([&time, mac.as_bytes().as_slice(), key.as_bytes()].concat())
    }

    fn open(&self, token: &str, now: i64) -> Result<String, Error> {
        let invalid = || Error::validation("The provided nextToken is invalid.");
        let sealed = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_| invalid())?;
        let (time, rest) = sealed.split_first_chunk::<TIME_BYTES>().ok_or_else(invalid)?;
        let (mac, key) = rest.split_first_chunk::<MAC_BYTES>().ok_or_else(invalid)?;
        // The comparison of two BLAKE3 hashes takes the same time for all.
        if self.mac(*time, key) != blake3::Hash::from_bytes(*mac) {
            return Err(invalid());
        }
        if i64::from_be_bytes(*time) < now {
            return Err(Error::validation("The provided nextToken has expired; begin again without one."));
        }
        String::from_utf8(key.to_vec()).map_err(|_| invalid())
    }

    fn mac(&self, time: [u8; TIME_BYTES], key: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&time).update(&(self.scope.len() as u64).to_be_bytes());
        hasher.update(self.scope.as_bytes()).update(key).finalize()
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(scope: &str) -> PageTokens {
        PageTokens { key: [7; 32], scope: scope.to_owned() }
    }

    #[test]
    fn following_the_tokens_visits_every_item_once() {
        for limit in ["1", "2", "3", "5", "50"] {
            let (mut seen, mut token) = (Vec::new(), None::<String>);
            loop {
                let request =
                    PageRequest::read(tokens("list"), &MEMBERS, Some(limit), token.as_deref()).unwrap();
                let page = request.slice(vec![1, 2, 3, 4, 5], ToString::to_string, |n| n);
                assert!(page.items.len() <= limit.parse::<usize>().unwrap());
                seen.extend(page.items);
                token = page.next_token;
                if token.is_none() {
                    break;
                }
            }
            assert_eq!(seen, [1, 2, 3, 4, 5], "limit {limit}");
        }
    }

    #[test]
    fn a_token_is_good_for_its_own_list_and_a_day() {
        let token = tokens("one").seal("key", 100);
        assert_eq!(tokens("one").open(&token, 100).unwrap(), "key");
        assert_eq!(tokens("one").open(&format!("{token}=="), 0).unwrap(), "key", "padding is no harm");
        assert!(tokens("one").open(&token, 101).unwrap_err().message.contains("expired"));
        assert!(tokens("other").open(&token, 0).is_err());
        for index in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            assert!(tokens("one").open(&String::from_utf8(changed).unwrap(), 0).is_err(), "{index}");
        }
        for nonsense in ["", "!", "AAAA", "\u{e9}"] {
            assert!(tokens("one").open(nonsense, 0).is_err(), "{nonsense}");
        }
    }
}
