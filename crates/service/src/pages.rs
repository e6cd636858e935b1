//! Pages of lists: a limit and a token in, a token out.
//!
//! A token is the time until which it is good, the key of the last item, and a MAC over both and
//! over the list that it belongs to: the caller's account, the operation and the filters.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// How long a token is good, in seconds.
const TOKEN_LIFETIME_SECONDS: i64 = 24 * 3600;
const MAC_BYTES: usize = 32;
const TIME_BYTES: usize = 8;

/// The secret of page tokens.
#[derive(Clone, Copy)]
pub struct PageKey(pub [u8; 32]);

impl std::fmt::Debug for PageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageKey")
    }
}

/// A list with its filters, of which a token names a place.
#[derive(Debug, Clone)]
pub struct Scope(String);

impl Scope {
    /// The list that `name` names.
    pub fn of(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It is none of ours, or one of another list.
    #[error("the token is not valid")]
    Invalid,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// Makes and reads the tokens of one list.
#[derive(Debug, Clone)]
pub struct Tokens {
    key: PageKey,
    scope: Scope,
}

impl Tokens {
    /// Tokens of the list that `scope` names.
    pub fn new(key: PageKey, scope: Scope) -> Self {
        Self { key, scope }
    }

    /// A token of the place `key` that is good for a day.
    pub fn for_a_day(&self, key: &str) -> String {
        self.seal(key, now() + TOKEN_LIFETIME_SECONDS)
    }

    /// A token of the place `key` that is good for ever, and always the same.
    pub fn lasting(&self, key: &str) -> String {
        self.seal(key, i64::MAX)
    }

    fn seal(&self, key: &str, good_until: i64) -> String {
        let time = good_until.to_be_bytes();
        let mac = self.mac(time, key.as_bytes());
        URL_SAFE_NO_PAD.encode([&time, mac.as_bytes().as_slice(), key.as_bytes()].concat())
    }

    /// The place that a token names.
    ///
    /// # Errors
    /// When it names none of this list any more.
    pub fn open(&self, token: &str) -> Result<String, BadToken> {
        self.open_at(token, now())
    }

    fn open_at(&self, token: &str, now: i64) -> Result<String, BadToken> {
        let sealed = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_| BadToken::Invalid)?;
        let (time, rest) = sealed.split_first_chunk::<TIME_BYTES>().ok_or(BadToken::Invalid)?;
        let (mac, key) = rest.split_first_chunk::<MAC_BYTES>().ok_or(BadToken::Invalid)?;
        // The comparison of two BLAKE3 hashes takes the same time for all.
        if self.mac(*time, key) != blake3::Hash::from_bytes(*mac) {
            return Err(BadToken::Invalid);
        }
        if i64::from_be_bytes(*time) < now {
            return Err(BadToken::Expired);
        }
        String::from_utf8(key.to_vec()).map_err(|_| BadToken::Invalid)
    }

    fn mac(&self, time: [u8; TIME_BYTES], key: &[u8]) -> blake3::Hash {
        let scope = &self.scope.0;
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        hasher.update(&time).update(&(scope.len() as u64).to_be_bytes());
        hasher.update(scope.as_bytes()).update(key).finalize()
    }
}

/// The page that a request asks for.
#[derive(Debug, Clone)]
pub struct Page {
    /// Most items.
    pub limit: u32,
    /// Key of the last item of the page before.
    pub after: Option<String>,
    tokens: Tokens,
}

impl Page {
    /// A page of at most `limit` items that begins where `token` says.
    ///
    /// # Errors
    /// When the token is not good.
    pub fn new(tokens: Tokens, limit: u32, token: Option<&str>) -> Result<Self, BadToken> {
        let after = token.map(|token| tokens.open(token)).transpose()?;
        Ok(Self { limit, after, tokens })
    }

    /// Cuts `found`, which holds one item more than the limit when there are more, to the page; and
    /// the token of the next one.
    pub fn cut<T>(&self, found: &mut Vec<T>, key: impl Fn(&T) -> String) -> Option<String> {
        let more = found.len() > self.limit as usize;
        found.truncate(self.limit as usize);
        found.last().filter(|_| more).map(|last| self.tokens.for_a_day(&key(last)))
    }

    /// Cuts a whole list, whose keys differ, to the page; and the token of the next one.
    pub fn slice<T>(&self, all: &mut Vec<T>, key: impl Fn(&T) -> String) -> Option<String> {
        if let Some(after) = &self.after {
            let last = all.iter().position(|item| key(item) == *after);
            all.drain(..last.map_or(all.len(), |last| last + 1));
        }
        self.cut(all, key)
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(scope: &str) -> Tokens {
        Tokens::new(PageKey([7; 32]), Scope::of(scope))
    }

    #[test]
    fn following_the_tokens_visits_every_item_once() {
        for limit in [1, 2, 3, 5, 50] {
            let (mut seen, mut token) = (Vec::new(), None::<String>);
            loop {
                let page = Page::new(tokens("list"), limit, token.as_deref()).unwrap();
                let mut items = vec![1, 2, 3, 4, 5];
                token = page.slice(&mut items, ToString::to_string);
                assert!(items.len() <= limit as usize);
                seen.extend(items);
                if token.is_none() {
                    break;
                }
            }
            assert_eq!(seen, [1, 2, 3, 4, 5], "limit {limit}");
        }
    }

    #[test]
    fn a_token_is_good_for_its_own_list_and_its_time() {
        let token = tokens("one").seal("key", 100);
        assert_eq!(tokens("one").open_at(&token, 100).unwrap(), "key");
        assert_eq!(tokens("one").open_at(&format!("{token}=="), 0).unwrap(), "key", "padding is no harm");
        assert_eq!(tokens("one").open_at(&token, 101), Err(BadToken::Expired));
        assert_eq!(tokens("other").open_at(&token, 0), Err(BadToken::Invalid));
        for index in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            assert!(tokens("one").open_at(&String::from_utf8(changed).unwrap(), 0).is_err(), "{index}");
        }
        for nonsense in ["", "!", "AAAA", "\u{e9}"] {
            assert_eq!(tokens("one").open_at(nonsense, 0), Err(BadToken::Invalid), "{nonsense}");
        }
        assert_eq!(tokens("one").lasting("key"), tokens("one").lasting("key"));
    }
}
