//! Builds up to the microVM that they run in, and the readers of what tenants bring, as the server
//! starts them. They need root, and say so where they have not.
#![allow(clippy::unwrap_used)]

mod hostile;
mod owners;
mod readers;
mod registry;
mod under_way;
mod world;
