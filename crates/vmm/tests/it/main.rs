//! Tests of the QEMU driver with a real guest. They need root, QEMU, a C compiler and the guest
//! artefacts of `make setup`; where one is missing they say so and pass.
#![allow(unsafe_code, clippy::unwrap_used)]

mod adopt;
mod conformance;
mod damage;
mod guest;
mod hosts;
mod jail;
mod largest;
mod network;
mod qemu;
