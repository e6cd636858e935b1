//! The members of a request, decoded by its protocol.

use serde_json::{Map, Value};

/// The members of a request. Those of scalar types are read by name once the shape was checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Input(pub(crate) Map<String, Value>);

impl Input {
    /// A text, if it was sent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A text that the operation's shape requires.
    ///
    /// # Panics
    /// When the shape does not require it.
    pub fn required(&self, name: &str) -> &str {
        self.get(name).expect("invariant: only members that the shape requires are read with this")
    }

    /// A number from 0 up, if it was sent.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.0.get(name)?.as_u64()?.try_into().ok()
    }

    /// A number from 0 up that may be a large one, if it was sent.
    pub fn large_number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64()
    }

    /// Whether a boolean was sent and is true.
    pub fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool) == Some(true)
    }

    /// Whether a member was sent.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether a member was sent that is not an empty list.
    pub fn has_any(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| value.as_array().is_none_or(|items| !items.is_empty()))
    }

    /// Texts of a list; empty when it was not sent.
    pub fn list(&self, name: &str) -> Vec<&str> {
        self.items(name).filter_map(Value::as_str).collect()
    }

    /// Two members of each structure of a list; a member that a structure lacks is an empty text.
    pub fn pairs(&self, name: &str, first: &str, second: &str) -> Vec<(&str, &str)> {
        self.items(name)
            .map(|item| (item[first].as_str().unwrap_or_default(), item[second].as_str().unwrap_or_default()))
            .collect()
    }

    /// Keys and values of a map of texts; empty when it was not sent.
    pub fn map(&self, name: &str) -> Vec<(&str, &str)> {
        let entries = self.0.get(name).and_then(Value::as_object).into_iter().flatten();
        entries.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
    }

    fn items(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.0.get(name).and_then(Value::as_array).into_iter().flatten()
    }
}
