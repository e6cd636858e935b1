//! HTTPS endpoints of microVMs: token check, port routing, auto-resume, idle accounting.
//!
//! A request goes through `connection` (TLS and HTTP/1.1), `route` (which microVM and port do host, SNI and headers
//! mean), `admit` (the token), [`Backend::ensure_running`] (held while the microVM resumes) and `forward` (to the
//! app, on a connection of `app`). With a token for shells, it goes to `shell` instead.
//!
//! Invariants: before a token has been verified nothing is resumed and nothing tells whether a microVM exists; no
//! `x-aws-proxy-*` header reaches an app; every byte to and from an app is reported as traffic, and nothing else is.

mod admit;
mod app;
mod backend;
mod ca;
mod connection;
mod forward;
mod refusal;
mod route;
mod serve;
mod shell;
mod shell_session;
mod tls;

pub use backend::{Backend, RunningApp};
pub use ca::{CaError, CertificateAuthority};
pub use route::EndpointHosts;
pub use serve::{DataPlane, TlsError};
