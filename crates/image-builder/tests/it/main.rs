//! The readers of what tenants bring, as the server starts them. They need root, and say so where they have not.
#![allow(clippy::unwrap_used)]

mod hostile;
mod readers;
