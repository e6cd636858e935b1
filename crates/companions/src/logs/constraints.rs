//! Lengths and patterns of the service model's members.

use super::invalid;
use crate::json::{Refusal, Text, Violations};

/// Groups that StartLiveTail may name.
pub(super) const MAXIMUM_IDENTIFIERS: usize = 10;

const GROUP_NAME: Text = Text {
    minimum: 1,
    maximum: 512,
    pattern: r"[\.\-_/#A-Za-z0-9]+",
    allowed: |c| c.is_ascii_alphanumeric() || ".-_/#".contains(c),
};
const STREAM_NAME: Text =
    Text { minimum: 1, maximum: 512, pattern: "[^:*]*", allowed: |c| !matches!(c, ':' | '*') };
const IDENTIFIER: Text = Text {
    minimum: 1,
    maximum: 2048,
    pattern: r"[\w#+=/:,.@-]*",
    allowed: |c| c.is_ascii_alphanumeric() || "_#+=/:,.@-*".contains(c),
};
const FILTER_PATTERN: Text = Text { minimum: 0, maximum: 1024, pattern: ".*", allowed: |_| true };
const TAG_KEY: Text =
    Text { minimum: 1, maximum: 128, pattern: r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]+)$", allowed: is_tag_character };
const TAG_VALUE: Text =
    Text { minimum: 0, maximum: 256, pattern: r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$", allowed: is_tag_character };

/// Whether a log group may have this name.
pub(super) fn is_group_name(name: &str) -> bool {
    let mut violations = Violations::default();
    violations.group_name(Some(name));
    violations.check().is_ok()
}

/// Whether a log stream may have this name.
pub(super) fn is_stream_name(name: &str) -> bool {
    let mut violations = Violations::default();
    violations.stream_name(Some(name));
    violations.check().is_ok()
}

fn is_tag_character(c: char) -> bool {
    c.is_alphanumeric() || (c.is_whitespace() && !c.is_control()) || "_.:/=+-@".contains(c)
}

impl Violations {
    pub(super) fn group_name(&mut self, value: Option<&str>) {
        self.required("logGroupName", value, GROUP_NAME);
    }

    pub(super) fn group_prefix(&mut self, value: Option<&str>) {
        self.text("logGroupNamePrefix", value, GROUP_NAME);
    }

    pub(super) fn group_pattern(&mut self, value: Option<&str>) {
        self.text("logGroupNamePattern", value, Text { minimum: 0, ..GROUP_NAME });
    }

    pub(super) fn stream_name(&mut self, value: Option<&str>) {
        self.required("logStreamName", value, STREAM_NAME);
    }

    pub(super) fn stream_names(&mut self, member: &str, values: Option<&Vec<String>>) {
        let Some(values) = values else { return };
        self.count(member, values.len(), (1, 100));
        for (number, value) in (1..).zip(values) {
            self.text(&format!("{member}.{number}.member"), Some(value), STREAM_NAME);
        }
    }

    pub(super) fn stream_prefix(&mut self, value: Option<&str>) {
        self.text("logStreamNamePrefix", value, STREAM_NAME);
    }

    pub(super) fn identifiers(&mut self, values: Option<&Vec<String>>) {
        let Some(values) = values else {
            return self.add("logGroupIdentifiers", None, "Member must not be null");
        };
        self.count("logGroupIdentifiers", values.len(), (1, MAXIMUM_IDENTIFIERS));
        for (number, value) in (1..).zip(values) {
            self.text(&format!("logGroupIdentifiers.{number}.member"), Some(value), IDENTIFIER);
        }
    }

    pub(super) fn filter_pattern(&mut self, member: &str, value: Option<&str>) {
        self.text(member, value, FILTER_PATTERN);
    }

    pub(super) fn tag_key(&mut self, value: &str) {
        self.text("tags", Some(value), TAG_KEY);
    }

    pub(super) fn tag_value(&mut self, value: &str) {
        self.text("tags", Some(value), TAG_VALUE);
    }

    pub(super) fn times(&mut self, start: Option<i64>, end: Option<i64>) {
        self.range("startTime", start, (0, i64::MAX));
        self.range("endTime", end, (0, i64::MAX));
    }

    /// Ends the checks of this service.
    pub(super) fn check(self) -> Result<(), Refusal> {
        self.finish("InvalidParameterException")
    }
}

/// The one of name and identifier that was given, checked.
pub(super) fn group_text<'a>(
    violations: &mut Violations,
    name: Option<&'a str>,
    identifier: Option<&'a str>,
) -> Result<&'a str, Refusal> {
    match (name, identifier) {
        (Some(name), None) => violations.text("logGroupName", Some(name), GROUP_NAME),
        (None, Some(identifier)) => violations.text("logGroupIdentifier", Some(identifier), IDENTIFIER),
        _ => return Err(invalid("Exactly one of logGroupName and logGroupIdentifier must be given.")),
    }
    Ok(name.or(identifier).unwrap_or_default())
}
