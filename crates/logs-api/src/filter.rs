//! Filter patterns for unstructured lines ("Filter pattern syntax", CloudWatch Logs user guide):
//! terms that must all occur, `?term` of which one must, `-term` that must not; a term with other
//! characters goes in quotes.

use hearth_service::Error;

use crate::invalid;

/// Terms of one pattern: a line is looked through once for each.
const MAXIMUM_TERMS: usize = 128;

/// A parsed pattern.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    required: Vec<String>,
    optional: Vec<String>,
    excluded: Vec<String>,
}

impl Filter {
    /// Reads a pattern; JSON (`{…}`), column (`[…]`) and regular expression (`%…%`)
    /// patterns are refused.
    pub(super) fn parse(pattern: &str) -> Result<Self, Error> {
        let mut filter = Self::default();
        let mut rest = pattern.trim_start();
        if rest.starts_with(['{', '[', '%']) {
            return Err(invalid(
                "Only patterns of terms are served here, not JSON, column or regular expression patterns.",
            ));
        }
        while !rest.is_empty() {
            let (terms, unsigned) = match rest.as_bytes()[0] {
                b'?' => (&mut filter.optional, &rest[1..]),
                b'-' => (&mut filter.excluded, &rest[1..]),
                _ => (&mut filter.required, rest),
            };
            let (term, after) = match unsigned.strip_prefix('"') {
                Some(quoted) => quoted
                    .split_once('"')
                    .ok_or_else(|| invalid("A quotation in the filter pattern is not closed."))?,
                None => unsigned.split_once(char::is_whitespace).unwrap_or((unsigned, "")),
            };
            if !terms.iter().any(|known| known == term) {
                terms.push(term.to_owned());
            }
            if filter.terms() > MAXIMUM_TERMS {
                return Err(invalid(format!("A filter pattern may have {MAXIMUM_TERMS} terms here.")));
            }
            rest = after.trim_start();
        }
        Ok(filter)
    }

    /// How many times a line may be looked through.
    pub(super) fn terms(&self) -> usize {
        self.required.len() + self.optional.len() + self.excluded.len()
    }

    /// Whether a line fits.
    pub(super) fn matches(&self, message: &str) -> bool {
        let contains = |term: &String| message.contains(term.as_str());
        self.required.iter().all(contains)
            && !self.excluded.iter().any(contains)
            && (self.optional.is_empty() || self.optional.iter().any(contains))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_combine_as_documented() {
        for (pattern, line, expected) in [
            ("", "anything", true),
            ("ERROR", "an ERROR here", true),
            ("ERROR", "an error here", false),
            ("ERROR disk", "disk ERROR", true),
            ("ERROR disk", "ERROR", false),
            ("ERROR -disk", "disk ERROR", false),
            ("?ERROR ?WARN", "a WARN", true),
            ("?ERROR ?WARN", "info", false),
            (r#""not found" -"per se""#, "file not found", true),
            (r#""not found""#, "found not", false),
        ] {
            assert_eq!(Filter::parse(pattern).unwrap().matches(line), expected, "{pattern} on {line}");
        }
    }

    /// The kind: what one request costs is bounded.
    #[test]
    fn a_pattern_has_so_many_terms_and_counts_none_twice() {
        let pattern = |count: usize| (0..count).map(|n| format!("?{n}")).collect::<Vec<_>>().join(" ");
        assert_eq!(Filter::parse(&pattern(MAXIMUM_TERMS)).unwrap().terms(), MAXIMUM_TERMS);
        let refused = Filter::parse(&pattern(MAXIMUM_TERMS + 1)).unwrap_err();
        assert_eq!(
            (refused.code.name(), refused.message.as_str()),
            ("InvalidParameterException", "A filter pattern may have 128 terms here.")
        );
        assert_eq!(Filter::parse(&"?a ".repeat(300)).unwrap().terms(), 1);
    }

    #[test]
    fn unserved_and_broken_patterns_are_refused() {
        for pattern in ["{ $.a = 1 }", "[a, b]", "%x%", r#""open"#] {
            assert_eq!(
                Filter::parse(pattern).unwrap_err().code.name(),
                "InvalidParameterException",
                "{pattern}"
            );
        }
    }
}
