//! Pages of lists: `maxResults` in, `nextToken` in and out.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearth_api::{Error, Page};

use crate::call::Call;
use crate::validate::violation;

const MAXIMUM_RESULTS: u32 = 50;

/// What page is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageRequest {
    /// Most items.
    pub(crate) limit: u32,
    /// Key of the last item of the page before.
    pub(crate) after: Option<String>,
}

impl PageRequest {
    /// Reads `maxResults` (50 by default and at most) and `nextToken`.
    pub(crate) fn of(call: &Call) -> Result<Self, Error> {
        Self::read(call.query("maxResults"), call.query("nextToken"))
    }

    fn read(max_results: Option<&str>, next_token: Option<&str>) -> Result<Self, Error> {
        let limit = match max_results {
            None => MAXIMUM_RESULTS,
            Some(text) => {
                let number: i64 =
                    text.parse().map_err(|_| violation(text, "maxResults", "Member must be an integer"))?;
                if number < 1 {
                    let rule = "Member must have value greater than or equal to 1";
                    return Err(violation(number, "maxResults", rule));
                }
                if number > i64::from(MAXIMUM_RESULTS) {
                    let rule = "Member must have value less than or equal to 50";
                    return Err(violation(number, "maxResults", rule));
                }
                number as u32
            }
        };
        let after = next_token.map(decode).transpose()?;
        Ok(Self { limit, after })
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
        let next_token = found.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(key(last)));
        Page { items: found.into_iter().map(show).collect(), next_token }
    }

    /// Makes the page from all items, which have their keys in ascending or descending order of the list.
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

fn decode(token: &str) -> Result<String, Error> {
    URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Error::validation("The provided nextToken is invalid."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn following_the_tokens_visits_every_item_once() {
        for limit in ["1", "2", "3", "5", "50"] {
            let (mut seen, mut token) = (Vec::new(), None);
            loop {
                let request = PageRequest::read(Some(limit), token.as_deref()).unwrap();
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
    fn limits_outside_1_to_50_and_foreign_tokens_are_refused() {
        for bad in ["0", "51", "-1", "x", ""] {
            assert!(PageRequest::read(Some(bad), None).is_err(), "{bad}");
        }
        assert!(PageRequest::read(None, Some("!")).is_err());
        assert_eq!(PageRequest::read(None, None), Ok(PageRequest { limit: 50, after: None }));
    }
}
