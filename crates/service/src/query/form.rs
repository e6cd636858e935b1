//! Parameters of a call: the query string and the form that is the body.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::error::{Error, Exception};
use crate::shape::{Member, Shape};
use crate::validate::in_camel_case;

const MALFORMED: Exception = Exception { name: "MalformedQueryString", status: 404 };
const MALFORMED_INPUT: Exception = Exception { name: "MalformedInput", status: 400 };

/// Parameters of a call; the longest lists that an operation takes have some hundred.
const MAXIMUM_PARAMETERS: usize = 10_000;

/// Parameters by name; lists and structures are still spread over names such as
/// `Tags.member.1.Key`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads the query string and the body. What is there twice is refused: nobody could tell which
    /// one was meant.
    pub(crate) fn read(query: &str, body: &[u8]) -> Result<Self, Error> {
        let mut parameters = BTreeMap::new();
        let pairs = form_urlencoded::parse(query.as_bytes()).chain(form_urlencoded::parse(body));
        for (name, value) in pairs.filter(|(name, _)| !name.is_empty()) {
            if parameters.len() >= MAXIMUM_PARAMETERS {
                let message = format!("A request must not have more than {MAXIMUM_PARAMETERS} parameters.");
                return Err(Error::new(MALFORMED, message));
            }
            if parameters.insert(name.to_string(), value.into_owned()).is_some() {
                let message = format!("The parameter {name} is given more than once.");
                return Err(Error::new(MALFORMED, message));
            }
        }
        Ok(Self(parameters))
    }

    /// A parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Prefixes of a list's entries in their order, such as `Tags.member.1`; `None` when the list
    /// is not given. An empty list is the bare name without a value.
    fn entries(&self, list: &str) -> Option<Vec<String>> {
        let prefix = format!("{list}.member.");
        let numbers: BTreeSet<u32> = self
            .0
            .range(prefix.clone()..)
            .map_while(|(name, _)| name.strip_prefix(&prefix))
            .filter_map(|rest| rest.split('.').next()?.parse().ok())
            .collect();
        let given = !numbers.is_empty() || self.get(list).is_some();
        given.then(|| numbers.into_iter().map(|number| format!("{prefix}{number}")).collect())
    }

    /// The members of an operation's input. Numbers and booleans that are none are refused at once.
    pub(crate) fn decode(&self, members: &[Member]) -> Result<Map<String, Value>, Error> {
        self.structure(members, "", "")
    }

    /// `prefix` is that of the form's names, `path` that of sentences.
    fn structure(&self, members: &[Member], prefix: &str, path: &str) -> Result<Map<String, Value>, Error> {
        let mut found = Map::new();
        for member in members {
            let name = format!("{prefix}{}", member.name);
            let path = format!("{path}{}", in_camel_case(member.name));
            let value = match member.shape {
                Shape::List(of, ..) => self.list(of, &name, &path)?,
                scalar => self.get(&name).map(|text| read(scalar, text, &path)).transpose()?,
            };
            found.extend(value.map(|value| (member.name.to_owned(), value)));
        }
        Ok(found)
    }

    fn list(&self, of: &Shape, name: &str, path: &str) -> Result<Option<Value>, Error> {
        let Some(entries) = self.entries(name) else { return Ok(None) };
        let value = |(index, entry): (usize, &String)| match of {
            Shape::Structure(members) => {
                let path = format!("{path}.{}.member.", index + 1);
                self.structure(members, &format!("{entry}."), &path).map(Value::Object)
            }
            _ => Ok(Value::from(self.get(entry).unwrap_or_default())),
        };
        entries.iter().enumerate().map(value).collect::<Result<_, _>>().map(Some)
    }
}

/// A scalar as what its shape says that it is.
fn read(shape: &Shape, text: &str, path: &str) -> Result<Value, Error> {
    let malformed = |what| Error::new(MALFORMED_INPUT, format!("The value of '{path}' must be {what}."));
    match shape {
        Shape::Integer(..) => text.parse::<i64>().map(Value::from).map_err(|_| malformed("an integer")),
        Shape::Boolean => text.parse::<bool>().map(Value::from).map_err(|_| malformed("true or false")),
        _ => Ok(Value::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_in_the_order_of_their_numbers() {
        let body = b"L.member.10=j&L.member.2=b+c&L.member.1=%C3%A9&E=&L.member.x=y";
        let form = Form::read("Action=A", body).unwrap();
        let entries = form.entries("L").unwrap();
        let values: Vec<_> = entries.iter().map(|entry| form.get(entry).unwrap()).collect();
        assert_eq!(values, ["é", "b c", "j"]);
        assert_eq!(form.entries("E"), Some(vec![]));
        assert_eq!(form.entries("Q"), None);
        assert_eq!(form.get("Action"), Some("A"));
    }

    #[test]
    fn a_parameter_is_given_once() {
        assert!(Form::read("Action=A", b"Action=A").is_err());
        let many: Vec<String> = (0..=MAXIMUM_PARAMETERS).map(|n| format!("{n}=")).collect();
        assert!(Form::read("", many[1..].join("&").as_bytes()).is_ok());
        assert!(Form::read("", many.join("&").as_bytes()).is_err());
    }
}
