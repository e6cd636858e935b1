//! Parameters of a call: the query string and the form that is the body.

use std::collections::{BTreeMap, BTreeSet};

use url::form_urlencoded;

use super::{Code, Refusal};

/// Parameters of a call; the longest lists that an operation takes have some hundred.
const MAXIMUM_PARAMETERS: usize = 10_000;

/// Parameters by name; lists and structures are still spread over names such as
/// `Tags.member.1.Key`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads the query string and the body. What is there twice is refused: nobody could tell
    /// which one was meant.
    pub(crate) fn read(query: &str, body: &[u8]) -> Result<Self, Refusal> {
        let mut parameters = BTreeMap::new();
        let pairs = form_urlencoded::parse(query.as_bytes()).chain(form_urlencoded::parse(body));
        for (name, value) in pairs.filter(|(name, _)| !name.is_empty()) {
            if parameters.len() >= MAXIMUM_PARAMETERS {
                let message = format!("A request must not have more than {MAXIMUM_PARAMETERS} parameters.");
                return Err(Refusal::new(Code::MalformedQueryString, message));
            }
            if parameters.insert(name.to_string(), value.into_owned()).is_some() {
                let message = format!("The parameter {name} is given more than once.");
                return Err(Refusal::new(Code::MalformedQueryString, message));
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
    pub(crate) fn entries(&self, list: &str) -> Option<Vec<String>> {
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
