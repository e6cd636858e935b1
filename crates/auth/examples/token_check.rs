//! How long it takes to check and to make an endpoint token: `cargo run --release -p hearth-auth
//! --example token_check`.
//!
//! Prints the median and the 99th percentile over batches, in microseconds for one token.
//! Nothing is asserted.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people")]

use std::hint::black_box;
use std::time::Instant;

use hearth_api::{MicrovmId, PortSpecification};
use hearth_auth::{Claims, OpenedTokens, TokenKey, TokenKeys, TokenKind};
use uuid::Uuid;

const BATCHES: usize = 2000;
const BATCH: u32 = 50;
const NOW: i64 = 1_800_000_000;

fn main() {
    let key = |byte| TokenKey { kid: Uuid::from_bytes([byte; 16]), secret: [byte; 32] };
    let (keys, microvm) = (TokenKeys::new(key(1), vec![key(2)]), MicrovmId::new());
    let claims = |ports| Claims {
        microvm: microvm.clone(),
        ports,
        expires_at_seconds: NOW,
        kind: TokenKind::Http,
        revocations: 0,
    };
    let all = claims(vec![PortSpecification::AllPorts {}]);
    let ten = claims((0..10).map(|index| PortSpecification::Port(8080 - index)).collect());
    let old = TokenKeys::new(key(2), vec![]).issue(&all).unwrap();
    let check = |token: &str| {
        let claims = black_box(keys.open(token).unwrap());
        assert!(claims.is_valid_at(NOW) && claims.microvm == microvm && claims.opens(8080));
    };
    for (name, token) in [
        ("check, all ports", keys.issue(&all).unwrap()),
        ("check, ten ports", keys.issue(&ten).unwrap()),
        ("check, key before", old),
    ] {
        measure(name, || check(black_box(&token)));
    }
    let (opened, again) = (OpenedTokens::default(), keys.issue(&all).unwrap());
    measure("check, seen before", || {
        let claims = black_box(opened.open(&keys, black_box(&again)).unwrap());
        assert!(claims.is_valid_at(NOW) && claims.microvm == microvm && claims.opens(8080));
    });
    let foreign = TokenKeys::new(key(3), vec![]).issue(&all).unwrap();
    measure("refuse, unknown key", || {
        black_box(keys.open(black_box(&foreign))).unwrap_err();
    });
    measure("make, all ports", || drop(black_box(keys.issue(black_box(&all)).unwrap())));
}

fn measure(name: &str, mut work: impl FnMut()) {
    let mut batch = || {
        let began = Instant::now();
        (0..BATCH).for_each(|_| work());
        began.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH)
    };
    let mut times: Vec<f64> = (0..BATCHES).map(|_| batch()).collect();
    times.sort_unstable_by(f64::total_cmp);
    let (median, p99) = (times[BATCHES / 2], times[BATCHES * 99 / 100]);
    println!("{name:<22} median {median:6.2} µs  p99 {p99:6.2} µs");
}
