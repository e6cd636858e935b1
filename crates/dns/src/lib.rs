//! Name server for the domain of the endpoints: every name directly below it has the addresses of
//! this server.
//!
//! Invariants: an answer does not tell whether a microVM of that name exists; a source that has not
//! proven itself (UDP) is sent hardly more bytes than came from it, and a limited number a second;
//! no input stops the server.
//!
//! Reading order: [`zone`] (pure: a query in, an answer out), `limit`, `tcp`, [`server`].

mod limit;
pub mod server;
mod tcp;
pub mod zone;

pub use server::{NameServer, StartError};
pub use zone::{Zone, ZoneError};
