//! The endpoints over real TLS, in front of apps on loopback.
#![allow(clippy::unwrap_used, reason = "clippy's own exception covers test functions but not what they call")]

mod client;
mod connections;
mod early_answers;
mod fairness;
mod fake;
mod floods;
mod forwarding;
mod frames;
mod heads;
mod http2;
mod limits;
mod observation;
mod places;
mod raw_http2;
mod refusals;
mod secured_app;
mod shells;
mod shutdown;
mod slow_bodies;
mod smuggling;
mod tls_apps;
mod waking;
mod waking_under_way;
mod websocket;
mod workers;
