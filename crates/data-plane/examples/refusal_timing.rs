//! How long refusals take, compared: whether a stranger could tell from the time what exists.
//!
//! `cargo run --release -p hearth-data-plane --example refusal_timing [SAMPLES]` prints a table.
//! The requests are interleaved, on connections that are kept open; differences of medians have a
//! 95 % interval (bootstrap).
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "the world is that of the tests, of which this needs a part; a failure is to end it"
)]

use std::time::{Duration, Instant};

use hearth_api::MicrovmId;
use hearth_auth::Claims;
use http::Request;
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::SendRequest;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use client::{TestBody, connect, empty};
use fake::{LABEL, World, host};

#[path = "../tests/it/client.rs"]
mod client;
#[path = "../tests/it/fake.rs"]
mod fake;

/// Label of no endpoint.
const UNKNOWN: &str = "ffffffff-6a8a-4f0c-9b57-3a1f5f0e7d11";
/// Labels of microVMs that have ended, whose records are there.
const ENDED: [&str; 2] = ["2d9c4c1f-7b9b-4a1d-8c68-4b2a6a1f8e33", "3e9c4c1f-7b9b-4a1d-8c68-4b2a6a1f8e44"];
/// Rounds that warm up.
const WARM_UP: usize = 500;
const RESAMPLES: usize = 1000;

struct Case {
    name: &'static str,
    label: &'static str,
    token: Option<String>,
    microseconds: Vec<f64>,
}

// On one thread: which thread a connection is on, and when that one slept, would say more than what
// is done for a request.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let samples = std::env::args().nth(1).map_or(5000, |samples| samples.parse().unwrap());
    let world = World::on_this_thread().await;
    let mut cases = cases(&world);
    // One for each case, all used as often: what was not used for longer is slower.
    let mut connections = Vec::new();
    for case in &cases {
        connections.push(connect(&world, case.label).await);
    }
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    let mut order: Vec<usize> = (0..cases.len()).collect();
    for round in 0..WARM_UP + samples {
        order.shuffle(&mut random);
        for index in &order {
            let case = &mut cases[*index];
            let took = refused(&mut connections[*index], case).await;
            if round >= WARM_UP {
                case.microseconds.push(took.as_secs_f64() * 1e6);
            }
        }
    }
    let reference = cases[0].microseconds.clone();
    println!("| Refused | median, µs | 10 to 90 % | difference of medians, µs (95 %) |");
    println!("|---|---|---|---|");
    for case in &cases {
        let mut sorted = case.microseconds.clone();
        let (low, middle, high) =
            (quantile(&mut sorted, 0.1), quantile(&mut sorted, 0.5), quantile(&mut sorted, 0.9));
        let difference = difference(&case.microseconds, &reference, &mut random);
        println!("| {} | {middle:.1} | {low:.1} to {high:.1} | {difference} |", case.name);
    }
}

fn cases(world: &World) -> Vec<Case> {
    let good = world.token();
    let claims = world.claims();
    let foreign = world.issue(&Claims { microvm: MicrovmId::new(), ..claims.clone() });
    let past = jiff::Timestamp::now().as_second() - 1;
    let expired = world.issue(&Claims { expires_at_seconds: past, ..claims.clone() });
    let ended = MicrovmId::new();
    let of_ended = world.issue(&Claims { microvm: ended.clone(), ..claims });
    let records = [ended, MicrovmId::new()].into_iter().zip(ENDED.map(str::to_owned));
    world.node.ended.lock().unwrap().extend(records);
    let flipped = |at: usize| {
        let mut token = good.clone().into_bytes();
        token[at] = if token[at] == b'A' { b'B' } else { b'A' };
        Some(String::from_utf8(token).unwrap())
    };
    let case = |name, label, token| Case { name, label, token, microseconds: Vec::new() };
    vec![
        case("token of another microVM", LABEL, Some(foreign.clone())),
        case("expired token", LABEL, Some(expired)),
        case("a bit of the ciphertext flipped", LABEL, flipped(good.len() / 2)),
        case("a bit of the header flipped", LABEL, flipped(20)),
        case("text that is no token", LABEL, Some("banana".to_owned())),
        case("no token", LABEL, None),
        case("good token, unknown host", UNKNOWN, Some(good.clone())),
        case("token of another microVM, unknown host", UNKNOWN, Some(foreign.clone())),
        case("token of another microVM, host of one that has ended", ENDED[1], Some(foreign)),
        case("token of a microVM that has ended, host of another one", LABEL, Some(of_ended.clone())),
        case("the same, host of another one that has ended", ENDED[1], Some(of_ended.clone())),
        case("the same, unknown host", UNKNOWN, Some(of_ended)),
        case("no token, unknown host", UNKNOWN, None),
    ]
}

/// Sends one request, which must be refused.
async fn refused(sender: &mut SendRequest<TestBody>, case: &Case) -> Duration {
    let mut request = Request::builder().uri("/").header("host", host(case.label));
    if let Some(token) = &case.token {
        request = request.header("x-aws-proxy-auth", token);
    }
    let request = request.body(empty()).unwrap();
    sender.ready().await.unwrap();
    let began = Instant::now();
    let response = sender.send_request(request).await.unwrap();
    let took = began.elapsed();
    assert_eq!(response.status(), 403, "{}", case.name);
    response.into_body().collect().await.unwrap();
    took
}

fn quantile(samples: &mut [f64], part: f64) -> f64 {
    let at = ((samples.len() - 1) as f64 * part) as usize;
    *samples.select_nth_unstable_by(at, f64::total_cmp).1
}

/// Difference of the medians of `samples` and `reference`, with the middle 95 % of what
/// resampling makes of it.
fn difference(samples: &[f64], reference: &[f64], random: &mut rand::rngs::StdRng) -> String {
    let mut median = |samples: &[f64]| {
        let mut drawn: Vec<f64> =
            (0..samples.len()).map(|_| samples[random.random_range(0..samples.len())]).collect();
        quantile(&mut drawn, 0.5)
    };
    let mut differences: Vec<f64> = (0..RESAMPLES).map(|_| median(samples) - median(reference)).collect();
    let (low, high) = (quantile(&mut differences, 0.025), quantile(&mut differences, 0.975));
    let middle = quantile(&mut samples.to_vec(), 0.5) - quantile(&mut reference.to_vec(), 0.5);
    format!("{middle:+.2} ({low:+.2} to {high:+.2})")
}
