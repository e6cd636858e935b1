//! Members of an input, as the SDKs' builders take them.

use std::collections::HashMap;

use serde_json::Value;

/// A required text.
pub(crate) fn text(input: &Value, name: &str) -> String {
    optional(input, name).unwrap_or_else(|| panic!("{name} is missing in {input}"))
}

pub(crate) fn optional(input: &Value, name: &str) -> Option<String> {
    input[name].as_str().map(str::to_owned)
}

pub(crate) fn number(input: &Value, name: &str) -> i32 {
    input[name].as_i64().unwrap_or_else(|| panic!("{name} is no number in {input}")) as i32
}

/// None where there is no such member.
pub(crate) fn list(input: &Value, name: &str) -> Option<Vec<Value>> {
    input[name].as_array().cloned()
}

pub(crate) fn texts(input: &Value, name: &str) -> Option<Vec<String>> {
    list(input, name).map(|items| items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

pub(crate) fn map(input: &Value, name: &str) -> Option<HashMap<String, String>> {
    let entries = input[name].as_object()?.iter();
    Some(entries.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect())
}
