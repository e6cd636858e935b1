//! Buckets in the host's name, as SDKs write them when the endpoint is a name:
//! `demo.localhost:9400`.

use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

/// The server's own names. A host that is none of them, with or without a bucket in front, is as
/// good as an address: the bucket is in the path. So nothing changes for a server that is reached
/// by a name it does not know.
#[derive(Debug, Clone)]
pub struct Names(Vec<String>);

impl Names {
    /// `localhost` is always one.
    pub fn new(names: &[String]) -> Self {
        let mut all = vec!["localhost".to_owned()];
        all.extend(names.iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()));
        // The longest that fits is meant.
        all.sort_by_key(|name| std::cmp::Reverse(name.len()));
        Self(all)
    }

    /// The bucket of a `Host` header.
    pub fn bucket<'a>(&self, host: &'a str) -> Option<&'a str> {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.trim_end_matches('.');
        for own in &self.0 {
            if name.eq_ignore_ascii_case(own) {
                return None;
            }
            let Some(split) = name.len().checked_sub(own.len() + 1) else { continue };
            let Some((bucket, rest)) = name.split_at_checked(split) else { continue };
            let fits = rest.strip_prefix('.').is_some_and(|rest| rest.eq_ignore_ascii_case(own));
            if fits && !bucket.is_empty() {
                return Some(bucket);
            }
        }
        None
    }
}

impl S3Host for Names {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        Ok(match self.bucket(host) {
            // Names of buckets are in lower case, those of hosts in any.
            Some(bucket) => VirtualHost::new(host).with_bucket(bucket.to_ascii_lowercase()),
            None => VirtualHost::new(host),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_in_front_of_an_own_name_there_is_a_bucket() {
        let names = Names::new(&["Hearth.Example.com".to_owned(), "example.com".to_owned()]);
        for (host, bucket) in [
            ("localhost:9400", None),
            ("demo.localhost:9400", Some("demo")),
            ("a.b.localhost", Some("a.b")),
            ("DEMO.LOCALHOST", Some("DEMO")),
            ("hearth.example.com:9400", None),
            ("demo.hearth.example.com.", Some("demo")),
            ("other.example.com", Some("other")),
            ("127.0.0.1:9400", None),
            ("[::1]:9400", None),
            ("server.lan:9400", None),
            (".localhost", None),
            ("mylocalhost", None),
        ] {
            assert_eq!(names.bucket(host), bucket, "{host}");
        }
    }
}
