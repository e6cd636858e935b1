//! Checks a decoded request against its declared shape, with the sentences of Smithy services.

use std::borrow::Cow;

use hearth_api::{MAXIMUM_SHOWN, MAXIMUM_VIOLATIONS};
use serde_json::{Map, Value};

use crate::shape::{Member, Shape, Text};

/// How a protocol speaks of violations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Lists of texts are repeated, maps are not; keys and values of a map have paths of their own.
    RestJson,
    /// Lists and maps are repeated as the number of their members, whose violations are at the path
    /// of a map itself. A value of another type is left to the operation, which reads its input as
    /// a type: the parser's sentence says where it is.
    Json,
    /// Lists are not repeated.
    Query,
}

/// What was found so far, and how it is told.
#[derive(Debug)]
struct Violations {
    found: Vec<String>,
    manner: Manner,
    /// Whether a value has another type than its shape.
    mistyped: bool,
}

/// Longest name of a map's entry in a path, in bytes.
const MAXIMUM_NAME: usize = 256;

/// The beginning of a text.
pub(crate) fn shortened(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes {
        return text.into();
    }
    format!("{}…", &text[..text.floor_char_boundary(bytes)]).into()
}

/// One sentence that names every violation of the shape of an input, if there are any.
///
/// # Errors
/// The sentence.
pub fn check(input: &Map<String, Value>, members: &[Member], manner: Manner) -> Result<(), String> {
    let mut violations = Violations { found: Vec::new(), manner, mistyped: false };
    violations.members(input, members, "");
    violations.finish()
}

/// The sentence about a violation of a rule that is in no shape, such as one that the operator
/// sets.
pub fn violation(value: impl std::fmt::Display, path: &str, rule: &str) -> String {
    summary(&[format!("Value '{value}' at '{path}' failed to satisfy constraint: {rule}")])
}

/// The sentence for a whole input that is no structure.
pub(crate) fn not_a_structure() -> String {
    summary(&["Value at the body failed to satisfy constraint: Member must be a structure".to_owned()])
}

fn summary(found: &[String]) -> String {
    let plural = if found.len() == 1 { "" } else { "s" };
    format!("{} validation error{plural} detected: {}", found.len(), found.join("; "))
}

impl Violations {
    fn finish(mut self) -> Result<(), String> {
        self.found.truncate(MAXIMUM_VIOLATIONS);
        let told_by_the_parser = self.manner == Manner::Json && self.mistyped;
        if self.found.is_empty() || told_by_the_parser { Ok(()) } else { Err(summary(&self.found)) }
    }

    fn visit(&mut self, value: &Value, shape: &Shape, path: &str) {
        if self.found.len() >= MAXIMUM_VIOLATIONS {
            return;
        }
        match (shape, value) {
            (Shape::Text(limits), Value::String(text)) => self.text(text, limits, path),
            (Shape::Integer(minimum, maximum), Value::Number(number)) if !number.is_f64() => {
                self.integer(number.as_i64().unwrap_or(i64::MAX), *minimum, *maximum, path);
            }
            (Shape::Boolean, Value::Bool(_)) => {}
            (Shape::Enumeration(allowed), Value::String(text)) => {
                if !allowed.contains(&text.as_str()) {
                    self.add(Some(text), path, &format!("satisfy enum value set: [{}]", allowed.join(", ")));
                }
            }
            (Shape::List(member, minimum, maximum), Value::Array(items)) => {
                let shown = self.shown_list(items, member);
                self.length(items.len(), *minimum, *maximum, shown.as_deref(), path);
                for (index, item) in items.iter().enumerate() {
                    self.visit(item, member, &format!("{path}.{}.member", index + 1));
                }
            }
            (Shape::Map { key, value, minimum, maximum }, Value::Object(entries)) => {
                let shown = (self.manner == Manner::Json).then(|| format!("{} members", entries.len()));
                self.length(entries.len(), *minimum, *maximum, shown.as_deref(), path);
                for (name, entry) in entries {
                    let (of_key, of_entry) = match self.manner {
                        Manner::Json => (path.to_owned(), path.to_owned()),
                        _ => (format!("{path}.key"), format!("{path}.{}", shortened(name, MAXIMUM_NAME))),
                    };
                    self.visit(&Value::String(name.clone()), key, &of_key);
                    self.visit(entry, value, &of_entry);
                }
            }
            (Shape::Structure(members), Value::Object(object)) => self.members(object, members, path),
            (Shape::Union(members), Value::Object(object)) => {
                let set = object.iter().filter(|(_, value)| !value.is_null()).count();
                let is_set = |member: &&Member| object.get(member.name).is_some_and(|value| !value.is_null());
                if set != 1 || members.iter().filter(is_set).count() != 1 {
                    let names: Vec<&str> = members.iter().map(|member| member.name).collect();
                    self.mistyped(path, &format!("a union with exactly one of [{}]", names.join(", ")));
                }
                self.members(object, members, path);
            }
            (shape, _) => self.mistyped(path, kind(shape)),
        }
    }

    fn members(&mut self, object: &Map<String, Value>, members: &[Member], path: &str) {
        for member in members {
            let name = in_camel_case(member.name);
            let path = if path.is_empty() { name } else { format!("{path}.{name}") };
            match object.get(member.name) {
                None | Some(Value::Null) if member.required => self.push(format!(
                    "Value null at '{path}' failed to satisfy constraint: Member must not be null"
                )),
                None | Some(Value::Null) => {}
                Some(value) => self.visit(value, member.shape, &path),
            }
        }
    }

    /// How a list is repeated, unless it is secret.
    fn shown_list(&self, items: &[Value], member: &Shape) -> Option<String> {
        match self.manner {
            Manner::Query => return None,
            Manner::Json => return Some(format!("{} members", items.len())),
            Manner::RestJson if matches!(member, Shape::Text(Text { sensitive: true, .. })) => return None,
            Manner::RestJson => {}
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

    fn text(&mut self, text: &str, limits: &Text, path: &str) {
        let shown = (!limits.sensitive).then_some(text);
        self.length(text.chars().count(), limits.minimum, limits.maximum, shown, path);
        if let Some(pattern) = limits.pattern
            && !(pattern.matches)(text)
        {
            let rule = format!("satisfy regular expression pattern: {}", pattern.expression);
            self.add(shown, path, &rule);
        }
    }

    fn length(&mut self, length: usize, minimum: usize, maximum: usize, shown: Option<&str>, path: &str) {
        if length < minimum {
            self.add(shown, path, &format!("have length greater than or equal to {minimum}"));
        }
        if length > maximum {
            self.add(shown, path, &format!("have length less than or equal to {maximum}"));
        }
    }

    fn integer(&mut self, number: i64, minimum: i64, maximum: i64, path: &str) {
        let shown = number.to_string();
        if number < minimum {
            self.add(Some(&shown), path, &format!("have value greater than or equal to {minimum}"));
        }
        if number > maximum {
            self.add(Some(&shown), path, &format!("have value less than or equal to {maximum}"));
        }
    }

    fn mistyped(&mut self, path: &str, expected: &str) {
        self.mistyped = true;
        self.add(None, path, &format!("be {expected}"));
    }

    /// The value is left out when it is secret or too long.
    fn add(&mut self, shown: Option<&str>, path: &str, rule: &str) {
        let value = match shown.filter(|text| text.len() <= MAXIMUM_SHOWN) {
            Some(text) => format!("Value '{text}'"),
            None => "Value".to_owned(),
        };
        self.push(format!("{value} at '{path}' failed to satisfy constraint: Member must {rule}"));
    }

    fn push(&mut self, sentence: String) {
        if self.found.len() < MAXIMUM_VIOLATIONS {
            self.found.push(sentence);
        }
    }
}

fn kind(shape: &Shape) -> &'static str {
    match shape {
        Shape::Text(_) | Shape::Enumeration(_) => "a string",
        Shape::Integer(..) => "an integer",
        Shape::Boolean => "a boolean",
        Shape::List(..) => "a list",
        Shape::Map { .. } => "a map",
        Shape::Structure(_) => "a structure",
        Shape::Union(_) => "a union",
    }
}

/// The name as paths spell it, however it is spelled on the wire: `SubnetIds` is at `subnetIds`.
pub(crate) fn in_camel_case(name: &str) -> String {
    let mut characters = name.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}
