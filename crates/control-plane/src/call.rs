//! A request on its way in: body read, signature verified, parameters decoded.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts as _, RawPathParams, Request};
use bytes::Bytes;
use hearth_api::{Error, json_values};
use hearth_identity::Caller;
use http::Uri;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::answer::Refused;
use crate::config::Context;
use crate::validate::{Location, Member, Shape, shortened};

/// Longest body ("Lambda quotas", synchronous request).
const MAXIMUM_BODY_BYTES: usize = 6 * 1024 * 1024;
/// Values in a body; the longest that an operation takes have some hundred.
const MAXIMUM_JSON_VALUES: usize = 20_000;
/// Signing name of the service.
const SERVICE: &str = "lambda";

/// An authenticated call.
#[derive(Debug)]
pub(crate) struct Call {
    /// Who calls.
    pub(crate) caller: Caller,
    /// Path and query as they were sent.
    uri: Uri,
    path: Vec<(String, String)>,
    query: Vec<(String, String)>,
    body: Bytes,
}

impl FromRequest<Arc<Context>> for Call {
    type Rejection = Refused;

    async fn from_request(request: Request, context: &Arc<Context>) -> Result<Self, Refused> {
        let (mut parts, body) = request.into_parts();
        let identities = &context.services.identities;
        let (caller, body) = identities.receive(&parts, body, SERVICE, MAXIMUM_BODY_BYTES).await?;
        let path = RawPathParams::from_request_parts(&mut parts, &())
            .await
            .map_err(|_| Error::validation("The path of the request is not valid percent-encoded UTF-8."))?;
        let path = path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let query = decode_query(parts.uri.query().unwrap_or(""))?;
        Ok(Self { caller, uri: parts.uri, path, query, body })
    }
}

fn decode_query(query: &str) -> Result<Vec<(String, String)>, Error> {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| Error::validation("The query of the request is not valid percent-encoded UTF-8."))
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| Ok((decode(name)?, decode(value)?)))
        .collect()
}

impl Call {
    /// Value of a path parameter that the route has.
    pub(crate) fn path(&self, name: &str) -> &str {
        let pair = self.path.iter().find(|(candidate, _)| candidate == name);
        &pair.expect("invariant: the route has this parameter").1
    }

    /// Value of a query parameter, if it was sent.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a query parameter.
    pub(crate) fn query_all(&self, name: &str) -> Vec<&str> {
        self.query
            .iter()
            .filter(|(candidate, _)| candidate == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The request, checked against the shape of its operation.
    pub(crate) fn input<T: DeserializeOwned>(&self, shape: &Shape) -> Result<T, Error> {
        serde_json::from_value(self.checked(shape)?).map_err(|error| {
            let error = error.to_string();
            let error = shortened(&error, 500);
            Error::validation(format!("The body of the request cannot be read: {error}"))
        })
    }

    /// Refuses a request that is not of this shape.
    pub(crate) fn check(&self, shape: &Shape) -> Result<(), Error> {
        self.checked(shape).map(drop)
    }

    fn checked(&self, shape: &Shape) -> Result<Value, Error> {
        let Shape::Structure(members) = shape else { unreachable!("invariant: requests are structures") };
        let has_body = members.iter().any(|member| member.location == Location::Body);
        let mut input = if has_body { self.json()? } else { Value::Object(Map::new()) };
        if let Value::Object(input) = &mut input {
            for member in *members {
                let sent = match member.location {
                    Location::Body => continue,
                    Location::Path => Some(Value::from(self.path(member.name))),
                    Location::Query => self.query_value(member),
                };
                input.remove(member.name);
                input.extend(sent.map(|value| (member.name.to_owned(), value)));
            }
        }
        crate::validate::check(&input, shape)?;
        Ok(input)
    }

    fn json(&self) -> Result<Value, Error> {
        let text: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        if json_values(text) > MAXIMUM_JSON_VALUES {
            return Err(Error::validation(format!(
                "The body of the request must not have more than {MAXIMUM_JSON_VALUES} values."
            )));
        }
        serde_json::from_slice(text)
            .map_err(|error| Error::validation(format!("The body of the request is not valid JSON: {error}")))
    }

    /// The text of a query parameter as what its shape says that it is.
    fn query_value(&self, member: &Member) -> Option<Value> {
        match member.shape {
            Shape::List(..) => {
                let all = self.query_all(member.name);
                (!all.is_empty()).then(|| Value::from(all))
            }
            Shape::Integer(..) => {
                let text = self.query(member.name)?;
                Some(text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from))
            }
            _ => self.query(member.name).map(Value::from),
        }
    }

    /// What was asked, of which account, to the letter.
    pub(crate) fn question(&self) -> String {
        format!("{} {}", self.caller.account, self.uri)
    }

    /// What a page token of this request is good for: the same list with the same filters.
    /// `of_page` are the members of the query that change from page to page.
    pub(crate) fn list_scope(&self, of_page: &[&str]) -> String {
        let filters = self.query.iter().filter(|(name, _)| !of_page.contains(&name.as_str()));
        let mut filters: Vec<String> = filters.map(|(name, value)| format!("{name}={value}")).collect();
        filters.sort_unstable();
        format!("{} {} {}", self.caller.account, self.uri.path(), filters.join("&"))
    }
}
