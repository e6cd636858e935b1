//! Name server for the domain of the endpoints: every name directly below it has the
//! addresses of this server.
//!
//! Invariants: names of microVMs that exist and of ones that do not are answered alike; what is
//! sent to a source that was not proven (UDP) is hardly larger than what it sent, and at most so
//! much in a second; no input makes it stop.
//!
//! Reading order: [`zone`] (pure: a query in, an answer out), `limit`, `tcp`, [`server`].

mod limit;
pub mod server;
mod tcp;
pub mod zone;

pub use server::{NameServer, StartError};
pub use zone::{Zone, ZoneError};
