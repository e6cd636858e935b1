//! Pages of ListMicrovms as they were answered, for those who ask again while no microVM changes.
//!
//! Who polls a list gets the same page over and over; to read and write its fifty records each
//! time costs ten times what the rest of the request does. The request is verified and
//! authorised every time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hearth_records::Microvms;
use hearth_service::Asked;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// Memory for pages, in bytes; a page of 50 items has 13 KB.
const ROOM_BYTES: u64 = 8 << 20;
/// Pages that the cache is laid out for.
const PAGES: usize = 1024;
/// How long a page is given again. A token in it is good for so much less than a day.
const LIFETIME: Duration = Duration::from_mins(1);

/// Pages as they were answered.
#[derive(Debug)]
pub(crate) struct RecentPages(Cache<String, Page, Size>);

#[derive(Debug, Clone)]
struct Page {
    /// [`Microvms::microvm_changes`] before it was read.
    changes: u64,
    good_until: Instant,
    body: Bytes,
}

#[derive(Debug, Clone)]
struct Size;

impl Weighter<String, Page> for Size {
    fn weight(&self, key: &String, page: &Page) -> u64 {
        (key.len() + page.body.len() + size_of::<Page>()) as u64
    }
}

/// The question that a page answers.
#[derive(Debug)]
pub(crate) struct Question {
    name: String,
    changes: u64,
}

impl RecentPages {
    pub(crate) fn new() -> Self {
        Self(Cache::with_weighter(PAGES, ROOM_BYTES, Size))
    }

    /// What a call asks; to be taken before anything is read.
    pub(crate) fn question(store: &dyn Microvms, asked: &Asked) -> Question {
        Question { name: asked.question(), changes: store.microvm_changes() }
    }

    /// The answer that was given before, if it would be the same now.
    pub(crate) fn get(&self, question: &Question, now: Instant) -> Option<Bytes> {
        let page = self.0.get(&question.name)?;
        (page.changes == question.changes && now < page.good_until).then_some(page.body)
    }

    /// Keeps an answer.
    pub(crate) fn put(&self, question: Question, body: Bytes, now: Instant) {
        let Question { name, changes } = question;
        self.0.insert(name, Page { changes, good_until: now + LIFETIME, body });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_given_again_until_something_changes_or_a_minute_has_passed() {
        let (pages, now) = (RecentPages::new(), Instant::now());
        let question = |name: &str, changes| Question { name: name.to_owned(), changes };
        pages.put(question("one", 7), Bytes::from_static(b"page"), now);
        let get = |name: &str, changes, seconds| {
            pages.get(&question(name, changes), now + Duration::from_secs(seconds))
        };
        assert_eq!(get("one", 7, 59).as_deref(), Some(b"page".as_slice()));
        assert_eq!(get("one", 7, 60), None);
        assert_eq!(get("one", 8, 0), None);
        assert_eq!(get("other", 7, 0), None);
    }

    #[test]
    fn pages_take_no_more_room_than_they_may() {
        let pages = RecentPages::new();
        for number in 0..10_000 {
            let question = Question { name: number.to_string(), changes: 0 };
            pages.put(question, Bytes::from(vec![0; 13_000]), Instant::now());
        }
        assert!(pages.0.weight() <= ROOM_BYTES);
        assert!(pages.0.len() > 100);
    }
}
