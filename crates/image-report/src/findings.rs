//! Collects secrets by what they are, with every place that has them.

use std::collections::{BTreeSet, HashMap};

use crate::report::{Finding, Place, SecretKind};
use crate::secrets::{self, Secret};

/// Secrets of one report at most: an image full of test keys is told by its first ones.
const MOST_FINDINGS: usize = 1000;
/// Places of one secret at most.
const MOST_PLACES: usize = 20;
/// Bytes of the names of all places.
const MOST_PLACE_BYTES: usize = 4 << 20;

/// Findings so far.
#[derive(Default)]
pub(crate) struct Findings {
    places: HashMap<(SecretKind, blake3::Hash), BTreeSet<Place>>,
    place_bytes: usize,
    /// Whether there were more than are kept.
    pub(crate) overflowed: bool,
}

impl Findings {
    /// Searches bytes that are at a place.
    pub(crate) fn search(&mut self, bytes: &[u8], place: impl Fn() -> Place) {
        for Secret { kind, fingerprint } in secrets::find(bytes) {
            let known = self.places.contains_key(&(kind, fingerprint));
            if !known && (self.places.len() >= MOST_FINDINGS || self.place_bytes > MOST_PLACE_BYTES) {
                self.overflowed = true;
                continue;
            }
            let places = self.places.entry((kind, fingerprint)).or_default();
            if places.len() < MOST_PLACES && self.place_bytes <= MOST_PLACE_BYTES {
                let place = place();
                self.place_bytes += place.name_bytes();
                places.insert(place);
            }
        }
    }

    /// In the order of kinds and places.
    pub(crate) fn into_list(self) -> Vec<Finding> {
        let finding = |((kind, _), places): (_, BTreeSet<Place>)| Finding {
            kind,
            places: places.into_iter().collect(),
        };
        let mut list: Vec<_> = self.places.into_iter().map(finding).collect();
        list.sort_by(|one, other| (one.kind, &one.places).cmp(&(other.kind, &other.places)));
        list
    }
}
