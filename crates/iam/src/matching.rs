//! Wildcards and policy variables.
//!
//! A [`Template`] is text from a policy, kept as it was written. It is compared with a value of the
//! request as it stands, or, when it has variables, after they were replaced: then its wildcards
//! are tokens, so that a `*` in a user's name is never a wildcard.

use std::str::Chars;

use crate::budget::Budget;
use crate::request::{Context, lower};

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

/// A sequence of tokens that is read from its front.
trait Tokens: Copy {
    /// The first token and what follows it.
    fn first(self) -> Option<(Token, Self)>;
}

impl Tokens for &[Token] {
    fn first(self) -> Option<(Token, Self)> {
        self.split_first().map(|(first, rest)| (*first, rest))
    }
}

/// Text whose `*` and `?` are wildcards.
#[derive(Debug, Clone, Copy)]
struct Glob<'a>(&'a str);

impl Tokens for Glob<'_> {
    fn first(self) -> Option<(Token, Self)> {
        let mut rest = self.0.chars();
        rest.next().map(|c| (wildcard_or_char(c), Self(rest.as_str())))
    }
}

/// An action of a policy, which may have wildcards and is compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActionPattern(Box<str>);

impl ActionPattern {
    /// `*` and `?` are wildcards, all else is literal.
    pub(crate) fn new(text: &str) -> Self {
        Self(lower(text).into())
    }

    /// Whether it covers an action that is in lower case.
    pub(crate) fn matches(&self, action_in_lower_case: &str, budget: &Budget) -> bool {
        fits(Glob(&self.0), action_in_lower_case, budget)
    }
}

fn wildcard_or_char(c: char) -> Token {
    match c {
        '*' => Token::Many,
        '?' => Token::One,
        c => Token::Char(c),
    }
}

/// Whether the pattern describes the whole text. `*` does not stop at colons or slashes (user
/// guide, "IAM JSON policy elements: Resource").
///
/// Only the last `*` that was met is ever tried again: if the rest fits anywhere, it also fits with
/// all earlier ones as short as they can be. So the time is at most tokens × characters; no pattern
/// makes it exponential.
fn fits<T: Tokens>(mut pattern: T, text: &str, budget: &Budget) -> bool {
    let mut text = text.chars();
    let mut retry: Option<(T, Chars<'_>)> = None;
    while budget.take(1) {
        let mut after = text.clone();
        match (pattern.first(), after.next()) {
            (None, None) => return true,
            (Some((Token::Many, rest)), next) => {
                if rest.first().is_none() {
                    return true;
                }
                pattern = rest;
                retry = next.is_some().then(|| (rest, text.clone()));
            }
            (Some((Token::One, rest)), Some(_)) => (pattern, text) = (rest, after),
            (Some((Token::Char(c), rest)), Some(next)) if c == next => (pattern, text) = (rest, after),
            // At the end of the text a later start leaves even less of it.
            (Some(_), None) => return false,
            (_, Some(_)) => {
                let Some((after_star, mut start)) = retry else { return false };
                start.next();
                (pattern, text) = (after_star, start.clone());
                retry = Some((after_star, start));
            }
        }
    }
    false
}

/// Whether each of the six parts of an ARN fits its part of the pattern; a `*` stays within its
/// part (user guide, "Amazon Resource Name (ARN) condition operators").
fn fits_arn<T: Tokens>(pattern: impl Iterator<Item = T>, arn: &str, budget: &Budget) -> bool {
    let (pattern, parts): (Vec<T>, Vec<&str>) = (pattern.collect(), arn.splitn(6, ':').collect());
    pattern.len() == 6
        && parts.len() == 6
        && pattern.into_iter().zip(parts).all(|(pattern, part)| fits(pattern, part, budget))
}

/// What `*` and `?` mean in a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wildcards {
    Special,
    Plain,
}

/// What `${…}` means in a template: nothing special before version 2012-10-17 (user guide, "IAM
/// JSON policy elements: Version").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variables {
    Special,
    Plain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Token(Token),
    Variable { key: &'a str, default: Option<&'a str> },
}

/// Text from a policy, with wildcards and variables where they are allowed. It takes as many
/// bytes as it has characters, whatever is in it: what is kept of policies must not be many
/// times what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    text: Box<str>,
    wildcards: Wildcards,
    /// Special if there are any.
    variables: Variables,
}

impl Template {
    /// Reads `${key}`, `${key, 'default'}` and the literals `${*}`, `${?}`, `${$}` (user guide,
    /// "IAM policy elements: Variables and tags").
    pub(crate) fn parse(text: &str, wildcards: Wildcards, variables: Variables) -> Result<Self, String> {
        let variables = if text.contains("${") { variables } else { Variables::Plain };
        let template = Self { text: text.into(), wildcards, variables };
        if template.pieces().any(|piece| piece.is_none()) {
            return Err(format!(
                "\"{text}\" has a malformed policy variable; it must be ${{prefix:key}}, \
                 ${{prefix:key, 'default'}}, ${{*}}, ${{?}} or ${{$}}."
            ));
        }
        Ok(template)
    }

    /// What it consists of; `None` for a variable that is malformed, with which it ends.
    fn pieces(&self) -> impl Iterator<Item = Option<Piece<'_>>> {
        let mut rest = &*self.text;
        std::iter::from_fn(move || {
            let mut chars = rest.chars();
            let c = chars.next()?;
            if self.variables == Variables::Special && rest.starts_with("${") {
                let found = variable(&rest[2..]);
                rest = found.map_or("", |(_, after)| after);
                return Some(found.map(|(piece, _)| piece));
            }
            rest = chars.as_str();
            let token =
                if self.wildcards == Wildcards::Special { wildcard_or_char(c) } else { Token::Char(c) };
            Some(Some(Piece::Token(token)))
        })
    }

    /// The tokens for a request; `None` when a variable has no value and no default, and then
    /// nothing is equal to or like this text (same page, "Policy variables with no value").
    fn resolve(&self, context: &Context, budget: &Budget) -> Option<Vec<Token>> {
        let mut tokens = Vec::new();
        for piece in self.pieces() {
            match piece? {
                Piece::Token(token) => {
                    budget.take(1).then_some(())?;
                    tokens.push(token);
                }
                Piece::Variable { key, default } => {
                    let value = match context.values(key) {
                        [] => default?,
                        [value] => value,
                        // A variable stands for one value, and there is no telling which
                        // of several is meant.
                        _ => return None,
                    };
                    budget.take(1 + value.len()).then_some(())?;
                    tokens.extend(value.chars().map(Token::Char));
                }
            }
        }
        Some(tokens)
    }

    /// Whether the whole text fits.
    pub(crate) fn matches(&self, text: &str, context: &Context, budget: &Budget) -> bool {
        match (self.variables, self.wildcards) {
            (Variables::Special, _) => {
                self.resolve(context, budget).is_some_and(|tokens| fits(&*tokens, text, budget))
            }
            (Variables::Plain, Wildcards::Special) => fits(Glob(&self.text), text, budget),
            (Variables::Plain, Wildcards::Plain) => budget.take(1 + text.len() / 16) && *self.text == *text,
        }
    }

    /// Whether the whole text is this one, upper and lower case being equal. There
    /// are no wildcards.
    pub(crate) fn equals_ignoring_case(&self, text: &str, context: &Context, budget: &Budget) -> bool {
        let Some(tokens) = self.resolve(context, budget) else { return false };
        let own = tokens.iter().map(|token| match token {
            Token::Char(c) => *c,
            Token::One => '?',
            Token::Many => '*',
        });
        budget.take(1 + tokens.len().min(text.len()))
            && own.flat_map(char::to_lowercase).eq(text.chars().flat_map(char::to_lowercase))
    }

    /// Whether each part of an ARN fits.
    pub(crate) fn matches_arn(&self, arn: &str, context: &Context, budget: &Budget) -> bool {
        if self.variables == Variables::Plain {
            return fits_arn(self.text.splitn(6, ':').map(Glob), arn, budget);
        }
        self.resolve(context, budget)
            .is_some_and(|tokens| fits_arn(tokens.splitn(6, |token| *token == Token::Char(':')), arn, budget))
    }
}

/// Reads a variable after its `${`; also returns the text that follows its `}`.
fn variable(text: &str) -> Option<(Piece<'_>, &str)> {
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
            (Some(default), after.trim_start())
        }
    };
    Some((Piece::Variable { key, default }, after.strip_prefix('}')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, wildcards: Wildcards) -> Template {
        Template::parse(text, wildcards, Variables::Special).unwrap()
    }

    fn matches(pattern: &str, text: &str, context: &Context) -> bool {
        with(pattern, Wildcards::Special).matches(text, context, &Budget::default())
    }

    #[test]
    fn wildcards_fit_the_whole_text() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("*", "a:b/c", true),
            ("**", "a", true),
            ("a*", "", false),
            ("*a", "", false),
            ("", "a", false),
            ("a**", "a", true),
            ("a*?", "a", false),
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
            // With a variable the tokens are compared instead of the text.
            let (context, empty) = (Context::default(), "${a:b, ''}");
            assert_eq!(matches(pattern, text, &context), expected, "{pattern} {text}");
            assert_eq!(matches(&format!("{pattern}{empty}"), text, &context), expected, "{pattern} {text}");
        }
        let run = ActionPattern::new("LAMBDA:run*");
        assert!(run.matches(&lower("lambda:RunMicrovm"), &Budget::default()));
        let same = with("ab${*}É", Wildcards::Plain);
        assert!(same.equals_ignoring_case("AB*é", &Context::default(), &Budget::default()));
    }

    /// The kind: work is counted, whatever a pattern, a text and the values of
    /// variables are made of.
    #[test]
    fn what_takes_long_ends_with_the_budget() {
        let mut context = Context::default();
        let long = "a".repeat(60_000);
        context.set("a:long", [long.clone()]);
        for pattern in
            [format!("*{}b", "a?".repeat(1_500)), format!("*{}b", "a".repeat(3_000)), "${a:long}".repeat(500)]
        {
            let (template, budget) = (with(&pattern, Wildcards::Special), Budget::default());
            assert!(!template.matches(&long, &context, &budget));
            assert!(budget.is_spent());
            let before = budget.taken();
            assert!(!with("*", Wildcards::Special).matches("a", &context, &budget), "nothing matches then");
            assert!(budget.taken() <= before + 1);
        }
        let budget = Budget::default();
        assert!(!with(&("a*".repeat(50) + "b"), Wildcards::Special).matches(
            &long[..5_000],
            &context,
            &budget
        ));
        assert!(!budget.is_spent(), "{} steps", budget.taken());
    }

    #[test]
    fn in_arns_a_star_stays_in_its_part_but_the_last_part_has_colons() {
        let arn = "arn:aws:lambda:us-east-1:000000000000:microvm-image:app";
        for (pattern, expected) in [
            ("arn:aws:lambda:*:*:microvm-image:*", true),
            ("arn:aws:lambda:*:*:*", true),
            ("arn:aws:lambda:*:*:${*}", false),
            ("arn:aws:lambda:*", false),
            ("arn:*:app", false),
            ("*", false),
        ] {
            let template = with(pattern, Wildcards::Special);
            let found = template.matches_arn(arn, &Context::default(), &Budget::default());
            assert_eq!(found, expected, "{pattern}");
        }
    }

    #[test]
    fn variables_are_replaced_by_literal_text() {
        let mut context = Context::default();
        context.set("aws:username", ["a*b"]);
        context.set("aws:PrincipalTag/Team", ["red"]);
        context.set("aws:TagKeys", ["x", "y"]);
        let matches = |pattern: &str, text: &str| matches(pattern, text, &context);
        assert!(matches("home/${AWS:UserName}/*", "home/a*b/x"));
        assert!(!matches("home/${AWS:UserName}/*", "home/axb/x"));
        assert!(matches("${aws:principaltag/team}", "red"));
        assert!(matches("${*}${?}${$}", "*?$"));
        assert!(matches("${aws:x, 'no one'}!", "no one!"));
        assert!(matches("$5 and $", "$5 and $"));
        for without_value in ["${aws:x}", "${aws:TagKeys}"] {
            let template = with(without_value, Wildcards::Special);
            assert_eq!(template.resolve(&context, &Budget::default()), None);
        }
        let old = Template::parse("${*}", Wildcards::Special, Variables::Plain).unwrap();
        assert!(old.matches("${anything}", &context, &Budget::default()));
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
