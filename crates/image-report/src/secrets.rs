//! What secrets look like.
//!
//! Only forms with a mark of their own are looked for: a random-looking word alone
//! is too often none.

use std::sync::LazyLock;

use regex::bytes::Regex;

use crate::report::SecretKind;

/// Longest text that a pattern needs to match: pieces that are searched one by one overlap by this.
pub(crate) const LONGEST_BYTES: usize = 4096;

/// The marks first, so that the search can jump from one to the next; what may stand around them is
/// checked afterwards. Each alternative is a group of the number of its kind in [`KINDS`].
const PATTERN: &str = concat!(
    r"(?-u)",
    // The header alone is a constant of every TLS library; contents make it a key.
    r"(-----BEGIN (?:[A-Z]{2,9} )?PRIVATE KEY(?: BLOCK)?-----[A-Za-z0-9+/=:,\-\s]{64,1024})",
    r"|((?:AKIA|ASIA)[A-Z2-7]{16})",
    r#"|((?:aws_secret_access_key|AWS_SECRET_ACCESS_KEY|SecretAccessKey|secretAccessKey)["']?\s{0,4}[=:]\s{0,4}["']?[A-Za-z0-9/+]{40})"#,
    r"|(gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255})",
    r"|(glpat-[A-Za-z0-9_\-]{20,255})",
    r"|(xox[abeoprs]-[A-Za-z0-9\-]{20,255})",
    r"|(AIza[A-Za-z0-9_\-]{35}|ya29\.[A-Za-z0-9_\-]{20,1024})",
    r"|(eyJ[A-Za-z0-9_\-]{10,2000}\.eyJ[A-Za-z0-9_\-]{10,2000}\.[A-Za-z0-9_\-]{16,1000})",
);

const KINDS: [SecretKind; 8] = [
    SecretKind::PrivateKey,
    SecretKind::AwsAccessKeyId,
    SecretKind::AwsSecretAccessKey,
    SecretKind::GithubToken,
    SecretKind::GitlabToken,
    SecretKind::SlackToken,
    SecretKind::GoogleToken,
    SecretKind::JsonWebToken,
];

static REGEX: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(PATTERN).expect("invariant: the pattern is well-formed; a test compiles it"));

/// A secret in searched bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Secret {
    /// What it looks like.
    pub(crate) kind: SecretKind,
    /// Tells it from others of its kind; says nothing about its text.
    pub(crate) fingerprint: blake3::Hash,
}

/// Every secret in these bytes.
pub(crate) fn find(bytes: &[u8]) -> impl Iterator<Item = Secret> {
    REGEX.captures_iter(bytes).filter_map(move |captures| {
        let (index, found) = (1..=KINDS.len()).find_map(|index| Some((index, captures.get(index)?)))?;
        let kind = KINDS[index - 1];
        let before = found.start().checked_sub(1).and_then(|index| bytes.get(index));
        let stands_alone = (kind == SecretKind::PrivateKey || is_edge(before))
            && (is_bounded(kind) || is_edge(bytes.get(found.end())));
        let text = essence(kind, found.as_bytes());
        (stands_alone && !is_example(kind, text)).then(|| Secret { kind, fingerprint: blake3::hash(text) })
    })
}

/// Whether a pattern takes as much as there is: what follows needs no check.
fn is_bounded(kind: SecretKind) -> bool {
    !matches!(kind, SecretKind::AwsAccessKeyId | SecretKind::AwsSecretAccessKey)
}

/// Whether a word ends at this neighbour.
fn is_edge(neighbour: Option<&u8>) -> bool {
    neighbour.is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'+')
}

/// The part that is the same wherever the secret is: without its name, and the
/// beginning of a long one.
fn essence(kind: SecretKind, text: &[u8]) -> &[u8] {
    match kind {
        SecretKind::AwsSecretAccessKey => &text[text.len() - 40..],
        // Copies of a key may end differently, and pieces of memory may cut it.
        SecretKind::PrivateKey => {
            let header =
                text.windows(5).skip(10).position(|dashes| dashes == b"-----").map_or(0, |at| at + 15);
            let body = text[header..].trim_ascii_start();
            &body[..body.len().min(60)]
        }
        _ => text,
    }
}

/// Values of documentation: AWS's own examples.
fn is_example(kind: SecretKind, text: &[u8]) -> bool {
    match kind {
        SecretKind::AwsAccessKeyId => text.ends_with(b"EXAMPLE"),
        SecretKind::AwsSecretAccessKey => text.ends_with(b"EXAMPLEKEY"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<SecretKind> {
        find(text.as_bytes()).map(|secret| secret.kind).collect()
    }

    /// Put together here, so that no scanner of repositories takes this file for a leak.
    fn github() -> String {
        format!("ghp{}{}", "_", "a1B2".repeat(9))
    }

    fn pem(label: &str) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", "MHcCAQEEIBsX".repeat(8))
    }

    #[test]
    fn each_kind_is_found() {
        let id = format!("AKIA{}", "Q3EGTESTNOTREAL7");
        let secret = "9fKx2bVq7LmZp4RtYw8NcJd6HsGa3UeTo5XiQ1Bn";
        assert_eq!(kinds(&format!("key={id}")), [SecretKind::AwsAccessKeyId]);
        assert_eq!(kinds(&format!("AWS_SECRET_ACCESS_KEY={secret}\0")), [SecretKind::AwsSecretAccessKey]);
        assert_eq!(kinds(&format!("\"SecretAccessKey\" : \"{secret}\"")), [SecretKind::AwsSecretAccessKey]);
        assert_eq!(kinds(&format!("Authorization: token {}", github())), [SecretKind::GithubToken]);
        assert_eq!(kinds(&format!("glpat{}{}", "-", "x1Y2".repeat(5))), [SecretKind::GitlabToken]);
        assert_eq!(kinds(&format!("xoxb{}{}", "-", "12345-".repeat(5))), [SecretKind::SlackToken]);
        assert_eq!(kinds(&format!("AIza{}", "SyA1b2C".repeat(5))), [SecretKind::GoogleToken]);
        let part = "eyJhbGciOiJIUzI1NiJ9";
        assert_eq!(kinds(&format!("{part}.{part}.{}", "s1G".repeat(10))), [SecretKind::JsonWebToken]);
        for label in [
            "PRIVATE KEY",
            "RSA PRIVATE KEY",
            "EC PRIVATE KEY",
            "OPENSSH PRIVATE KEY",
            "ENCRYPTED PRIVATE KEY",
        ] {
            assert_eq!(kinds(&pem(label)), [SecretKind::PrivateKey], "{label}");
        }
    }

    #[test]
    fn what_only_looks_alike_is_not() {
        assert_eq!(kinds("-----BEGIN PRIVATE KEY-----\0-----END PRIVATE KEY-----\0"), []);
        assert_eq!(kinds(&pem("PUBLIC KEY")), []);
        assert_eq!(kinds(&pem("CERTIFICATE")), []);
        assert_eq!(kinds(concat!("AKIA", "IOSFODNN7EXAMPLE")), []);
        assert_eq!(kinds("XAKIAQ3EGTESTNOTREAL7 AKIAQ3EGTESTNOTREAL7777"), []);
        assert_eq!(kinds("9fKx2bVq7LmZp4RtYw8NcJd6HsGa3UeTo5XiQ1Bn"), []);
        assert_eq!(kinds("eyJhbGciOiJIUzI1NiJ9.only-one-part"), []);
    }

    #[test]
    fn copies_of_a_secret_have_one_fingerprint() {
        let fingerprint = |text: &str| find(text.as_bytes()).next().unwrap().fingerprint;
        let key = pem("EC PRIVATE KEY");
        assert_eq!(fingerprint(&key), fingerprint(&format!("junk\0{}", &key[..110])));
        assert_ne!(fingerprint(&key), fingerprint(&key.replace("MHcC", "MHdC")));
        let secret = "9fKx2bVq7LmZp4RtYw8NcJd6HsGa3UeTo5XiQ1Bn";
        let in_file = fingerprint(&format!("aws_secret_access_key = {secret}"));
        assert_eq!(in_file, fingerprint(&format!("AWS_SECRET_ACCESS_KEY={secret}")));
    }
}
