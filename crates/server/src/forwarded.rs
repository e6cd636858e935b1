//! Where a request comes from when proxies of the operator's stand in front of the API.

use std::net::{IpAddr, SocketAddr};

use hearth_identity::{ConnectionUser, SourceAddress};
use hyper::HeaderMap;
use ipnet::IpNet;

/// The addresses a request came through, each proxy's peer at the end of the list. There is no
/// standard; proxies agree.
const FORWARDED_FOR: &str = "x-forwarded-for";
/// `https` when the client spoke TLS to the proxy.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Proxies whose word on their clients' addresses is believed.
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Addresses and ranges (CIDR); the error names what is neither.
    pub(crate) fn parse(texts: &[String]) -> anyhow::Result<Self> {
        let parse = |text: &String| {
            let range = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            range.map_err(|_| {
                anyhow::anyhow!(
                    "api.trusted_proxies has {text:?}, which is no address or range such as 10.0.0.0/8"
                )
            })
        };
        texts.iter().map(parse).collect::<anyhow::Result<_>>().map(Self)
    }

    /// Whether this is one of them.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|range| range.contains(&address))
    }

    /// The client: from the connection's peer back to the first address that is no trusted proxy's.
    /// What stands before that was written by somebody who may lie. `user` is the connection's.
    pub(crate) fn source(
        &self,
        peer: SocketAddr,
        headers: &HeaderMap,
        user: ConnectionUser,
    ) -> SourceAddress {
        if !self.contains(peer.ip()) {
            return SourceAddress { address: peer.ip(), secure: false, user };
        }
        let mut address = peer.ip();
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let told = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
        for told in told.map_while(address_of) {
            address = told;
            if !self.contains(address) {
                break;
            }
        }
        // The last one was written by the proxy that we talk to.
        let protocol =
            headers.get_all(FORWARDED_PROTO).iter().next_back().and_then(|value| value.to_str().ok());
        let protocol = protocol.and_then(|value| value.rsplit(',').next());
        let secure = protocol.is_some_and(|protocol| protocol.trim().eq_ignore_ascii_case("https"));
        SourceAddress { address, secure, user }
    }
}

/// Some proxies add the port.
fn address_of(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    address.ok().or_else(bracketed).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "192.0.2.1:1000";

    fn source(peer: &str, headers: &[(&'static str, &'static str)]) -> (String, bool) {
        let proxies = TrustedProxies::parse(&["192.0.2.0/24".into(), "2001:db8::1".into()]).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let source = proxies.source(peer.parse().unwrap(), &map, ConnectionUser::default());
        (source.address.to_string(), source.secure)
    }

    #[test]
    fn the_last_address_that_is_no_proxy_s_is_the_client_s() {
        let told = |value| source(PROXY, &[(FORWARDED_FOR, value)]).0;
        assert_eq!(told("203.0.113.9"), "203.0.113.9");
        assert_eq!(told("127.0.0.1, 203.0.113.9"), "203.0.113.9", "a client may write anything");
        assert_eq!(told("203.0.113.9, 192.0.2.77,192.0.2.78"), "203.0.113.9");
        assert_eq!(told("203.0.113.9:4711"), "203.0.113.9");
        assert_eq!(told("[2001:db8::9]:4711, [2001:db8::1]"), "2001:db8::9");
        assert_eq!(told("::ffff:203.0.113.9"), "203.0.113.9");
        assert_eq!(told("203.0.113.9, unknown"), "192.0.2.1");
        assert_eq!(told(""), "192.0.2.1");
        let lines = [(FORWARDED_FOR, "127.0.0.1"), (FORWARDED_FOR, "203.0.113.9")];
        assert_eq!(source(PROXY, &lines).0, "203.0.113.9");
    }

    #[test]
    fn only_proxies_are_believed() {
        let lie = [(FORWARDED_FOR, "10.0.0.1"), (FORWARDED_PROTO, "https")];
        assert_eq!(source("203.0.113.9:1", &lie), ("203.0.113.9".into(), false));
        assert_eq!(source("[::ffff:192.0.2.1]:1", &lie), ("10.0.0.1".into(), true));
        assert_eq!(source(PROXY, &[]), ("192.0.2.1".into(), false));
        let last = [(FORWARDED_PROTO, "https"), (FORWARDED_PROTO, "https, http")];
        assert!(!source(PROXY, &last).1);
        assert!(
            TrustedProxies::parse(&["10.0.0.0/33".into()]).unwrap_err().to_string().contains("10.0.0.0/33")
        );
    }
}
