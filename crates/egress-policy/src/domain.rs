//! Names of hosts, and patterns of them.

use std::fmt;

/// Longest name, written out (RFC 1035, 3.1).
const NAME_MAX: usize = 253;
/// Longest label (RFC 1035, 2.3.4).
const LABEL_MAX: usize = 63;
/// What a pattern of all names below one begins with.
const BELOW: &str = "*.";

/// One name, or all names below one, in lower case and, where it has other letters than ASCII, in
/// Punycode (RFC 5891).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Domain {
    /// This name alone.
    Exact(String),
    /// `*.name`: every name that has labels before this one, and not the name itself.
    Below(String),
}

/// Why a text is no [`Domain`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDomain {
    /// Not a name.
    #[error("{0:?} is not a domain name such as example.com or *.example.com")]
    NotAName(String),
    /// A star where none may be.
    #[error("{0:?} has a * elsewhere than as its first label, as in *.example.com")]
    Star(String),
    /// An address.
    #[error("{0:?} is an address; name it as cidr")]
    Address(String),
    /// Everybody can get a name below it (publicsuffix.org).
    #[error(
        "{0:?} would allow names that anybody can register, as {1} is a public suffix; name the domains themselves"
    )]
    PublicSuffix(String, String),
}

impl Domain {
    /// Reads a name or a pattern; a dot at the end and the case of letters mean nothing.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence without a full stop.
    pub fn parse(text: &str) -> Result<Self, InvalidDomain> {
        let (below, name) = text.strip_prefix(BELOW).map_or((false, text), |name| (true, name));
        if name.contains('*') {
            return Err(InvalidDomain::Star(text.to_owned()));
        }
        let not_a_name = || InvalidDomain::NotAName(text.to_owned());
        // What is longer is not looked at; every letter has at least a byte in Punycode.
        if name.is_empty() || name.chars().count() > NAME_MAX + 1 {
            return Err(not_a_name());
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        let name = idna::domain_to_ascii_strict(name).map_err(|_| not_a_name())?;
        // Resolvers take a name whose last label is a number for an address (WHATWG URL, "ends in a
        // number").
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
        if is_number || name.starts_with('[') {
            return Err(InvalidDomain::Address(text.to_owned()));
        }
        if !is_name(&name) {
            return Err(not_a_name());
        }
        if !below {
            return Ok(Self::Exact(name));
        }
        // Top-level domains that are not listed are somebody's own.
        if psl::suffix(name.as_bytes()).is_some_and(|suffix| suffix.is_known() && suffix == name.as_bytes()) {
            return Err(InvalidDomain::PublicSuffix(text.to_owned(), name));
        }
        Ok(Self::Below(name))
    }

    /// Whether a name, as [`normalised`] gives it, is meant.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::Exact(own) => own == name,
            Self::Below(own) => name
                .strip_suffix(own.as_str())
                .is_some_and(|labels| labels.len() > 1 && labels.ends_with('.')),
        }
    }
}

/// Labels of letters, digits, `-` and, as some services have it, `_`.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        (1..=LABEL_MAX).contains(&label.len())
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= NAME_MAX && name.split('.').all(is_label)
}

/// A name that a client says, in the spelling of [`Domain`]; `None` if it is none. Clients say
/// names in ASCII.
pub fn normalised(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let name = (name.len() <= NAME_MAX).then(|| name.to_ascii_lowercase())?;
    is_name(&name).then_some(name)
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "{BELOW}{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        Domain::parse(text).map_or_else(|error| error.to_string(), |domain| domain.to_string())
    }

    #[test]
    fn names_are_spelled_in_one_way() {
        for (text, expected) in [
            ("PyPI.org", "pypi.org"),
            ("pypi.org.", "pypi.org"),
            ("*.PythonHosted.org", "*.pythonhosted.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("localhost", "localhost"),
            ("*.internal", "*.internal"),
            ("com", "com"),
        ] {
            assert_eq!(parsed(text), expected);
        }
    }

    #[test]
    fn what_is_no_name_is_told_so() {
        let long = format!("{}.org", "a".repeat(64));
        for text in
            ["", ".", "a..b", "-a.org", "a-.org", "a b.org", "a/b", "http://a.org", "a.org:443", &long]
        {
            assert!(
                parsed(text).ends_with("is not a domain name such as example.com or *.example.com"),
                "{text}"
            );
        }
        let very_long = format!("{}org", "abc.".repeat(70));
        assert!(parsed(&very_long).contains("is not a domain name"));
        for text in ["*", "a.*.org", "*a.org", "*.*.org", "**.org"] {
            assert!(parsed(text).contains("has a * elsewhere"), "{text}: {}", parsed(text));
        }
        for text in ["1.2.3", "a.0x7f", "0x7f.1"] {
            assert!(parsed(text).contains("is an address; name it as cidr"), "{text}: {}", parsed(text));
        }
        assert_eq!(parsed("192.0.2.1"), "\"192.0.2.1\" is an address; name it as cidr");
    }

    #[test]
    fn nobody_allows_what_anybody_can_register() {
        for text in ["*.com", "*.co.uk", "*.github.io"] {
            assert!(parsed(text).contains("is a public suffix"), "{text}: {}", parsed(text));
        }
    }

    #[test]
    fn a_star_stands_for_whole_labels() {
        let below = Domain::parse("*.example.com").unwrap();
        for name in ["a.example.com", "a.b.example.com"] {
            assert!(below.contains(name), "{name}");
        }
        for name in ["example.com", "badexample.com", ".example.com", "example.com.evil.org", "a.example.co"]
        {
            assert!(!below.contains(name), "{name}");
        }
        let exact = Domain::parse("example.com").unwrap();
        assert!(exact.contains("example.com") && !exact.contains("a.example.com"));
        assert_eq!(normalised("A.Example.COM.").as_deref(), Some("a.example.com"));
        assert_eq!((normalised("a b"), normalised("")), (None, None));
    }
}
