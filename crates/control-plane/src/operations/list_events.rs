//! ListEvents: what has changed, and why; an extension, which AWS does not have. At once, as soon
//! as there is something (`waitSeconds`), or as a stream of server-sent events (WHATWG HTML,
//! "Server-sent events") that goes on where the client has seen the last one.

use axum::body::Body;
use hearth_service::shape::{Member, Shape, header, query, text};
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::on;
use crate::access::Access;
use crate::config::Context;
use crate::watch::{Watch, stream};

/// What a client that wants a stream accepts.
const STREAM: &str = "text/event-stream";
const SHAPE: &[Member] = &[
    query("after", &Shape::Integer(0, i64::MAX)),
    query("resource", &text(1, 2048)),
    query("waitSeconds", &Shape::Integer(0, 20)),
    query("maxResults", &Shape::Integer(1, 1000)),
    header("accept", &text(0, 1024)),
    header("last-event-id", &text(0, 20)),
];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "ListEvents",
    Effect::Read,
    on(Verb::Get, "/hearth/2026-11-22/events"),
    SHAPE,
    Access::Events(|context, call, watch| Box::pin(run(context, call, watch))),
);

async fn run(_: &Context, call: Call, watch: Watch) -> Outcome {
    let wants_stream = call.input().get("accept").is_some_and(|accepted| accepted.contains(STREAM));
    if wants_stream {
        return Ok(Answer::Stream(STREAM, Body::from_stream(stream(watch))));
    }
    Ok(Answer::json(&watch.page().await?))
}
