//! HTTPS endpoints of microVMs: token check, port routing, auto-resume, idle accounting.
//!
//! A request goes through `connection` (TLS and HTTP/1.1), `route` (which microVM and port do host, SNI and headers
//! mean), `admit` (the token), [`Backend::ensure_running`] (held while the microVM resumes) and `forward` (to the
//! app, on a connection of `app`). A `call` goes with it from the first to the last byte, for counters and access log.
//!
//! Invariants: before a token has been verified nothing is resumed and nothing tells whether a microVM exists; no
//! `x-aws-proxy-*` header reaches an app; every byte to and from an app is reported as traffic, and nothing else is.

mod access_log;
mod admit;
mod app;
mod backend;
mod call;
mod connection;
mod counters;
mod forward;
#[cfg(test)]
mod fuzz;
mod refusal;
mod route;
mod serve;
mod tls;

pub use access_log::AccessLog;
pub use backend::{Backend, RunningApp};
pub use call::Observation;
pub use counters::Counters;
pub use route::EndpointHosts;
pub use serve::{DataPlane, TlsError};
