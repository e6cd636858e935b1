//! `hearth forward`.

use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use tokio::net::TcpListener;

use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::forward::{Forwarder, Tokens};
use crate::microvms;
use crate::render;

/// Arguments of `hearth forward`.
#[derive(Debug, Args)]
pub struct ForwardArgs {
    /// Id of a microVM, or the beginning of it
    id: String,
    /// LOCAL:PORT, or PORT for the same on both sides; LOCAL 0 is any free port
    #[arg(required = true, value_name = "LOCAL:PORT")]
    ports: Vec<PortPair>,
    /// Address to listen on; whoever reaches it reaches the microVM
    #[arg(long, default_value_t = IpAddr::from(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Minutes for which each token is good, 1 to 60; the next one is made in time
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=60))]
    token_minutes: u32,
}

/// A port of this machine and the port of the app that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PortPair {
    local: u16,
    app: u16,
}

impl FromStr for PortPair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (local, app) = text.split_once(':').unwrap_or((text, text));
        let number = |text: &str| text.parse::<u16>().map_err(|_| format!("{text:?} is no port"));
        let pair = Self { local: number(local)?, app: number(app)? };
        if pair.app == 0 { Err("an app has no port 0".to_owned()) } else { Ok(pair) }
    }
}

/// Forwards until it is interrupted.
pub(crate) async fn run(client: Client, args: ForwardArgs) -> anyhow::Result<ExitCode> {
    let id = microvms::resolve_id(&client, &args.id).await?;
    let endpoint = Endpoint::of(&client, &id).await?;
    let ports = args.ports.iter().map(|pair| pair.app).collect();
    let tokens = Arc::new(Tokens::new(client, id, ports, args.token_minutes));
    // What is wrong with the microVM or the key is said here and not in the first browser.
    tokens.header().await?;
    let mut listening = Vec::new();
    for pair in args.ports {
        let address = SocketAddr::new(args.address, pair.local);
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        listening.push((listener, pair.app));
    }
    for (listener, app_port) in listening {
        render::line(&format!("http://{} -> port {app_port}", name(listener.local_addr()?)))?;
        let forwarder = Forwarder::new(endpoint.clone(), Arc::clone(&tokens), app_port, args.address);
        tokio::spawn(Arc::new(forwarder).serve(listener));
    }
    pending().await
}

/// What to type into a browser.
fn name(address: SocketAddr) -> String {
    if address.ip() == Ipv4Addr::LOCALHOST {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_stands_for_both() {
        let parse = |text: &str| text.parse::<PortPair>();
        assert_eq!(parse("8888:80"), Ok(PortPair { local: 8888, app: 80 }));
        assert_eq!(parse("5000"), Ok(PortPair { local: 5000, app: 5000 }));
        assert_eq!(parse("0:80"), Ok(PortPair { local: 0, app: 80 }));
        assert_eq!(parse("x:80").unwrap_err(), "\"x\" is no port");
        assert_eq!(parse("80:70000").unwrap_err(), "\"70000\" is no port");
        assert_eq!(parse("0").unwrap_err(), "an app has no port 0");
        assert!(parse("1:2:3").is_err());
    }
}
