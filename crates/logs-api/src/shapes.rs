//! Lengths and patterns of the service model's members.

use hearth_service::shape::{Member, Pattern, Shape, Text, optional, patterned, required, text};

/// Groups that StartLiveTail may name.
pub(super) const MAXIMUM_IDENTIFIERS: usize = 10;
/// Tags of a group, of a request, and keys that one names.
pub(super) const MAXIMUM_TAGS: usize = 50;

pub(super) const ANY: Shape = Shape::Text(Text::ANY);
const GROUP_PATTERN: Pattern = Pattern {
    expression: r"[\.\-_/#A-Za-z0-9]+",
    matches: |text| text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_/#".contains(c)),
};
pub(super) const GROUP_NAME: Shape = patterned(1, 512, GROUP_PATTERN);
/// `logGroupNamePattern`: part of a name.
pub(super) const PART_OF_GROUP_NAME: Shape = patterned(0, 512, GROUP_PATTERN);
pub(super) const STREAM_NAME: Shape =
    patterned(1, 512, Pattern { expression: "[^:*]*", matches: |text| !text.contains([':', '*']) });
pub(super) const IDENTIFIER: Shape = patterned(
    1,
    2048,
    Pattern {
        expression: r"[\w#+=/:,.@-]*",
        matches: |text| text.chars().all(|c| c.is_ascii_alphanumeric() || "_#+=/:,.@-*".contains(c)),
    },
);
pub(super) const FILTER_PATTERN: Shape = text(0, 1024);
const TAG_KEY: Shape = patterned(
    1,
    128,
    Pattern { expression: r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]+)$", matches: is_of_tag_characters },
);
const TAG_VALUE: Shape = patterned(
    0,
    256,
    Pattern { expression: r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$", matches: is_of_tag_characters },
);
/// Milliseconds since 1970.
const TIME: Shape = Shape::Integer(0, i64::MAX);

/// The group's name.
pub(super) const GROUP: Member = required("logGroupName", &GROUP_NAME);
/// The group's name, where an identifier may stand instead.
pub(super) const NAMED_GROUP: Member = optional("logGroupName", &GROUP_NAME);
pub(super) const IDENTIFIED_GROUP: Member = optional("logGroupIdentifier", &IDENTIFIER);
pub(super) const STREAM: Member = required("logStreamName", &STREAM_NAME);
pub(super) const STREAM_PREFIX: Member = optional("logStreamNamePrefix", &STREAM_NAME);
pub(super) const START_TIME: Member = optional("startTime", &TIME);
pub(super) const END_TIME: Member = optional("endTime", &TIME);
pub(super) const RESOURCE: Member = required("resourceArn", &ANY);
pub(super) const STREAM_NAMES: Shape = Shape::List(&STREAM_NAME, 1, 100);
/// The batch of PutLogEvents.
pub(super) const EVENTS: Shape = Shape::List(
    &Shape::Structure(&[required("timestamp", &TIME), required("message", &text(1, usize::MAX))]),
    1,
    10_000,
);

/// Tags, at least so many.
const fn tags(minimum: usize) -> Shape {
    Shape::Map { key: &TAG_KEY, value: &TAG_VALUE, minimum, maximum: MAXIMUM_TAGS }
}

/// Tags of something new.
pub(super) const TAGS: Shape = tags(0);
/// Tags that are set.
pub(super) const SOME_TAGS: Shape = tags(1);

fn is_of_tag_characters(text: &str) -> bool {
    let allowed =
        |c: char| c.is_alphanumeric() || (c.is_whitespace() && !c.is_control()) || "_.:/=+-@".contains(c);
    text.chars().all(allowed)
}
