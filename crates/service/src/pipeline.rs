//! What every request passes, in this order: signature, operation, rate, members, rule,
//! authorisation, function, answer, log.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::Request;
use axum::response::Response;
use futures::FutureExt as _;
use http::HeaderValue;
use tracing::Instrument as _;

use crate::call::Asked;
use crate::error::Error;
use crate::operation::{Answer, Api, Effect, Operation, Outcome};
use crate::record::Record;
use crate::wire::{Received, Wire};

/// Answers one request.
pub(crate) async fn serve<A: Api, W: Wire<A>>(api: Arc<A>, mut wire: W, request: Request) -> Response {
    let id = uuid::Uuid::new_v4().to_string();
    let span = tracing::info_span!("request", id, method = %request.method(), path = request.uri().path());
    let record = Record::new(id, A::SIGNING_NAME);
    let done = call(api, &mut wire, request, &record).instrument(span.clone());
    let outcome = AssertUnwindSafe(done).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| Err(Error::broke_off("a panic, which was logged")));
    let (mut response, cause) = match outcome {
        Ok((operation, answer)) => (wire.answer(operation, answer, &record.id), None),
        Err(error) => (wire.refuse(&error, &record.id), error.into_cause()),
    };
    span.in_scope(|| record.log(response.status(), cause.as_deref()));
    let id = HeaderValue::from_str(&record.id).expect("invariant: a UUID is a header value");
    response.headers_mut().insert("x-amzn-requestid", id);
    response
}

async fn call<A: Api, W: Wire<A>>(
    api: Arc<A>,
    wire: &mut W,
    request: Request,
    record: &Arc<Record>,
) -> Result<(&'static Operation<A>, Answer), Error> {
    let named = wire.named()?;
    record.named(named.map(|operation| operation.name));
    let (parts, body) = request.into_parts();
    let longest = A::maximum_body_bytes(named);
    let (caller, body) = api.identities().receive(&parts, body, A::SIGNING_NAME, longest).await?;
    let caller = Arc::new(caller);
    record.called(caller.clone());
    let received = Received { parts, body };
    let operation = wire.operation(&received)?;
    record.named(Some(operation.name));
    A::admit(operation, &caller)?;
    if let (Some(throttle), Some(rate)) = (api.throttle(), operation.rate) {
        throttle.admit(&caller.account, rate).await?;
    }
    let input = wire.decode(operation, &received)?;
    let mut asked = Asked {
        caller,
        input,
        uri: received.parts.uri,
        text: W::AUTHORISES_FIRST.then_some(received.body),
        record: record.clone(),
        operation: operation.name,
        unchecked: None,
    };
    let unchecked = (operation.members, W::MANNER, A::INVALID);
    if W::AUTHORISES_FIRST {
        asked.unchecked = Some(unchecked);
    } else {
        asked.check(unchecked)?;
    }
    if let Some(rule) = operation.rule {
        rule(&api, &asked)?;
    }
    Ok((operation, enter(api, operation, asked).await?))
}

/// What changes something runs as a task of its own: hyper drops what it waits for when the client
/// hangs up, and an operation that has written its rows still has to start what they stand for.
/// Reads are spared the cost.
async fn enter<A: Api>(api: Arc<A>, operation: &'static Operation<A>, asked: Asked) -> Outcome {
    match operation.effect {
        Effect::Read => api.enter(operation, asked).await,
        Effect::Write => {
            let running = async move { api.enter(operation, asked).await };
            let done = tokio::spawn(running.in_current_span()).await;
            done.unwrap_or_else(|error| Err(Error::broke_off(&error.to_string())))
        }
    }
}
