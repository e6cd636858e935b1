//! What the services that speak JSON 1.1 have in common: refusals, authorisation,
//! constraints of members.

use bytes::Bytes;
use hearth_api::{MAXIMUM_SHOWN, MAXIMUM_VIOLATIONS, json_values};
use hearth_iam::Request;
use hearth_identity::{Caller, Identities};
use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Values in a body. Those of 10,000 events, the most that any call may have, are three each.
const MAXIMUM_JSON_VALUES: usize = 50_000;

/// A refusal as the protocol shows it (`__type` and `message`); always status 400
/// but for our own faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn status(&self) -> StatusCode {
        if self.code == "ServiceUnavailableException" {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::BAD_REQUEST
        }
    }

    pub(crate) fn body(&self) -> String {
        serde_json::json!({ "__type": self.code, "message": self.message }).to_string()
    }
}

impl From<hearth_records::Error> for Refusal {
    fn from(error: hearth_records::Error) -> Self {
        if let hearth_records::Error::LogQuota(quota) = error {
            let sentence = quota.to_string();
            let (first, rest) = sentence.split_at(1);
            return Self::new("LimitExceededException", format!("{}{rest}.", first.to_uppercase()));
        }
        if matches!(error, hearth_records::Error::NoRoom { .. }) {
            return Self::new("ServiceUnavailableException", format!("The host has no room: {error}."));
        }
        tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
        Self::new("ServiceUnavailableException", "The service cannot complete the request.")
    }
}

/// Refuses what the caller may not do. `resource` is an ARN or `*`.
pub(crate) fn authorize(
    identities: &Identities,
    caller: &Caller,
    action: &str,
    resource: &str,
) -> Result<(), Refusal> {
    decide(identities, caller, &caller.request(action, resource))
}

/// Refuses what the caller may not do, when condition keys were added to the question.
pub(crate) fn decide(identities: &Identities, caller: &Caller, request: &Request) -> Result<(), Refusal> {
    identities.authorize(caller, request).map_err(|error| Refusal::new(error.kind.name(), error.message))
}

pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    // Clients leave the body out when there are no members.
    let body = if body.is_empty() { b"{}" } else { body };
    if json_values(body) > MAXIMUM_JSON_VALUES {
        let message =
            format!("The body of the request must not have more than {MAXIMUM_JSON_VALUES} values.");
        return Err(Refusal::new("SerializationException", message));
    }
    serde_json::from_slice(body).map_err(|error| {
        let mut message = error.to_string();
        message.truncate(message.floor_char_boundary(500));
        Refusal::new("SerializationException", message)
    })
}

pub(crate) fn to_json(output: &impl Serialize) -> Bytes {
    serde_json::to_vec(output).expect("invariant: answers have string keys only").into()
}

/// What the service model says of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text {
    pub(crate) minimum: usize,
    pub(crate) maximum: usize,
    /// As the model writes it; [`Text::allowed`] means the same.
    pub(crate) pattern: &'static str,
    pub(crate) allowed: fn(char) -> bool,
}

/// What is wrong with a request, in Smithy's sentence.
#[derive(Debug, Default)]
pub(crate) struct Violations(Vec<String>);

impl Violations {
    /// Adds one. `value` is as the sentence shows it.
    pub(crate) fn add(&mut self, member: &str, value: Option<&str>, constraint: &str) {
        if self.0.len() >= MAXIMUM_VIOLATIONS {
            return;
        }
        let value = match value {
            None => " null".to_owned(),
            Some(value) if value.len() <= MAXIMUM_SHOWN => format!(" '{value}'"),
            Some(_) => String::new(),
        };
        self.0.push(format!("Value{value} at '{member}' failed to satisfy constraint: {constraint}"));
    }

    /// Checks a text that must be there.
    pub(crate) fn required(&mut self, member: &str, value: Option<&str>, text: Text) {
        match value {
            None => self.add(member, None, "Member must not be null"),
            Some(_) => self.text(member, value, text),
        }
    }

    /// Checks a text, if it is there.
    pub(crate) fn text(&mut self, member: &str, value: Option<&str>, text: Text) {
        let Some(given) = value else { return };
        let length = given.chars().count();
        if length < text.minimum {
            let constraint = format!("Member must have length greater than or equal to {}", text.minimum);
            self.add(member, value, &constraint);
        }
        if length > text.maximum {
            let constraint = format!("Member must have length less than or equal to {}", text.maximum);
            self.add(member, value, &constraint);
        }
        if !given.chars().all(text.allowed) {
            let constraint = format!("Member must satisfy regular expression pattern: {}", text.pattern);
            self.add(member, value, &constraint);
        }
    }

    /// Checks the number of members of a list or map.
    pub(crate) fn count(&mut self, member: &str, count: usize, (minimum, maximum): (usize, usize)) {
        let shown = format!("{count} members");
        if count < minimum {
            let constraint = format!("Member must have length greater than or equal to {minimum}");
            self.add(member, Some(&shown), &constraint);
        } else if count > maximum {
            let constraint = format!("Member must have length less than or equal to {maximum}");
            self.add(member, Some(&shown), &constraint);
        }
    }

    /// Checks a number, if it is there.
    pub(crate) fn range(&mut self, member: &str, value: Option<i64>, (minimum, maximum): (i64, i64)) {
        let Some(value) = value else { return };
        let shown = value.to_string();
        if value < minimum {
            let constraint = format!("Member must have value greater than or equal to {minimum}");
            self.add(member, Some(&shown), &constraint);
        } else if value > maximum {
            let constraint = format!("Member must have value less than or equal to {maximum}");
            self.add(member, Some(&shown), &constraint);
        }
    }

    /// Refuses the request with `code` when anything is wrong with it.
    pub(crate) fn finish(self, code: &'static str) -> Result<(), Refusal> {
        let count = self.0.len();
        if count == 0 {
            return Ok(());
        }
        let errors = if count == 1 { "error" } else { "errors" };
        Err(Refusal::new(code, format!("{count} validation {errors} detected: {}", self.0.join("; "))))
    }
}
