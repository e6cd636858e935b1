//! What a request and its answer must say differently, because the browser believes in one host
//! and the app in another.

use std::net::IpAddr;

use anyhow::Context as _;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CONNECTION, CONTENT_LOCATION, HOST, LOCATION, ORIGIN, REFERER, SET_COOKIE,
    STRICT_TRANSPORT_SECURITY, UPGRADE,
};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version, request, response};

const PROXY_PREFIX: &str = "x-aws-proxy-";
const PROXY_PORT: HeaderName = HeaderName::from_static("x-aws-proxy-port");

/// The same place under its two names, each `host[:port]`.
#[derive(Debug)]
pub(super) struct Places {
    /// As the client calls it, over plain HTTP.
    pub(super) local: String,
    /// As the app calls it, over HTTPS.
    pub(super) endpoint: String,
}

/// Turns a request to the local port into one to the endpoint.
pub(super) fn request(parts: &mut request::Parts, places: &Places, app_port: u16) -> anyhow::Result<()> {
    let target = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    parts.uri = Uri::from(target);
    parts.version = Version::HTTP_11;
    remove_hop_by_hop(&mut parts.headers);
    let headers = &mut parts.headers;
    let own: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(PROXY_PREFIX)).cloned().collect();
    for name in own {
        headers.remove(name);
    }
    headers.insert(HOST, HeaderValue::from_str(&places.endpoint).context("the endpoint's name is no host")?);
    headers.insert(PROXY_PORT, HeaderValue::from(app_port));
    let (from, to) = (format!("http://{}", places.local), format!("https://{}", places.endpoint));
    for name in [ORIGIN, REFERER] {
        map(headers, &name, |url| moved(url, |origin| origin == from, &to));
    }
    Ok(())
}

/// Turns the endpoint's answer into one of the local port.
pub(super) fn response(parts: &mut response::Parts, places: &Places) {
    parts.version = Version::HTTP_11;
    remove_hop_by_hop(&mut parts.headers);
    let headers = &mut parts.headers;
    // The local port speaks plain HTTP, and so may others on this machine.
    headers.remove(STRICT_TRANSPORT_SECURITY);
    let endpoint = host_of(&places.endpoint);
    let local = format!("http://{}", places.local);
    for name in [LOCATION, CONTENT_LOCATION, ACCESS_CONTROL_ALLOW_ORIGIN] {
        map(headers, &name, |url| moved(url, |origin| host_of_origin(origin) == Some(endpoint), &local));
    }
    let cookies: Vec<HeaderValue> = headers
        .get_all(SET_COOKIE)
        .iter()
        .map(|cookie| {
            cookie
                .to_str()
                .ok()
                .and_then(|text| local_cookie(text, endpoint).try_into().ok())
                .unwrap_or(cookie.clone())
        })
        .collect();
    headers.remove(SET_COOKIE);
    for cookie in cookies {
        headers.append(SET_COOKIE, cookie);
    }
}

/// Whether a `Host` field names this machine: an address, or a name under `localhost`. When
/// others can connect, too, this machine may have names that are not known here: any is taken.
pub(super) fn is_own_name(host: &str, listens_on: IpAddr) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    !listens_on.is_loopback()
        || name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok()
}

/// The URL with another origin, if its own is one of those meant.
fn moved(url: &str, is_meant: impl Fn(&str) -> bool, to: &str) -> Option<String> {
    let scheme = url.find("://")? + 3;
    let end = url[scheme..].find(['/', '?', '#']).map_or(url.len(), |end| scheme + end);
    let (origin, rest) = url.split_at(end);
    is_meant(origin).then(|| format!("{to}{rest}"))
}

/// The host in `scheme://host[:port]`.
fn host_of_origin(origin: &str) -> Option<&str> {
    let (scheme, authority) = origin.split_once("://")?;
    matches!(scheme, "http" | "https" | "ws" | "wss").then(|| host_of(authority))
}

fn host_of(authority: &str) -> &str {
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

/// A cookie that the browser keeps for the local host: without `Domain` if that means the endpoint,
/// and without `Secure`, which not every browser takes over plain HTTP, unless another attribute or
/// the name demands it (RFC 6265bis, 4.1.3).
fn local_cookie(cookie: &str, endpoint: &str) -> String {
    let attributes = || cookie.split(';').skip(1).map(str::trim);
    let is = |attribute: &str, name: &str| {
        attribute.split('=').next().is_some_and(|found| found.trim().eq_ignore_ascii_case(name))
    };
    let needs_secure = cookie.trim_start().starts_with("__Secure-")
        || cookie.trim_start().starts_with("__Host-")
        || attributes().any(|attribute| {
            attribute.eq_ignore_ascii_case("partitioned") || attribute.eq_ignore_ascii_case("samesite=none")
        });
    let mut kept = vec![cookie.split(';').next().unwrap_or_default().trim()];
    kept.extend(attributes().filter(|attribute| {
        let domain = attribute.split_once('=').map_or("", |(_, value)| value.trim().trim_start_matches('.'));
        let of_endpoint = is(attribute, "domain") && covers(domain, endpoint);
        !of_endpoint && (needs_secure || !is(attribute, "secure"))
    }));
    kept.join("; ")
}

/// Whether a cookie's domain covers a host (RFC 6265, section 5.1.3).
fn covers(domain: &str, host: &str) -> bool {
    let (domain, host) = (domain.to_ascii_lowercase(), host.to_ascii_lowercase());
    host == domain || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
}

fn map(headers: &mut HeaderMap, name: &HeaderName, change: impl Fn(&str) -> Option<String>) {
    let changed = headers.get(name).and_then(|value| change(value.to_str().ok()?)?.try_into().ok());
    if let Some(value) = changed {
        headers.insert(name, value);
    }
}

/// Removes what is for one hop only; a wish to switch protocols is passed on.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let upgrade = headers.get(UPGRADE).filter(|_| hearth_hop::has_option(headers, "upgrade")).cloned();
    hearth_hop::remove_fields(headers);
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use std::net::Ipv4Addr;

    fn places() -> Places {
        Places { local: "localhost:8888".into(), endpoint: "a.example:8443".into() }
    }

    fn requested(fields: &[(&str, &str)]) -> HeaderMap {
        let mut builder = Request::get("http://localhost:8888/path?q");
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let (mut parts, ()) = builder.body(()).unwrap().into_parts();
        request(&mut parts, &places(), 80).unwrap();
        assert_eq!(parts.uri, "/path?q");
        parts.headers
    }

    fn answered(name: &str, value: &str) -> Option<String> {
        let (mut parts, ()) = Response::builder().header(name, value).body(()).unwrap().into_parts();
        response(&mut parts, &places());
        parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_app_sees_its_endpoint_as_host_and_origin() {
        let headers = requested(&[
            ("host", "localhost:8888"),
            ("origin", "http://localhost:8888"),
            ("referer", "http://localhost:8888/page?x#y"),
            ("x-aws-proxy-auth", "forged"),
            ("connection", "keep-alive, x-own"),
            ("x-own", "1"),
        ]);
        let expected = [
            ("host", "a.example:8443"),
            ("origin", "https://a.example:8443"),
            ("referer", "https://a.example:8443/page?x#y"),
            ("x-aws-proxy-port", "80"),
        ];
        assert_eq!(headers.len(), expected.len(), "{headers:?}");
        for (name, value) in expected {
            assert_eq!(headers[name], value);
        }
        let other = requested(&[("origin", "http://evil.example"), ("referer", "http://localhost:88889/")]);
        assert_eq!(
            (&other["origin"], &other["referer"]),
            (&"http://evil.example".parse().unwrap(), &"http://localhost:88889/".parse().unwrap())
        );
        assert_eq!(requested(&[("origin", "null")])["origin"], "null");
    }

    #[test]
    fn an_upgrade_is_passed_on() {
        let headers = requested(&[("connection", "Upgrade, keep-alive"), ("upgrade", "websocket")]);
        assert_eq!(
            (&headers["connection"], &headers["upgrade"]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
        assert!(!requested(&[("upgrade", "h2c")]).contains_key("upgrade"));
    }

    #[test]
    fn redirects_to_the_endpoint_stay_local() {
        let location = |url| answered("location", url).unwrap();
        assert_eq!(location("https://a.example:8443/login?x"), "http://localhost:8888/login?x");
        assert_eq!(location("http://a.example"), "http://localhost:8888");
        assert_eq!(location("/relative"), "/relative");
        assert_eq!(location("https://other.example/"), "https://other.example/");
        assert_eq!(
            location("https://other.example/?next=https://a.example/"),
            "https://other.example/?next=https://a.example/"
        );
        assert_eq!(
            answered("access-control-allow-origin", "https://a.example:8443").unwrap(),
            "http://localhost:8888"
        );
        assert_eq!(answered("access-control-allow-origin", "*").unwrap(), "*");
        assert_eq!(answered("strict-transport-security", "max-age=1"), None);
    }

    #[test]
    fn cookies_of_the_endpoint_become_cookies_of_the_local_host() {
        let cookie = |text| answered("set-cookie", text).unwrap();
        assert_eq!(cookie("a=b; Domain=a.example; Path=/; HttpOnly"), "a=b; Path=/; HttpOnly");
        assert_eq!(cookie("a=b; domain=.example; Secure"), "a=b");
        assert_eq!(cookie("a=b; Domain=other.example"), "a=b; Domain=other.example");
        assert_eq!(cookie("a=b; SameSite=None; Secure"), "a=b; SameSite=None; Secure");
        assert_eq!(cookie("__Host-a=b; Secure; Path=/"), "__Host-a=b; Secure; Path=/");
    }

    #[test]
    fn only_names_of_this_machine_are_answered_to() {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        for own in ["localhost", "localhost:8888", "app.LOCALHOST:1", "127.0.0.1:8888", "[::1]:8888"] {
            assert!(is_own_name(own, loopback), "{own}");
        }
        for other in ["evil.example:8888", "", "localhost.evil.example"] {
            assert!(!is_own_name(other, loopback), "{other}");
        }
        assert!(is_own_name("host.example", IpAddr::from([0, 0, 0, 0])));
    }
}
