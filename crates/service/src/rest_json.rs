//! `restJson1`: operations by method and path, members in path, query and a JSON body.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::response::Response;
use axum::routing::{any, on};
use hearth_api::{ErrorKind, json_values};
use http::header::RETRY_AFTER;
use http::{HeaderValue, Method, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::error::{Code, Error};
use crate::input::Input;
use crate::operation::{Answer, Api, Errors, Http, Operation, Protocol};
use crate::pipeline::serve;
use crate::shape::{Location, Member, Shape};
use crate::validate::{Manner, not_a_structure};
use crate::wire::{Received, Wire, respond, status};

/// Values in a body; the longest that an operation takes have some hundred.
const MAXIMUM_JSON_VALUES: usize = 20_000;
const JSON: &str = "application/json";

/// A request by method and path.
struct RestJson<A: Api> {
    operation: Result<&'static Operation<A>, Error>,
    path: Result<RawPathParams, RawPathParamsRejection>,
    errors: Errors,
}

/// Routes of all operations of an API. Below `prefixes`, paths and methods that no operation has
/// are refused; other paths are left to the fallback of whoever mounts this router.
pub fn router<A: Api>(api: Arc<A>, prefixes: &[&str], errors: Errors) -> Router {
    let mut router = Router::new();
    for operation in A::operations() {
        let Protocol::RestJson(Http { verb, path, errors, .. }) = operation.protocol else { continue };
        let handler = move |State(api): State<Arc<A>>, path: Result<RawPathParams, _>, request: Request| {
            serve(api, RestJson { operation: Ok(operation), path, errors }, request)
        };
        router = router.route(path, on(verb.filter(), handler));
    }
    let unknown = move |State(api): State<Arc<A>>, path: Result<RawPathParams, _>, request: Request| {
        let operation = Err(unknown(request.method(), request.uri()));
        serve(api, RestJson { operation, path, errors }, request)
    };
    for prefix in prefixes {
        router = router.route(&format!("{prefix}/{{*rest}}"), any(unknown));
    }
    router.method_not_allowed_fallback(unknown).with_state(api)
}

fn unknown(method: &Method, uri: &Uri) -> Error {
    let message = format!("There is no operation {method} {} here.", uri.path());
    Error::new(ErrorKind::UnknownOperation, message)
}

impl<A: Api> Wire<A> for RestJson<A> {
    const MANNER: Manner = Manner::RestJson;

    fn named(&self) -> Result<Option<&'static Operation<A>>, Error> {
        self.operation.clone().map(Some)
    }

    fn operation(&mut self, _: &Received) -> Result<&'static Operation<A>, Error> {
        self.operation.clone()
    }

    fn decode(&self, operation: &'static Operation<A>, received: &Received) -> Result<Input, Error> {
        let path = self
            .path
            .as_ref()
            .map_err(|_| Error::validation("The path of the request is not valid percent-encoded UTF-8."))?;
        let query = decode_query(received.parts.uri.query().unwrap_or(""))?;
        let members = operation.members;
        let has_body = members.iter().any(|member| member.location == Location::Body);
        let mut input = if has_body { read_body(&received.body)? } else { Map::new() };
        for member in members {
            let sent = match member.location {
                Location::Body => continue,
                Location::Path => {
                    let named = path.iter().find(|(name, _)| *name == member.name);
                    named.map(|(_, value)| Value::from(value))
                }
                Location::Query => query_value(&query, member),
                Location::Header => {
                    let sent = received.parts.headers.get(member.name);
                    sent.and_then(|value| value.to_str().ok()).map(Value::from)
                }
            };
            input.remove(member.name);
            input.extend(sent.map(|value| (member.name.to_owned(), value)));
        }
        Ok(Input(input))
    }

    fn answer(&self, operation: &'static Operation<A>, answer: Answer, _: &str) -> Response {
        let success = match operation.protocol {
            Protocol::RestJson(http) => status(http.status),
            Protocol::Json | Protocol::Query => StatusCode::OK,
        };
        let nothing = if success == StatusCode::NO_CONTENT { "" } else { "{}" };
        match answer {
            Answer::Stream(content_type, body) => respond(success, content_type, body),
            other => respond(success, JSON, other.into_text().unwrap_or_else(|| nothing.into())),
        }
    }

    fn refuse(&self, error: &Error, _: &str) -> Response {
        let kind = match error.code {
            Code::Common(kind) => kind,
            Code::Modelled(_) => ErrorKind::InternalServer,
        };
        let (kind, body) = (self.errors)(kind, &error.message);
        let mut response = respond(status(kind.status()), JSON, body.to_string());
        response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(kind.name()));
        if kind == ErrorKind::Throttling {
            // A second later a token is there at any rate.
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Parameters of a query with their values.
type Query = Vec<(String, String)>;

fn decode_query(query: &str) -> Result<Query, Error> {
    let decode = |text: &str| {
        percent_decode_str(&text.replace('+', " "))
            .decode_utf8()
            .map(Cow::into_owned)
            .map_err(|_| Error::validation("The query of the request is not valid percent-encoded UTF-8."))
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| Ok((decode(name)?, decode(value)?)))
        .collect()
}

fn read_body(body: &[u8]) -> Result<Map<String, Value>, Error> {
    let text: &[u8] = if body.is_empty() { b"{}" } else { body };
    if json_values(text) > MAXIMUM_JSON_VALUES {
        return Err(Error::validation(format!(
            "The body of the request must not have more than {MAXIMUM_JSON_VALUES} values."
        )));
    }
    match serde_json::from_slice(text) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Error::validation(not_a_structure())),
        Err(error) => Err(Error::validation(format!("The body of the request is not valid JSON: {error}"))),
    }
}

/// The text of a query parameter as what its shape says that it is.
fn query_value(query: &Query, member: &Member) -> Option<Value> {
    let mut values = query.iter().filter(|(name, _)| name == member.name).map(|(_, value)| value.as_str());
    match member.shape {
        Shape::List(..) => {
            let all: Vec<&str> = values.collect();
            (!all.is_empty()).then(|| Value::from(all))
        }
        Shape::Integer(..) => {
            let text = values.next()?;
            Some(text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from))
        }
        _ => values.next().map(Value::from),
    }
}
