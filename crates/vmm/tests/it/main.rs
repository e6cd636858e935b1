//! Tests of the drivers: the fake, and QEMU with a real guest. The latter need root, QEMU, a C
//! compiler and the guest artefacts of `make setup`; where one is missing they say so and pass.
#![allow(unsafe_code, clippy::unwrap_used)]

mod adopt;
mod conformance;
mod damage;
mod fake;
mod full_disk;
mod guest;
mod hosts;
mod jail;
mod largest;
mod network;
mod qemu;
