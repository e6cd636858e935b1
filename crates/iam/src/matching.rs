//! Wildcards and policy variables.
//!
//! A [`Template`] is text from a policy. With the request's context it becomes a [`Pattern`], whose variables have been
//! replaced and whose wildcards are tokens, so that a `*` in a user's name is never a wildcard.

use crate::request::Context;

/// A part of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// This character.
    Char(char),
    /// `?`: any one character.
    One,
    /// `*`: any number of characters, none included.
    Many,
}

/// Text with wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Token>);

impl Pattern {
    /// `*` and `?` are wildcards, all else is literal.
    pub(crate) fn with_wildcards(text: &str) -> Self {
        Self(text.chars().map(wildcard_or_char).collect())
    }

    /// Whether the whole text fits. `*` does not stop at colons or slashes (user guide, "IAM JSON policy elements:
    /// Resource").
    pub(crate) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        fits(&self.0, &text)
    }

    /// The same with upper and lower case being equal.
    pub(crate) fn matches_ignoring_case(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
        let mut lower = Vec::with_capacity(self.0.len());
        for token in &self.0 {
            match token {
                Token::Char(c) => lower.extend(c.to_lowercase().map(Token::Char)),
                wildcard => lower.push(*wildcard),
            }
        }
        fits(&lower, &text)
    }

    /// Whether each of the six parts of an ARN fits its part of the pattern; a `*` stays within its part (user guide,
    /// "Amazon Resource Name (ARN) condition operators").
    pub(crate) fn matches_arn(&self, arn: &str) -> bool {
        let pattern: Vec<&[Token]> = self.0.splitn(6, |token| *token == Token::Char(':')).collect();
        let parts: Vec<Vec<char>> = arn.splitn(6, ':').map(|part| part.chars().collect()).collect();
        pattern.len() == 6
            && parts.len() == 6
            && pattern.iter().zip(&parts).all(|(pattern, part)| fits(pattern, part))
    }
}

fn wildcard_or_char(c: char) -> Token {
    match c {
        '*' => Token::Many,
        '?' => Token::One,
        c => Token::Char(c),
    }
}

/// Whether the tokens describe the whole text.
///
/// Only the last `*` that was met is ever tried again: if the rest fits anywhere, it also fits with all earlier ones
/// as short as they can be. So the time is at most tokens × characters; no pattern makes it exponential.
fn fits(tokens: &[Token], text: &[char]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while at < text.len() {
        match tokens.get(token) {
            Some(Token::Many) => {
                token += 1;
                retry = Some((token, at));
            }
            Some(Token::One) => {
                token += 1;
                at += 1;
            }
            Some(Token::Char(c)) if *c == text[at] => {
                token += 1;
                at += 1;
            }
            _ => {
                let Some((after_star, start)) = retry else { return false };
                token = after_star;
                at = start + 1;
                retry = Some((after_star, at));
            }
        }
    }
    tokens[token..].iter().all(|token| *token == Token::Many)
}

/// What `*` and `?` mean in a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wildcards {
    Special,
    Plain,
}

/// What `${…}` means in a template: nothing special before version 2012-10-17 (user guide, "IAM JSON policy elements:
/// Version").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variables {
    Special,
    Plain,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Token(Token),
    Variable { key: String, default: Option<String> },
}

/// Text from a policy, with wildcards and variables where they are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

impl Template {
    /// Reads `${key}`, `${key, 'default'}` and the literals `${*}`, `${?}`, `${$}` (user guide, "IAM policy elements:
    /// Variables and tags").
    pub(crate) fn parse(text: &str, wildcards: Wildcards, variables: Variables) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if variables == Variables::Special && rest.starts_with("${") {
                let (piece, after) = variable(&rest[2..]).ok_or_else(|| {
                    format!(
                        "\"{text}\" has a malformed policy variable; it must be ${{prefix:key}}, \
                         ${{prefix:key, 'default'}}, ${{*}}, ${{?}} or ${{$}}."
                    )
                })?;
                pieces.push(piece);
                rest = after;
                continue;
            }
            pieces.push(Piece::Token(match wildcards {
                Wildcards::Special => wildcard_or_char(c),
                Wildcards::Plain => Token::Char(c),
            }));
            rest = &rest[c.len_utf8()..];
        }
        Ok(Self(pieces))
    }

    /// The pattern for a request; `None` when a variable has no value and no default, and then nothing is equal to or
    /// like this text (same page, "Policy variables with no value").
    pub(crate) fn resolve(&self, context: &Context) -> Option<Pattern> {
        let mut tokens = Vec::with_capacity(self.0.len());
        for piece in &self.0 {
            match piece {
                Piece::Token(token) => tokens.push(*token),
                Piece::Variable { key, default } => {
                    let value = match context.values(key) {
                        [] => default.as_deref()?,
                        [value] => value,
                        // A variable stands for one value, and there is no telling which of several is meant.
                        _ => return None,
                    };
                    tokens.extend(value.chars().map(Token::Char));
                }
            }
        }
        Some(Pattern(tokens))
    }
}

/// Reads a variable after its `${`; also returns the text that follows its `}`.
fn variable(text: &str) -> Option<(Piece, &str)> {
    for literal in ['*', '?', '$'] {
        if let Some(after) = text.strip_prefix(literal).and_then(|rest| rest.strip_prefix('}')) {
            return Some((Piece::Token(Token::Char(literal)), after));
        }
    }
    let end = text.find([',', '}'])?;
    let key = text[..end].trim();
    let well_formed = key.contains(':') && !key.contains(|c: char| c.is_whitespace() || "*?${'".contains(c));
    if !well_formed {
        return None;
    }
    let (default, after) = match text[end..].strip_prefix(',') {
        None => (None, &text[end..]),
        Some(rest) => {
            let (default, after) = rest.trim_start().strip_prefix('\'')?.split_once('\'')?;
            (Some(default.to_owned()), after.trim_start())
        }
    };
    Some((Piece::Variable { key: key.to_owned(), default }, after.strip_prefix('}')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, context: &Context) -> Option<Pattern> {
        Template::parse(text, Wildcards::Special, Variables::Special).unwrap().resolve(context)
    }

    #[test]
    fn wildcards_fit_the_whole_text() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("*", "a:b/c", true),
            ("?", "", false),
            ("?", "é", true),
            ("a*c", "abcbc", true),
            ("a*c", "abcb", false),
            ("*a?c*", "xxabcxabc", true),
            ("a**b", "ab", true),
            ("ab", "AB", false),
            ("*ab*ab", "abxab", true),
            ("*ab*ab", "xab", false),
        ] {
            assert_eq!(Pattern::with_wildcards(pattern).matches(text), expected, "{pattern} {text}");
        }
        assert!(Pattern::with_wildcards("LAMBDA:run*").matches_ignoring_case("lambda:RunMicrovm"));
    }

    #[test]
    fn a_pattern_made_to_backtrack_ends_soon() {
        let pattern = Pattern::with_wildcards(&format!("{}b", "a*".repeat(500)));
        assert!(!pattern.matches(&"a".repeat(5_000)));
    }

    #[test]
    fn in_arns_a_star_stays_in_its_part_but_the_last_part_has_colons() {
        let arn = "arn:aws:lambda:us-east-1:000000000000:microvm-image:app";
        for (pattern, expected) in [
            ("arn:aws:lambda:*:*:microvm-image:*", true),
            ("arn:aws:lambda:*:*:*", true),
            ("arn:aws:lambda:*", false),
            ("arn:*:app", false),
            ("*", false),
        ] {
            assert_eq!(Pattern::with_wildcards(pattern).matches_arn(arn), expected, "{pattern}");
        }
    }

    #[test]
    fn variables_are_replaced_by_literal_text() {
        let mut context = Context::default();
        context.set("aws:username", ["a*b"]);
        context.set("aws:PrincipalTag/Team", ["red"]);
        context.set("aws:TagKeys", ["x", "y"]);
        let user = resolved("home/${AWS:UserName}/*", &context).unwrap();
        assert!(user.matches("home/a*b/x"));
        assert!(!user.matches("home/axb/x"));
        assert!(resolved("${aws:principaltag/team}", &context).unwrap().matches("red"));
        assert!(resolved("${*}${?}${$}", &context).unwrap().matches("*?$"));
        assert!(resolved("${aws:x, 'no one'}!", &context).unwrap().matches("no one!"));
        assert_eq!(resolved("${aws:x}", &context), None);
        assert_eq!(resolved("${aws:TagKeys}", &context), None);
        assert!(resolved("$5 and $", &context).unwrap().matches("$5 and $"));
        let old = Template::parse("${*}", Wildcards::Special, Variables::Plain).unwrap();
        assert!(old.resolve(&context).unwrap().matches("${anything}"));
    }

    #[test]
    fn malformed_variables_are_refused() {
        for text in
            ["${", "${}", "${x}", "${a:b", "${a:b,}", "${a:b, x}", "${a:b, 'x}", "${a:b 'x'}", "${a:${b:c}}"]
        {
            assert!(Template::parse(text, Wildcards::Plain, Variables::Special).is_err(), "{text}");
        }
    }
}
