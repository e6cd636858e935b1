//! A microVM's life on the fake driver: what the record says, what is left behind, and
//! what a failure does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
mod connections;
mod ends;
mod failures;
mod floods;
mod hooks;
mod interrupted;
mod life;
mod output;
mod owners;
mod records;
mod recovery;
mod simulation;
mod support;
mod two_processes;
mod two_writers;
mod upgrade;
mod wakes;
mod waking;
