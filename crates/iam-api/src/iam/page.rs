//! Pages of lists.

use hearth_service::pages::{Page as Cut, Tokens};
use hearth_service::{Error, Xml};

use super::Call;
use crate::errors::VALIDATION_ERROR;

/// Items of a page when `MaxItems` is not given (IAM API reference).
const DEFAULT_ITEMS: u32 = 100;

/// Bytes of a page's items, as far as they are weighed. A page may always be shorter than it is
/// asked to be (IAM API reference, `MaxItems`); a list of a thousand long policies would be held in
/// memory while a slow client reads it.
const MAXIMUM_BYTES: usize = 512 << 10;

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    marker: Option<String>,
}

impl<T> Page<T> {
    /// The page that `Marker` and `MaxItems` ask for, in the order of the keys. The marker names
    /// the key of the last item, so a list that changes meanwhile neither repeats nor omits what
    /// stays. Keys must have at most 200 bytes, because a marker must have at most 320 characters.
    pub(super) fn of(
        items: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> String,
        call: &Call<'_>,
    ) -> Result<Self, Error> {
        Self::of_weighed(items, key, |_| 0, call)
    }

    /// As [`Self::of`], with the bytes that the long part of an item takes; the page ends before
    /// there are too many.
    pub(super) fn of_weighed(
        items: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> String,
        bytes: impl Fn(&T) -> usize,
        call: &Call<'_>,
    ) -> Result<Self, Error> {
        let tokens = Tokens::new(call.api.page_key, call.scope(&["Marker", "MaxItems"]));
        let (limit, marker) = (call.input().number("MaxItems"), call.input().get("Marker"));
        Self::cut(items, key, bytes, (tokens, limit, marker))
    }

    fn cut(
        items: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> String,
        bytes: impl Fn(&T) -> usize,
        (tokens, limit, marker): (Tokens, Option<u32>, Option<&str>),
    ) -> Result<Self, Error> {
        let mut cut = Cut::new(tokens, limit.unwrap_or(DEFAULT_ITEMS), marker).map_err(|_| {
            Error::new(VALIDATION_ERROR, format!("Invalid Marker: {}", marker.unwrap_or_default()))
        })?;
        let keyed = items.into_iter().map(|item| (key(&item), item));
        let mut rest: Vec<(String, T)> =
            keyed.filter(|(key, _)| cut.after.as_ref().is_none_or(|after| key > after)).collect();
        rest.sort_by(|(one, _), (other, _)| one.cmp(other));
        let total = rest.iter().scan(0, |total: &mut usize, (_, item)| {
            *total += bytes(item);
            Some(*total)
        });
        let fitting = total.take_while(|total| *total <= MAXIMUM_BYTES).count().max(1);
        cut.limit = cut.limit.min(u32::try_from(fitting).unwrap_or(u32::MAX));
        let marker = cut.cut(&mut rest, |(key, _)| key.clone());
        Ok(Self { items: rest.into_iter().map(|(_, item)| item).collect(), marker })
    }

    /// Adds `IsTruncated` and `Marker`.
    pub(super) fn end(&self, xml: Xml) -> Xml {
        xml.text("IsTruncated", self.marker.is_some()).optional("Marker", self.marker.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use hearth_service::pages::{PageKey, Scope};

    use super::*;

    fn asked(limit: u32, marker: Option<&str>) -> (Tokens, Option<u32>, Option<&str>) {
        (Tokens::new(PageKey([1; 32]), Scope::of("list")), Some(limit), marker)
    }

    fn page(items: &[&'static str], marker: Option<&str>) -> Result<Page<&'static str>, Error> {
        Page::cut(items.to_vec(), |item| (*item).to_owned(), |_| 0, asked(2, marker))
    }

    #[test]
    fn pages_follow_each_other_also_when_the_list_changes() {
        let first = page(&["c", "a", "b"], None).unwrap();
        assert_eq!(first.items, ["a", "b"]);
        let second = page(&["aa", "d", "c"], first.marker.as_deref()).unwrap();
        assert_eq!((second.items, second.marker), (vec!["c", "d"], None));
        assert!(page(&["a"], Some("*")).is_err());
    }

    #[test]
    fn a_marker_is_no_longer_than_it_may_be() {
        let long = ["a".repeat(200), "b".to_owned(), "c".to_owned()];
        let page = Page::cut(long, Clone::clone, |_| 0, asked(1, None)).unwrap();
        assert!(page.marker.unwrap().len() <= 320);
    }

    /// The kind: an answer whose size others' input decides.
    #[test]
    fn a_page_ends_before_it_is_long() {
        let of = |bytes: usize| {
            let page = Page::cut(0..500, |n| format!("{n:03}"), |_| bytes, asked(1000, None)).unwrap();
            (page.items.len(), page.marker.is_some())
        };
        assert_eq!(of(100), (500, false));
        assert_eq!(of(24 << 10), (21, true));
        assert_eq!(of(1 << 20), (1, true), "one at least, or the list would not go on");
    }
}
