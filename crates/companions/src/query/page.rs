//! Pages of lists.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::shape::Input;
use super::xml::Xml;
use super::{Code, Refusal};

/// Items of a page when `MaxItems` is not given (IAM API reference).
const DEFAULT_ITEMS: usize = 100;

/// Bytes of a page's items, as far as they are weighed. A page may always be shorter than it is
/// asked to be (IAM API reference, `MaxItems`); a list of a thousand long policies would be held in
/// memory while a slow client reads it.
const MAXIMUM_BYTES: usize = 512 << 10;

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    marker: Option<String>,
}

impl<T> Page<T> {
    /// The page that `Marker` and `MaxItems` ask for, in the order of the keys. The marker is the
    /// key of the last item, so a list that changes meanwhile neither repeats nor omits what stays.
    /// Keys must have less than 240 bytes, because a marker must have at most 320 characters.
    pub(crate) fn of(
        items: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> String,
        input: &Input,
    ) -> Result<Self, Refusal> {
        Self::of_weighed(items, key, |_| 0, input)
    }

    /// As [`Self::of`], with the bytes that the long part of an item takes; the page ends
    /// before there are too many.
    pub(crate) fn of_weighed(
        items: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> String,
        bytes: impl Fn(&T) -> usize,
        input: &Input,
    ) -> Result<Self, Refusal> {
        let after = input.get("Marker").map(key_of).transpose()?;
        let limit = input.number("MaxItems").map_or(DEFAULT_ITEMS, |limit| limit as usize);
        let keyed = items.into_iter().map(|item| (key(&item), item));
        let mut rest: Vec<(String, T)> =
            keyed.filter(|(key, _)| after.as_ref().is_none_or(|after| key > after)).collect();
        rest.sort_by(|(one, _), (other, _)| one.cmp(other));
        let total = rest.iter().scan(0, |total: &mut usize, (_, item)| {
            *total += bytes(item);
            Some(*total)
        });
        let fitting = total.take_while(|total| *total <= MAXIMUM_BYTES).count();
        let limit = limit.min(fitting.max(1));
        let more = rest.len() > limit;
        rest.truncate(limit);
        let marker = rest.last().filter(|_| more).map(|(key, _)| URL_SAFE_NO_PAD.encode(key));
        Ok(Self { items: rest.into_iter().map(|(_, item)| item).collect(), marker })
    }

    /// Adds `IsTruncated` and `Marker`.
    pub(crate) fn end(&self, xml: Xml) -> Xml {
        xml.text("IsTruncated", self.marker.is_some()).optional("Marker", self.marker.as_ref())
    }
}

fn key_of(marker: &str) -> Result<String, Refusal> {
    let decoded = URL_SAFE_NO_PAD.decode(marker).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.ok_or_else(|| Refusal::new(Code::ValidationError, format!("Invalid Marker: {marker}")))
}

#[cfg(test)]
mod tests {
    use super::super::form::Form;
    use super::*;

    fn page(items: &[&'static str], query: &str) -> Result<Page<&'static str>, Refusal> {
        let input = Input::check(Form::read(query, b"").unwrap(), &[]).unwrap();
        Page::of(items.to_vec(), |item| (*item).to_owned(), &input)
    }

    #[test]
    fn pages_follow_each_other_also_when_the_list_changes() {
        let first = page(&["c", "a", "b"], "MaxItems=2").unwrap();
        assert_eq!(first.items, ["a", "b"]);
        let query = format!("MaxItems=2&Marker={}", first.marker.unwrap());
        let second = page(&["aa", "d", "c"], &query).unwrap();
        assert_eq!((second.items, second.marker), (vec!["c", "d"], None));
        assert!(page(&["a"], "Marker=*").is_err());
    }

    /// The kind: an answer whose size others' input decides.
    #[test]
    fn a_page_ends_before_it_is_long() {
        let input = Input::check(Form::read("MaxItems=1000", b"").unwrap(), &[]).unwrap();
        let of = |bytes: usize| {
            let page = Page::of_weighed(0..500, |n| format!("{n:03}"), |_| bytes, &input).unwrap();
            (page.items.len(), page.marker.is_some())
        };
        assert_eq!(of(100), (500, false));
        assert_eq!(of(24 << 10), (21, true));
        assert_eq!(of(1 << 20), (1, true), "one at least, or the list would not go on");
    }
}
