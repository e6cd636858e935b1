//! What settings must be for the server to be of use: told at the start, and not by the first
//! client or build that fails.

use std::path::Path;

use anyhow::{Context as _, ensure};
use ipnet::Ipv4Net;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::build_config::BuildConfig;

/// User ids that may be the first of a server: from where login.defs(5) lets those of people begin
/// (`UID_MIN`), to where a million can follow before −1, which is nobody's.
const FIRST_UIDS: std::ops::RangeInclusive<u32> = 1000..=u32::MAX - 1_000_000;
/// Sixteen microVMs find room there, with those that are kept ready.
const LONGEST_LINKS_PREFIX: u8 = 27;

/// A label of a host name (RFC 1123, section 2.1), in lower case as clients compare it.
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Clients make host names and ARNs of the region.
pub(crate) fn region(text: &str) -> anyhow::Result<()> {
    ensure!(
        is_label(text),
        "the region {text:?} is not of lower-case letters, digits and hyphens, such as us-east-1"
    );
    Ok(())
}

/// The domain under which the endpoints have their names.
pub(crate) fn domain(text: &str) -> anyhow::Result<()> {
    ensure!(
        text.len() <= 128 && text.split('.').all(is_label),
        "endpoint_domain {text:?} is not a host name in lower case, such as apps.example.com"
    );
    Ok(())
}

/// A PEM file of certificates; `setting` is what names it.
pub(crate) fn certificates(setting: &str, path: &Path) -> anyhow::Result<()> {
    let path_of = || format!("{setting} {}", path.display());
    let pem = std::fs::read(path).with_context(|| format!("{} cannot be read", path_of()))?;
    // Other sections, such as keys, are not looked at by who uses it.
    let is_one = CertificateDer::pem_slice_iter(&pem).any(|certificate| certificate.is_ok());
    ensure!(is_one, "{} has no certificate in PEM", path_of());
    Ok(())
}

/// The table of base images that are on this machine. The one that `make setup` writes may be
/// missing, one that somebody has named may not.
pub(crate) fn mirror_table(build: &BuildConfig) -> anyhow::Result<()> {
    let path = &build.mirror_table;
    ensure!(
        path.exists() || *path == BuildConfig::default().mirror_table,
        "build.mirror_table {} is not there; without the setting it is the one of `make setup`",
        path.display()
    );
    Ok(())
}

/// An IPv4 range without host bits.
pub(crate) fn range<T: std::str::FromStr>(setting: &str, text: &str) -> anyhow::Result<T> {
    if let Ok(range) = text.parse() {
        return Ok(range);
    }
    let net: Option<Ipv4Net> = text.parse().ok();
    match net.filter(|net| *net != net.trunc()) {
        Some(net) => {
            anyhow::bail!("{setting} {text:?} has bits behind its prefix; it would be {}", net.trunc())
        }
        None => anyhow::bail!("{setting} {text:?} is no IPv4 range such as 10.0.0.0/8"),
    }
}

/// The range of the links between the host and the microVMs' namespaces, each of which takes two
/// addresses.
pub(crate) fn links_range<T: std::str::FromStr>(text: &str) -> anyhow::Result<T> {
    let setting = "network.address_range";
    let found = range(setting, text)?;
    // A bare address is a range of one.
    let length = text.parse().map_or(32, |net: Ipv4Net| net.prefix_len());
    ensure!(
        length <= LONGEST_LINKS_PREFIX,
        "{setting} {text:?} is too small: each microVM takes two addresses, and it must be a /{LONGEST_LINKS_PREFIX} at least"
    );
    Ok(found)
}

/// The first of the user ids that confined processes have.
pub(crate) fn first_uid(uid: u32) -> anyhow::Result<()> {
    ensure!(
        FIRST_UIDS.contains(&uid),
        "guest.first_uid is {uid}; it must be from {} to {}: below are the system's own users, and thousands may follow it",
        FIRST_UIDS.start(),
        FIRST_UIDS.end()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_nobody_could_use_are_refused_with_a_sentence() {
        for good in ["us-east-1", "local", "eu-isoe-west-1"] {
            region(good).unwrap();
        }
        for bad in ["", "EU West", "eu_west", "-a", "a-", "a.b", &"a".repeat(64)] {
            assert!(region(bad).unwrap_err().to_string().contains("such as us-east-1"), "{bad}");
        }
        for good in ["localhost", "apps.example.com", "1.a-b"] {
            domain(good).unwrap();
        }
        for bad in ["", "bad domain!", ".a", "a.", "A.b", &"a.".repeat(100)] {
            assert!(domain(bad).is_err(), "{bad}");
        }
        let build = BuildConfig { mirror_table: "/nonexistent/table.json".into(), ..BuildConfig::default() };
        assert!(
            mirror_table(&build).unwrap_err().to_string().contains("/nonexistent/table.json is not there")
        );
        mirror_table(&BuildConfig::default()).unwrap();
        let told = |text: &str| {
            range::<hearth_host_net::Ipv4Cidr>("allow_egress_to", text).map_err(|error| error.to_string())
        };
        told("10.0.0.0/8").unwrap();
        assert!(told("10.0.0.0/x").unwrap_err().contains("is no IPv4 range"));
        assert!(told("10.1.2.3/16").unwrap_err().ends_with("it would be 10.1.0.0/16"));
        let told = |text| {
            links_range::<hearth_host_net::Ipv4Cidr>(text).map(drop).map_err(|error| error.to_string())
        };
        told("198.18.0.0/27").unwrap();
        for small in ["198.18.0.0/28", "198.18.0.0/32", "198.18.0.1"] {
            assert!(told(small).unwrap_err().contains("is too small"), "{small}");
        }
        for good in [1000, 1_073_741_824, u32::MAX - 1_000_000] {
            first_uid(good).unwrap();
        }
        for bad in [0, 999, u32::MAX - 5, u32::MAX] {
            assert!(first_uid(bad).unwrap_err().to_string().contains("it must be from 1000 to"), "{bad}");
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let told = |setting| format!("{:#}", certificates(setting, &file).unwrap_err());
        assert!(told("build.ca_bundle").contains("ca.pem cannot be read"));
        std::fs::write(&file, "nothing").unwrap();
        assert!(told("build.ca_bundle").contains("has no certificate in PEM"));
    }
}
