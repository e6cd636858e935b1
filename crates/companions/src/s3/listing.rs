//! One page of a bucket's listing, of objects or of versions; pure.

use std::collections::BTreeSet;

use super::disk::ObjectRecord;
use super::versions::ListedVersion;

/// What can be listed.
pub(super) trait Listed {
    fn key(&self) -> &str;
}

impl Listed for ObjectRecord {
    fn key(&self) -> &str {
        &self.key
    }
}

impl Listed for ListedVersion {
    fn key(&self) -> &str {
        &self.record.key
    }
}

/// What is to be listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a> {
    pub(super) prefix: &'a str,
    pub(super) delimiter: Option<&'a str>,
    /// Only what comes after this key, or after this common prefix.
    pub(super) after: &'a str,
    pub(super) limit: usize,
}

/// A page: objects and common prefixes, together at most `limit`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page<'a, T> {
    pub(super) objects: Vec<&'a T>,
    pub(super) common_prefixes: BTreeSet<&'a str>,
    /// Last key or common prefix of this page, when there is more.
    pub(super) next: Option<&'a str>,
}

/// The page of `records` (in the order of their keys) that `query` asks for.
pub(super) fn page<'a, T: Listed>(records: &'a [T], query: &Query<'_>) -> Page<'a, T> {
    let mut page = Page { objects: Vec::new(), common_prefixes: BTreeSet::new(), next: None };
    let mut last = None;
    for record in records {
        let key = record.key();
        if !key.starts_with(query.prefix) || key <= query.after {
            continue;
        }
        let group = common_prefix(key, query);
        if group.is_some_and(|group| group == query.after || page.common_prefixes.contains(group)) {
            continue;
        }
        if page.objects.len() + page.common_prefixes.len() == query.limit {
            page.next = last;
            break;
        }
        match group {
            Some(group) => {
                page.common_prefixes.insert(group);
            }
            None => page.objects.push(record),
        }
        last = Some(group.unwrap_or(key));
    }
    page
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

    fn records(keys: &[&str]) -> Vec<ObjectRecord> {
        let record = |key: &&str| ObjectRecord::new((*key).to_owned(), 0, String::new());
        keys.iter().map(record).collect()
    }

    /// Follows the pages and returns everything listed, objects and prefixes mixed.
    fn walk(records: &[ObjectRecord], prefix: &str, delimiter: Option<&str>, limit: usize) -> Vec<String> {
        let (mut after, mut all) = (String::new(), Vec::new());
        loop {
            let page = page(records, &Query { prefix, delimiter, after: &after, limit });
            let mut names: Vec<&str> = page.objects.iter().map(|record| record.key.as_str()).collect();
            names.extend(page.common_prefixes);
            names.sort_unstable();
            assert!(names.len() <= limit);
            all.extend(names.into_iter().map(str::to_owned));
            match page.next {
                Some(next) => next.clone_into(&mut after),
                None => return all,
            }
        }
    }

    #[test]
    fn pages_of_any_size_give_the_same_listing() {
        let records = records(&["a", "a/b", "a/b/c", "a/d", "b", "c/é", "d"]);
        for limit in 1..9 {
            assert_eq!(walk(&records, "", None, limit), ["a", "a/b", "a/b/c", "a/d", "b", "c/é", "d"]);
            assert_eq!(walk(&records, "", Some("/"), limit), ["a", "a/", "b", "c/", "d"]);
            assert_eq!(walk(&records, "a/", Some("/"), limit), ["a/b", "a/b/", "a/d"]);
            assert_eq!(walk(&records, "x", Some("/"), limit), [] as [&str; 0]);
        }
    }

    #[test]
    fn starting_inside_a_group_still_shows_the_group() {
        let records = records(&["a/b", "a/d"]);
        let query = Query { prefix: "", delimiter: Some("/"), after: "a/b", limit: 10 };
        assert_eq!(page(&records, &query).common_prefixes, BTreeSet::from(["a/"]));
        assert_eq!(page(&records, &Query { after: "a/", ..query }).common_prefixes, BTreeSet::new());
    }
}
