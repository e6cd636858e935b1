//! Checks a JSON value against a declared shape, with the sentences of Smithy services.

use hearth_api::{Error, MAXIMUM_SHOWN, MAXIMUM_VIOLATIONS};
use serde_json::{Map, Value};

/// A regular expression of the service model and a function that decides it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pattern {
    /// As the model spells it; shown to the caller.
    pub(crate) expression: &'static str,
    /// The decision.
    pub(crate) matches: fn(&str) -> bool,
}

/// Limits of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text {
    /// Least number of characters.
    pub(crate) minimum: usize,
    /// Greatest number of characters.
    pub(crate) maximum: usize,
    /// What it must look like.
    pub(crate) pattern: Option<Pattern>,
    /// Whether its value must not be repeated in an error.
    pub(crate) sensitive: bool,
}

impl Text {
    /// Any text.
    pub(crate) const ANY: Self = Self { minimum: 0, maximum: usize::MAX, pattern: None, sensitive: false };
}

/// What a value must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// A string.
    Text(Text),
    /// An integer between two, both included.
    Integer(i64, i64),
    /// True or false.
    Boolean,
    /// One of these strings.
    Enumeration(&'static [&'static str]),
    /// A list with these least and greatest lengths.
    List(&'static Shape, usize, usize),
    /// A map with at most so many entries.
    Map { key: &'static Shape, value: &'static Shape, maximum: usize },
    /// An object.
    Structure(&'static [Member]),
    /// An object with exactly one of these members.
    Union(&'static [Member]),
}

/// Where a member of a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Location {
    /// In the JSON body; also every member of a member.
    Body,
    /// In the path.
    Path,
    /// In the query; a list's name is repeated.
    Query,
}

/// A member of a structure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) shape: &'static Shape,
    pub(crate) required: bool,
    pub(crate) location: Location,
}

/// Longest name of a map's entry in a path, in bytes.
const MAXIMUM_NAME: usize = 256;

/// The beginning of a text.
pub(crate) fn shortened(text: &str, bytes: usize) -> std::borrow::Cow<'_, str> {
    if text.len() <= bytes {
        return text.into();
    }
    format!("{}…", &text[..text.floor_char_boundary(bytes)]).into()
}

/// Refuses `value` with one error that names every violation.
pub(crate) fn check(value: &Value, shape: &Shape) -> Result<(), Error> {
    let mut found = Vec::new();
    visit(value, shape, "", &mut found);
    found.truncate(MAXIMUM_VIOLATIONS);
    refuse(&found)
}

/// A violation of a rule that is not in a shape, such as one that the operator can change.
pub(crate) fn violation(value: impl std::fmt::Display, path: &str, rule: &str) -> Error {
    summary(&[format!("Value '{value}' at '{path}' failed to satisfy constraint: {rule}")])
}

fn refuse(found: &[String]) -> Result<(), Error> {
    if found.is_empty() { Ok(()) } else { Err(summary(found)) }
}

fn summary(found: &[String]) -> Error {
    let plural = if found.len() == 1 { "" } else { "s" };
    Error::validation(format!("{} validation error{plural} detected: {}", found.len(), found.join("; ")))
}

fn visit(value: &Value, shape: &Shape, path: &str, found: &mut Vec<String>) {
    if found.len() >= MAXIMUM_VIOLATIONS {
        return;
    }
    let mut wrong_type = |expected: &str| {
        let place = if path.is_empty() { "the body".to_owned() } else { format!("'{path}'") };
        found.push(format!("Value at {place} failed to satisfy constraint: Member must be {expected}"));
    };
    match (shape, value) {
        (Shape::Text(limits), Value::String(text)) => check_text(text, limits, path, found),
        (Shape::Integer(minimum, maximum), Value::Number(number)) if !number.is_f64() => {
            check_integer(number.as_i64().unwrap_or(i64::MAX), *minimum, *maximum, path, found);
        }
        (Shape::Integer(..), _) => wrong_type("an integer"),
        (Shape::Boolean, Value::Bool(_)) => {}
        (Shape::Boolean, _) => wrong_type("a boolean"),
        (Shape::Enumeration(allowed), Value::String(text)) => {
            if !allowed.contains(&text.as_str()) {
                let rule = format!("Member must satisfy enum value set: [{}]", allowed.join(", "));
                found.push(sentence(Some(text), path, &rule));
            }
        }
        (Shape::Text(_) | Shape::Enumeration(_), _) => wrong_type("a string"),
        (Shape::List(member, minimum, maximum), Value::Array(items)) => {
            let shown = shown_list(items, member);
            check_length(items.len(), *minimum, *maximum, shown.as_deref(), path, found);
            for (index, item) in items.iter().enumerate() {
                visit(item, member, &format!("{path}.{}.member", index + 1), found);
            }
        }
        (Shape::List(..), _) => wrong_type("a list"),
        (Shape::Map { key, value, maximum }, Value::Object(entries)) => {
            check_length(entries.len(), 0, *maximum, None, path, found);
            for (name, entry) in entries {
                visit(&Value::String(name.clone()), key, &format!("{path}.key"), found);
                visit(entry, value, &format!("{path}.{}", shortened(name, MAXIMUM_NAME)), found);
            }
        }
        (Shape::Map { .. }, _) => wrong_type("a map"),
        (Shape::Structure(members), Value::Object(object)) => visit_members(object, members, path, found),
        (Shape::Structure(_), _) => wrong_type("a structure"),
        (Shape::Union(members), Value::Object(object)) => {
            let set = object.iter().filter(|(_, value)| !value.is_null()).count();
            let known = members.iter().filter(|member| object.get(member.name).is_some_and(|v| !v.is_null()));
            if set != 1 || known.count() != 1 {
                let names: Vec<&str> = members.iter().map(|member| member.name).collect();
                wrong_type(&format!("a union with exactly one of [{}]", names.join(", ")));
            }
            visit_members(object, members, path, found);
        }
        (Shape::Union(_), _) => wrong_type("a union"),
    }
}

fn visit_members(object: &Map<String, Value>, members: &[Member], path: &str, found: &mut Vec<String>) {
    for member in members {
        let name = in_camel_case(member.name);
        let path = if path.is_empty() { name } else { format!("{path}.{name}") };
        match object.get(member.name) {
            None | Some(Value::Null) if member.required => found.push(format!(
                "Value null at '{path}' failed to satisfy constraint: Member must not be null"
            )),
            None | Some(Value::Null) => {}
            Some(value) => visit(value, member.shape, &path, found),
        }
    }
}

/// The name as paths spell it, however it is spelled on the wire: `SubnetIds` of
/// `lambda-core` is at `subnetIds`.
fn in_camel_case(name: &str) -> String {
    let mut characters = name.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

/// How a list of strings is repeated, unless they are secret.
fn shown_list(items: &[Value], member: &Shape) -> Option<String> {
    if matches!(member, Shape::Text(Text { sensitive: true, .. })) {
        return None;
    }
    let mut length = 0;
    let texts: Option<Vec<&str>> = items
        .iter()
        .map(|item| {
            let text = item.as_str()?;
            length += text.len() + 2;
            (length <= MAXIMUM_SHOWN).then_some(text)
        })
        .collect();
    texts.map(|texts| format!("[{}]", texts.join(", ")))
}

fn check_text(text: &str, limits: &Text, path: &str, found: &mut Vec<String>) {
    let shown = (!limits.sensitive).then_some(text);
    check_length(text.chars().count(), limits.minimum, limits.maximum, shown, path, found);
    if let Some(pattern) = limits.pattern
        && !(pattern.matches)(text)
    {
        let rule = format!("Member must satisfy regular expression pattern: {}", pattern.expression);
        found.push(sentence(shown, path, &rule));
    }
}

fn check_length(
    length: usize,
    minimum: usize,
    maximum: usize,
    shown: Option<&str>,
    path: &str,
    found: &mut Vec<String>,
) {
    if length < minimum {
        let rule = format!("Member must have length greater than or equal to {minimum}");
        found.push(sentence(shown, path, &rule));
    }
    if length > maximum {
        let rule = format!("Member must have length less than or equal to {maximum}");
        found.push(sentence(shown, path, &rule));
    }
}

fn check_integer(number: i64, minimum: i64, maximum: i64, path: &str, found: &mut Vec<String>) {
    let shown = number.to_string();
    if number < minimum {
        let rule = format!("Member must have value greater than or equal to {minimum}");
        found.push(sentence(Some(&shown), path, &rule));
    }
    if number > maximum {
        let rule = format!("Member must have value less than or equal to {maximum}");
        found.push(sentence(Some(&shown), path, &rule));
    }
}

/// The value is left out when it is secret or longer than anybody wants to read again.
fn sentence(shown: Option<&str>, path: &str, rule: &str) -> String {
    match shown.filter(|text| text.len() <= MAXIMUM_SHOWN) {
        Some(text) => format!("Value '{text}' at '{path}' failed to satisfy constraint: {rule}"),
        None => format!("Value at '{path}' failed to satisfy constraint: {rule}"),
    }
}
