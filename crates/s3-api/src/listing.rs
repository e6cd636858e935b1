//! One page of a bucket's listing, of objects or of versions; pure. What is listed comes in any
//! order and one by one, and never more than a page is kept.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Order of the versions of one key: the current one, then the newest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) older: bool,
    pub(super) age: Reverse<u64>,
    pub(super) version: String,
}

impl Rank {
    /// Of what has one version only.
    pub(super) fn only() -> Self {
        Self { older: false, age: Reverse(u64::MAX), version: String::new() }
    }
}

/// What can be listed.
pub(super) trait Listed {
    fn key(&self) -> &str;
    fn rank(&self) -> Rank;
}

/// What is to be listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    /// Only what comes after this key, or after this common prefix.
    pub(super) after: &'a str,
    /// Only what comes after this version of the key `after`.
    pub(super) after_version: Option<&'a Rank>,
    pub(super) limit: usize,
}

/// A page: objects and common prefixes, together at most `limit`, in the order of keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page<T> {
    pub(super) objects: Vec<T>,
    pub(super) common_prefixes: Vec<String>,
    /// Last key or common prefix of this page, when there is more.
    pub(super) next: Option<String>,
}

/// A page while it is gathered.
#[derive(Debug)]
pub(super) struct Gathering<'a, T> {
    query: Query<'a>,
    /// The first ones of all that came, at most one more than the page has; common
    /// prefixes are `None`.
    first: BTreeMap<(String, Rank), Option<T>>,
}

impl<'a, T: Listed> Gathering<'a, T> {
    pub(super) fn new(query: Query<'a>) -> Self {
        Self { query, first: BTreeMap::new() }
    }

    /// Takes in the next one, in any order.
    pub(super) fn add(&mut self, item: T) {
        let (query, key) = (self.query, item.key());
        if !key.starts_with(query.prefix) || key < query.after {
            return;
        }
        let group = common_prefix(key, &query);
        let passed = match query.after_version {
            None => key == query.after || group == Some(query.after),
            Some(rank) => key == query.after && item.rank() <= *rank,
        };
        if passed {
            return;
        }
        let (place, item) = match group {
            Some(group) => ((group.to_owned(), Rank::only()), None),
            None => ((key.to_owned(), item.rank()), Some(item)),
        };
        // A version may have been met twice, the second time no longer as the latest one.
        let twin = Rank { older: !place.1.older, ..place.1.clone() };
        self.first.remove(&(place.0.clone(), twin));
        self.first.insert(place, item);
        // What goes is beyond this page and cannot come back into it.
        if self.first.len() > query.limit + 1 {
            self.first.pop_last();
        }
    }

    /// The page, when all have come.
    pub(super) fn page(mut self) -> Page<T> {
        let more = self.first.len() > self.query.limit;
        if more {
            self.first.pop_last();
        }
        let last = self.first.last_key_value().map(|((name, _), _)| name.clone());
        let mut page = Page { objects: Vec::new(), common_prefixes: Vec::new(), next: last.filter(|_| more) };
        for ((name, _), item) in self.first {
            match item {
                Some(item) => page.objects.push(item),
                None => page.common_prefixes.push(name),
            }
        }
        page
    }
}

/// The key up to and including the first delimiter after the prefix.
fn common_prefix<'a>(key: &'a str, query: &Query<'_>) -> Option<&'a str> {
    let delimiter = query.delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let position = key[query.prefix.len()..].find(delimiter)?;
    Some(&key[..query.prefix.len() + position + delimiter.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Listed for &str {
        fn key(&self) -> &str {
            self
        }

        fn rank(&self) -> Rank {
            Rank::only()
        }
    }

    fn page<'a>(keys: &[&'a str], query: &Query<'_>) -> Page<&'a str> {
        let mut gathering = Gathering::new(*query);
        for key in keys {
            gathering.add(*key);
            assert!(gathering.first.len() <= query.limit + 1);
        }
        gathering.page()
    }

    /// Follows the pages and returns everything listed, objects and prefixes mixed.
    fn walk(keys: &[&str], prefix: &str, delimiter: Option<&str>, limit: usize) -> Vec<String> {
        let (mut after, mut all) = (String::new(), Vec::new());
        loop {
            let page = page(keys, &Query { prefix, delimiter, after: &after, after_version: None, limit });
            let mut names: Vec<String> = page.objects.iter().map(|key| (*key).to_owned()).collect();
            names.extend(page.common_prefixes);
            names.sort_unstable();
            assert!(names.len() <= limit);
            all.extend(names);
            match page.next {
                Some(next) => after = next,
                None => return all,
            }
        }
    }

    #[test]
    fn pages_of_any_size_give_the_same_listing_whatever_the_order() {
        let mut keys = ["a", "a/b", "a/b/c", "a/d", "b", "c/é", "d"];
        for turn in 0..keys.len() {
            keys.rotate_left(turn);
            for limit in 1..9 {
                assert_eq!(walk(&keys, "", None, limit), ["a", "a/b", "a/b/c", "a/d", "b", "c/é", "d"]);
                assert_eq!(walk(&keys, "", Some("/"), limit), ["a", "a/", "b", "c/", "d"]);
                assert_eq!(walk(&keys, "a/", Some("/"), limit), ["a/b", "a/b/", "a/d"]);
                assert_eq!(walk(&keys, "x", Some("/"), limit), [] as [&str; 0]);
            }
        }
    }

    #[test]
    fn starting_inside_a_group_still_shows_the_group() {
        let query = Query { prefix: "", delimiter: Some("/"), after: "a/b", after_version: None, limit: 10 };
        assert_eq!(page(&["a/b", "a/d"], &query).common_prefixes, ["a/"]);
        let query = Query { after: "a/", ..query };
        assert_eq!(page(&["a/b", "a/d"], &query).common_prefixes, [] as [&str; 0]);
    }

    #[test]
    fn a_listing_keeps_no_more_than_a_page_of_a_large_bucket() {
        let keys: Vec<String> = (0..20_000).map(|n| format!("{:05}", n * 7919 % 20_000)).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let query = Query { prefix: "", delimiter: None, after: "00499", after_version: None, limit: 3 };
        // That it never keeps more is asserted while it gathers.
        let page = page(&keys, &query);
        assert_eq!((page.objects, page.next.as_deref()), (vec!["00500", "00501", "00502"], Some("00502")));
    }
}
