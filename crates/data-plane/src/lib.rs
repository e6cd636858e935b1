//! HTTPS endpoints of microVMs: token check, port routing, auto-resume, idle accounting.
//!
//! A request arrives on a `connection` (TLS, then HTTP/1.1 or HTTP/2). `pass` takes it through
//! these steps:
//!
//! 1. `route`: which host and port it is for;
//! 2. `switch`, `subprotocol`: whether it wants to become a WebSocket or another protocol;
//! 3. `admit`: whether its token opens that port. A token for shells leads to `shell` instead;
//! 4. `reach`: a connection to the app. `wake` holds the request while the microVM resumes;
//! 5. `forward`: the request to the app, and its answer back.
//!
//! `app` keeps the connections to apps: `http1` has one for each request, `http2` a stream of a
//! shared one, with `upstream_tls` where `ports` has seen that the app wants TLS. A `call`
//! accompanies the request from the first to the last byte, for counters and access log.
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
mod call;
mod client;
mod connection;
mod control_frames;
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
pub use call::Observation;
pub use counters::Counters;
pub use limits::MicrovmLimits;
pub use liveness::watch_clients;
pub use route::EndpointHosts;
pub use serve::{DataPlane, DataPlaneConfig, StartError};
pub use sources::{FromSource, Sources, source_of};
pub use workers::Workers;
