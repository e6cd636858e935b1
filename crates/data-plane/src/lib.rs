//! HTTPS endpoints of microVMs: token check, port routing, auto-resume, idle accounting.
//!
//! A request comes over a `connection` (TLS, then HTTP/1.1 or HTTP/2) and goes through `pass`:
//! `route` (which host and port), `switch` and `subprotocol` (what it wants to become),
//! `admit` (the token), `wake` (held while the microVM resumes) by way of `reach`, and
//! `forward`, on a connection of `app`, which is one of `http1` to itself or a stream of
//! `http2`, with `upstream_tls` where `ports` knows that the app wants it. A `call` goes with
//! it from the first to the last byte, for counters and access log. With a token for shells,
//! it goes to `shell` instead.
//!
//! Invariants: before a token has been verified nothing is resumed and nothing tells whether a
//! microVM exists; no `x-aws-proxy-*` header reaches an app; every byte to and from an app is
//! reported as traffic, and nothing else is.

mod abandoned;
mod access_log;
mod activity;
mod admit;
mod answer_body;
mod app;
mod app_port;
mod backend;
mod call;
mod chatter;
mod client;
mod connection;
mod counted;
mod counters;
mod forward;
#[cfg(test)]
mod fuzz;
mod handshakes;
mod head;
mod http1;
mod http2;
mod layer;
mod limits;
mod liveness;
mod pass;
mod places;
mod ports;
mod reach;
mod refusal;
mod request_body;
mod route;
mod send_error;
mod serve;
mod shared;
mod shares;
mod shell;
mod shell_session;
mod sources;
mod stop;
mod subprotocol;
mod switch;
mod target;
mod tls;
mod upstream_tls;
mod wake;
mod workers;

pub use access_log::AccessLog;
pub use activity::{Activity, Busy};
pub use backend::{Backend, RunningApp};
pub use call::Observation;
pub use counters::Counters;
pub use limits::MicrovmLimits;
pub use liveness::watch_clients;
pub use route::EndpointHosts;
pub use serve::{DataPlane, DataPlaneConfig, StartError};
pub use sources::{FromSource, Sources, source_of};
pub use workers::Workers;
