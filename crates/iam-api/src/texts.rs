//! What texts must look like (botocore models `iam` 2010-05-08 and `sts` 2011-06-15).

use hearth_service::shape::{Pattern, Shape, patterned, required, text};

/// Tags, at most 50.
pub(crate) const TAGS: Shape =
    Shape::List(&Shape::Structure(&[required("Key", &TAG_KEY), required("Value", &TAG_VALUE)]), 0, 50);

const fn like(minimum: usize, maximum: usize, expression: &'static str, matches: fn(&str) -> bool) -> Shape {
    patterned(minimum, maximum, Pattern { expression, matches })
}

const NAME_PATTERN: &str = r"[\w+=,.@-]+";
/// Users and roles when they are made, and where the model says so.
pub(crate) const NAME: Shape = like(1, 64, NAME_PATTERN, |text| some(text, is_name));
/// Users that exist, and policies.
pub(crate) const LONG_NAME: Shape = like(1, 128, NAME_PATTERN, |text| some(text, is_name));
pub(crate) const PATH: Shape = like(1, 512, r"(\u002F)|(\u002F[\u0021-\u007E]+\u002F)", is_path);
pub(crate) const PATH_PREFIX: Shape = like(1, 512, r"\u002F[\u0021-\u007F]*", |text| {
    text.strip_prefix('/').is_some_and(|rest| rest.chars().all(|c| matches!(c, '!'..='\u{7f}')))
});
pub(crate) const POLICY_PATH: Shape = like(1, 512, r"((/[A-Za-z0-9\.,\+@=_-]+)*)/", is_policy_path);
pub(crate) const ARN: Shape = text(20, 2048);
pub(crate) const STS_ARN: Shape = like(
    20,
    2048,
    r"[\u0009\u000A\u000D\u0020-\u007E\u0085\u00A0-\uD7FF\uE000-\uFFFD\u10000-\u10FFFF]+",
    |text| some(text, |c| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{85}')),
);
const DOCUMENT_PATTERN: &str = r"[\u0009\u000A\u000D\u0020-\u00FF]+";
pub(crate) const DOCUMENT: Shape = like(1, 131_072, DOCUMENT_PATTERN, |text| some(text, is_in_document));
/// AssumeRole says itself how long it may be, with an error of its own.
pub(crate) const SESSION_DOCUMENT: Shape =
    like(1, usize::MAX, DOCUMENT_PATTERN, |text| some(text, is_in_document));
pub(crate) const ROLE_DESCRIPTION: Shape =
    like(0, 1000, r"[\u0009\u000A\u000D\u0020-\u007E\u00A1-\u00FF]*", |text| {
        text.chars().all(|c| is_in_document(c) && !matches!(c, '\u{7f}'..='\u{a0}'))
    });
pub(crate) const POLICY_DESCRIPTION: Shape = text(0, 1000);
pub(crate) const MARKER: Shape =
    like(1, 320, r"[\u0020-\u00FF]+", |text| some(text, |c| matches!(c, ' '..='\u{ff}')));
pub(crate) const VERSION_ID: Shape = like(0, usize::MAX, r"v[1-9][0-9]*(\.[A-Za-z0-9-]*)?", is_version_id);
pub(crate) const ACCESS_KEY_ID: Shape = like(16, 128, r"[\w]+", |text| some(text, is_word));
pub(crate) const STS_ACCESS_KEY_ID: Shape = like(16, 128, r"[\w]*", |text| text.chars().all(is_word));
pub(crate) const TAG_KEY: Shape = like(1, 128, r"[\p{L}\p{Z}\p{N}_.:/=+\-@]+", |text| some(text, is_in_tag));
pub(crate) const TAG_VALUE: Shape =
    like(0, 256, r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", |text| text.chars().all(is_in_tag));
pub(crate) const SESSION_NAME: Shape = like(2, 64, r"[\w+=,.@-]*", |text| text.chars().all(is_name));
pub(crate) const SOURCE_IDENTITY: Shape = like(2, 256, r"[\w+=,.@-]*", |text| text.chars().all(is_name));
pub(crate) const EXTERNAL_ID: Shape =
    like(2, 1224, r"[\w+=,.@:\/-]*", |text| text.chars().all(|c| is_name(c) || ":/".contains(c)));
pub(crate) const SERIAL_NUMBER: Shape =
    like(9, 256, r"[\w+=/:,.@-]*", |text| text.chars().all(|c| is_name(c) || ":/".contains(c)));
pub(crate) const TOKEN_CODE: Shape = like(6, 6, r"[\d]*", |text| text.chars().all(|c| c.is_ascii_digit()));
pub(crate) const CONTEXT_ASSERTION: Shape = text(4, 3072);

fn some(text: &str, fits: fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(fits)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_name(c: char) -> bool {
    is_word(c) || "+=,.@-".contains(c)
}

fn is_in_document(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{ff}')
}

/// Letters, numbers and separators of any script.
fn is_in_tag(c: char) -> bool {
    let separator = c.is_whitespace() && !c.is_control();
    c.is_alphanumeric() || separator || "_.:/=+-@".contains(c)
}

fn is_path(text: &str) -> bool {
    let inner = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
    text == "/" || inner.is_some_and(|inner| some(inner, |c| matches!(c, '!'..='~')))
}

fn is_policy_path(text: &str) -> bool {
    let parts = text.strip_suffix('/').map(|rest| rest.split('/').skip(1));
    let starts_right = text.starts_with('/');
    starts_right && parts.is_some_and(|mut parts| parts.all(|part| some(part, is_name)))
}

fn is_version_id(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('v') else { return false };
    let (number, suffix) = rest.split_once('.').unwrap_or((rest, ""));
    !number.starts_with('0')
        && some(number, |c| c.is_ascii_digit())
        && suffix.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

#[cfg(test)]
mod tests {
    use hearth_service::shape::Text;

    use super::*;

    #[test]
    fn patterns_are_as_in_the_models() {
        for (text, good, bad) in [
            (NAME, "a_Z0+=,.@-", "a/b"),
            (NAME, "a", "é"),
            (PATH, "/", "a/"),
            (PATH, "/a/b/", "/a/b"),
            (PATH, "/!/", "/ /"),
            (PATH, "//a//", ""),
            (PATH_PREFIX, "/a", "a"),
            (POLICY_PATH, "/", "//"),
            (POLICY_PATH, "/a.b/c/", "/a/b"),
            (POLICY_PATH, "/a/", "a/"),
            (POLICY_PATH, "/a/", "/a//"),
            (STS_ARN, "arn:aws:iam::1:role/é", "\u{1}"),
            (DOCUMENT, "{\"é\t\"}", "€"),
            (ROLE_DESCRIPTION, "", "\u{a0}"),
            (ROLE_DESCRIPTION, "ÿ\n", "\u{7f}"),
            (MARKER, " ", "\n"),
            (VERSION_ID, "v10", "v0"),
            (VERSION_ID, "v1.a-b", "1"),
            (VERSION_ID, "v1.", "v"),
            (TAG_KEY, "été 1\u{a0}_.:/=+-@", "a*"),
            (TAG_VALUE, "", "a\tb"),
            (EXTERNAL_ID, "a:b/c", "a b"),
            (TOKEN_CODE, "123456", "12345a"),
        ] {
            let Shape::Text(Text { pattern: Some(pattern), .. }) = text else { panic!("no pattern") };
            assert!((pattern.matches)(good), "{good:?} fits {}", pattern.expression);
            assert!(!(pattern.matches)(bad), "{bad:?} does not fit {}", pattern.expression);
        }
    }
}
