//! Parts of `make bench-endpoint` (tests/bench/endpoint_bench.py), which puts this data plane
//! beside nginx and HAProxy: the upstream that all three speak to, the data plane with microVMs
//! that are this upstream, and a client.
//!
//! usage:
//!     endpoint_bench upstream ADDRESS
//!     endpoint_bench proxy ADDRESS UPSTREAM DIRECTORY HOSTS
//!     endpoint_bench load websocket|handshakes|hosts|idle ADDRESS HOSTS-FILE CONNECTIONS SECONDS

mod load;
mod proxy;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let address = |text: &str| text.parse::<SocketAddr>();
    match arguments[..] {
        ["upstream", listen] => upstream::serve(address(listen)?).await,
        ["proxy", listen, upstream, directory, hosts] => {
            proxy::serve(address(listen)?, address(upstream)?, &PathBuf::from(directory), hosts.parse()?)
                .await
        }
        ["load", kind, proxy, hosts, connections, seconds] => {
            let load = load::Load {
                proxy: address(proxy)?,
                hosts: serde_json::from_slice(&std::fs::read(hosts)?)?,
                connections: connections.parse()?,
                time: Duration::from_secs_f64(seconds.parse()?),
            };
            load.run(kind).await
        }
        _ => Err("see the head of examples/endpoint_bench/main.rs for the usage".into()),
    }
}
