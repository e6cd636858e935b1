//! `make bench-api`: GetMicrovm and ListMicrovms with few and many records, against
//! a plain axum "hello".
//!
//! The real router with a real database file, over loopback, in this process; without limits on the
//! rate. Requests are signed before their round begins, so that the client costs little. What is
//! measured how: tests/bench/README.md.
//!
//! usage: `api_bench [--repeats N] [--seconds S] [--connections N] [--json FILE]
//! [--sizes 10,1000] [--only TEXT]`

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![allow(clippy::print_stdout, reason = "it is a program that reports")]

mod load;
mod report;
mod seed;
#[path = "../../tests/it/support.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use hearth_control_plane::Rates;
use hearth_records::{Limits, Quotas};
use hearth_store_sqlite::Store;

use crate::load::Round;
use crate::seed::Seeded;
use crate::support::Api;

/// Numbers of records; most of them have ended.
const SIZES: [usize; 3] = [10, 1_000, 100_000];
/// Requests that are signed ahead for a round, and then sent over and over.
const REQUESTS: usize = 2_000;
/// The same for a case in which hardly any microVM is asked for twice.
const SCATTERED_REQUESTS: usize = 60_000;
/// Changes of microVMs per second in the cases that have them.
const CHANGES_PER_SECOND: u64 = 100;

struct Arguments {
    repeats: usize,
    duration: Duration,
    connections: usize,
    json: Option<std::path::PathBuf>,
    sizes: Vec<usize>,
    only: String,
}

impl Arguments {
    fn read() -> Self {
        let mut read = Self {
            repeats: 5,
            duration: Duration::from_secs(2),
            connections: 8,
            json: None,
            sizes: SIZES.to_vec(),
            only: String::new(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().unwrap_or_else(|| panic!("{name} needs a value"));
            match name.as_str() {
                "--repeats" => read.repeats = value.parse().unwrap(),
                "--seconds" => read.duration = Duration::from_secs_f64(value.parse().unwrap()),
                "--connections" => read.connections = value.parse().unwrap(),
                "--sizes" => read.sizes = value.split(',').map(|size| size.parse().unwrap()).collect(),
                "--only" => read.only = value,
                "--json" => read.json = Some(value.into()),
                _ => panic!("there is no argument {name}"),
            }
        }
        read
    }
}

/// What is asked of one server.
struct Case {
    name: String,
    address: SocketAddr,
    targets: Vec<String>,
    requests: usize,
    /// What changes meanwhile.
    changing: Option<(Store, String)>,
}

impl Case {
    fn new(name: String, address: SocketAddr, targets: Vec<String>) -> Self {
        Self { name, address, targets, requests: REQUESTS, changing: None }
    }

    async fn run(&self, connections: usize, duration: Duration) -> Round {
        let requests = load::sign_all(&self.targets, self.address, self.requests);
        let changing = self.changing.clone().map(|(store, id)| tokio::spawn(seed::change(store, id)));
        let round = load::run(self.address, requests, connections, duration).await;
        if let Some(changing) = changing {
            changing.abort();
        }
        round
    }
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::read();
    // As the server has it, but for what becomes of the lines.
    tracing_subscriber::fmt().with_env_filter("info").with_writer(std::io::sink).init();
    let directory = tempfile::tempdir().unwrap();
    let hello = axum::Router::new().fallback(|| async { "hello" });
    let mut cases = vec![Case::new("hello".to_owned(), serve(hello).await, vec!["/hello".to_owned()])];
    let mut kept = Vec::new();
    for &size in &arguments.sizes {
        let store = Store::open_for_a_bench(&directory.path().join(format!("{size}.db"))).await.unwrap();
        let api = Api::start_on(store, |config| {
            config.rates = Rates { get_microvm: 0, ..Rates::default() };
            let quotas = Quotas { memory_mib: u64::MAX >> 1, ..Quotas::default() };
            config.limits.set(Limits { quotas, ..Limits::default() });
        })
        .await;
        let begin = std::time::Instant::now();
        let seeded = seed::fill(&api, size).await;
        println!("{size} records written in {:.1} s", begin.elapsed().as_secs_f64());
        let address = serve(api.router.clone()).await;
        cases.extend(cases_of(size, address, &seeded, &api.store));
        kept.push(api);
    }
    cases.retain(|case| case.name == "hello" || case.name.contains(&arguments.only));
    let mut rounds: BTreeMap<&str, Vec<Round>> = BTreeMap::new();
    // They take turns, so that all have the same share of what else the machine does. The
    // first turn warms up.
    for repeat in 0..=arguments.repeats {
        for case in &cases {
            let duration = if repeat == 0 { arguments.duration / 4 } else { arguments.duration };
            let round = case.run(arguments.connections, duration).await;
            if repeat > 0 {
                rounds.entry(&case.name).or_default().push(round);
            }
        }
    }
    let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    report::print(&names, &rounds, arguments.connections, &arguments.sizes);
    if let Some(path) = arguments.json {
        std::fs::write(path, report::json(&rounds).to_string()).unwrap();
    }
}

fn cases_of(size: usize, address: SocketAddr, seeded: &Seeded, store: &Store) -> Vec<Case> {
    let case = |what: &str, targets| Case::new(format!("{what}, {size}"), address, targets);
    let get: Vec<String> = seeded.identifiers.iter().map(|id| format!("/2025-09-09/microvms/{id}")).collect();
    let list = |query: String| vec![format!("/2025-09-09/microvms?{query}")];
    let image = percent_encoding::utf8_percent_encode(&seeded.rare_image, percent_encoding::NON_ALPHANUMERIC);
    let changing = seeded.identifiers.last().map(|id| (store.clone(), id.clone()));
    vec![
        case("GetMicrovm", get.clone()),
        Case { requests: SCATTERED_REQUESTS, ..case("GetMicrovm, scattered", get) },
        case("ListMicrovms of 10", list("maxResults=10".to_owned())),
        case("ListMicrovms of 50", list("maxResults=50".to_owned())),
        Case { changing, ..case("ListMicrovms of 50 that change", list("maxResults=50".to_owned())) },
        case("ListMicrovms of a rare image", list(format!("maxResults=10&imageIdentifier={image}"))),
        case("ListMicrovms, last page", vec![seeded.last_page.clone()]),
    ]
}

/// Serves until the end of the program.
async fn serve(router: axum::Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}
