//! Variables in the instructions of a stage, in words that the builder (imagebuilder's
//! `shell_parser.go`) reads as `BuildKit` reads the original. What a variable holds is not known
//! here, as base images set some.
//!
//! - `${A-b}`, `${A+b}`: the builder takes them with a colon only, and knows no difference between
//!   a variable that is not set and one that is empty. Of one that the stage has set, `${A-b}` is
//!   its value and `${A+b}` is `b`.
//! - `${A?b}`, `${A:?b}`: `${A:?}`; the builder takes the text behind `?` for the value.
//! - `${A#b}` and the like: the builder's loops leave out the last positions, those of `${A/#b/}`
//!   do not. Its `*` stops at a slash, so a pattern with `*` is applied to the value without
//!   slashes, in variables of their own (`ARG`), which RUN lines see and the image does not keep.

use super::glob::{self, Operator, Piece};

/// Stands for a slash where the builder must not see one. No value has it: a Dockerfile cannot
/// write it down readably.
const SLASH: char = '\u{1}';
/// Two characters behind a value, where the builder's loop ends too early by two.
const PADDING: &str = "\u{2}\u{2}";
/// How much of what cannot be said is shown, in characters.
const SHOWN: usize = 80;
/// Most variables that are put into a file.
const MAX_HELPERS: usize = 200;
/// Beginning of the names of the variables that are put in.
pub(crate) const HELPER: &str = "hearth_value_";

/// The first thing in a text that the builder reads otherwise than `BuildKit`, as it is written.
pub(super) fn read_otherwise(text: &str) -> Option<String> {
    let mut helpers = 0;
    let mut converter = Converter { is_set: &|_| false, helpers: &mut helpers, before: Vec::new() };
    match converter.convert(text) {
        Ok(None) => None,
        Ok(Some(_)) => {
            let start = text.find("${")?;
            let end = text[start..].find('}').map_or(text.len(), |end| start + end + 1);
            Some(text[start..end].chars().take(SHOWN).collect())
        }
        Err(Inexpressible(construct)) => Some(construct),
    }
}

/// A variable that nothing sets: what follows its `:-` always counts, what follows its `:+` never.
const NOTHING: &str = "hearth_value";

/// Converts the arguments of one instruction.
pub(super) struct Converter<'a> {
    /// Whether a variable is certainly set.
    pub(super) is_set: &'a dyn Fn(&str) -> bool,
    /// How many variables the file has been given.
    pub(super) helpers: &'a mut usize,
    /// Values of the variables that have to be declared before the instruction, each with its name.
    pub(super) before: Vec<String>,
}

/// Something that cannot be said in other words, as it is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inexpressible(pub(super) String);

impl Converter<'_> {
    /// The text in other words; `None` if it needs none.
    pub(super) fn convert(&mut self, text: &str) -> Result<Option<String>, Inexpressible> {
        let mut result = String::new();
        let (mut quoted, mut doubly_quoted) = (false, false);
        let (mut copied, mut at) = (0, 0);
        let bytes = text.as_bytes();
        while at < bytes.len() {
            match bytes[at] {
                b'\\' if !quoted => at += 1,
                b'\'' if !doubly_quoted => quoted = !quoted,
                b'"' if !quoted => doubly_quoted = !doubly_quoted,
                b'$' if !quoted && bytes.get(at + 1) == Some(&b'{') => {
                    let name = name_of(&text[at + 2..]);
                    let end = at + 2 + name.len();
                    if let Some((words, length)) = self.variable(name, &text[end..], &text[at..])? {
                        result.push_str(&text[copied..at]);
                        result.push_str(&words);
                        copied = end + length;
                    }
                    at = end.max(copied) - 1;
                }
                _ => {}
            }
            at += 1;
        }
        if copied == 0 {
            return Ok(None);
        }
        result.push_str(&text[copied..]);
        Ok(Some(result))
    }

    /// What `${NAME` becomes, and how much of the text behind it that stands for.
    fn variable(
        &mut self,
        name: &str,
        rest: &str,
        whole: &str,
    ) -> Result<Option<(String, usize)>, Inexpressible> {
        let mut chars = rest.chars();
        let operator = match (name.is_empty(), chars.next()) {
            (false, Some('-')) if (self.is_set)(name) => {
                return Ok(Some((format!("${{{name}}}${{{NOTHING}:+"), 1)));
            }
            (false, Some('+')) if (self.is_set)(name) => return Ok(Some((format!("${{{NOTHING}:-"), 1))),
            (false, Some('-' | '+')) => return Ok(Some((format!("${{{name}:"), 0))),
            (false, Some('?')) => {
                let demanded = demanded(name, rest, 1, whole)?;
                let is_set = (self.is_set)(name);
                return Ok(demanded
                    .map(|(words, end)| if is_set { (format!("${{{name}}}"), end) } else { (words, end) }));
            }
            (false, Some(':')) if chars.next() == Some('?') => return demanded(name, rest, 2, whole),
            (false, Some('#')) => Operator::Prefix { longest: rest[1..].starts_with('#') },
            (false, Some('%')) => Operator::Suffix { longest: rest[1..].starts_with('%') },
            (false, Some('/')) => Operator::Replace { all: rest[1..].starts_with('/') },
            _ => return Ok(None),
        };
        let (Operator::Prefix { longest: double }
        | Operator::Suffix { longest: double }
        | Operator::Replace { all: double }) = operator;
        let start = 1 + usize::from(double);
        let is_replacement = matches!(operator, Operator::Replace { .. });
        let stop = if is_replacement { '/' } else { '}' };
        // What has no end is for the builder to refuse.
        let Some(pattern) = raw(&rest[start..], stop) else { return Ok(None) };
        let mut end = start + pattern.len() + 1;
        let mut replacement = "";
        if is_replacement {
            let Some(found) = raw(&rest[end..], '}') else { return Ok(None) };
            (replacement, end) = (found, end + found.len() + 1);
        }
        let words = self.pattern(name, operator, pattern, replacement);
        let words = words.ok_or_else(|| inexpressible(whole, rest, end))?;
        Ok(Some((words, end)))
    }

    /// An expression with a pattern; `None` if there are no words for it.
    fn pattern(
        &mut self,
        name: &str,
        operator: Operator,
        pattern: &str,
        replacement: &str,
    ) -> Option<String> {
        if [pattern, replacement].iter().any(|text| text.contains(['$', '"', '\''])) {
            return None;
        }
        let pieces = glob::parse(pattern)?;
        // The builder compares bytes with it, and a character may have several.
        if pieces.contains(&Piece::One) {
            return None;
        }
        if glob::matches_nothing(&pieces) {
            return match operator {
                Operator::Replace { .. } => None,
                Operator::Prefix { longest: true } | Operator::Suffix { longest: true }
                    if !pieces.is_empty() =>
                {
                    Some(format!("${{{name}:+}}"))
                }
                _ => Some(format!("${{{name}}}")),
            };
        }
        let replacement = escaped(replacement.chars());
        match (operator, &pieces[..]) {
            (Operator::Prefix { longest: true }, [Piece::Any, Piece::Char('/')]) => {
                return Some(format!("${{{name}//*\\//}}"));
            }
            (Operator::Suffix { longest: true }, [Piece::Char('/'), Piece::Any]) => {
                return Some(format!("${{{name}//\\/*/}}"));
            }
            (Operator::Suffix { longest: false }, [Piece::Char('/'), Piece::Any]) => {
                return Some(format!("${{{name}%/*}}"));
            }
            _ => {}
        }
        if !pieces.contains(&Piece::Any) {
            return Some(applied(name, operator, &words(&pieces), &replacement));
        }
        if *self.helpers >= MAX_HELPERS {
            return None;
        }
        let hidden: Vec<Piece> = pieces
            .into_iter()
            .map(|piece| if piece == Piece::Char('/') { Piece::Char(SLASH) } else { piece })
            .collect();
        let pattern = words(&hidden);
        let slashes = format!("${{{name}//\\//{SLASH}}}");
        let last = match operator {
            Operator::Prefix { longest: false } => {
                let padded = self.helper(&(slashes + PADDING));
                let cut = self.helper(&format!("${{{padded}#{pattern}}}"));
                self.helper(&format!("${{{cut}%{PADDING}}}"))
            }
            Operator::Suffix { longest: false } => {
                let plain = self.helper(&slashes);
                self.helper(&format!("${{{plain}%{pattern}}}"))
            }
            operator => {
                let plain = self.helper(&slashes);
                self.helper(&applied(&plain, operator, &pattern, &replacement))
            }
        };
        Some(format!("${{{last}//{SLASH}/\\/}}"))
    }

    /// A variable with this value.
    fn helper(&mut self, value: &str) -> String {
        *self.helpers += 1;
        let name = format!("{HELPER}{}", *self.helpers);
        self.before.push(format!("{name}=\"{value}\""));
        name
    }
}

/// An expression of the builder's that compares all positions.
fn applied(name: &str, operator: Operator, pattern: &str, replacement: &str) -> String {
    match operator {
        Operator::Prefix { .. } => format!("${{{name}/#{pattern}/}}"),
        Operator::Suffix { .. } => format!("${{{name}/%{pattern}/}}"),
        Operator::Replace { all: false } => format!("${{{name}/{pattern}/{replacement}}}"),
        Operator::Replace { all: true } => format!("${{{name}//{pattern}/{replacement}}}"),
    }
}

/// `${NAME?…}` with the text from the operator on; the operator has this length.
fn demanded(
    name: &str,
    rest: &str,
    operator: usize,
    whole: &str,
) -> Result<Option<(String, usize)>, Inexpressible> {
    let Some(text) = raw(&rest[operator..], '}') else { return Ok(None) };
    let end = operator + text.len() + 1;
    if operator == 2 && text.is_empty() {
        return Ok(None);
    }
    // Something in it may have braces of its own.
    let is_whole = |quote| text.matches(quote).count().is_multiple_of(2);
    if text.contains('$') || !is_whole('"') || !is_whole('\'') {
        return Err(inexpressible(whole, rest, end));
    }
    Ok(Some((format!("${{{name}:?}}"), end)))
}

/// The part of `whole` up to the byte `end` of `rest`, with which it ends.
fn inexpressible(whole: &str, rest: &str, end: usize) -> Inexpressible {
    Inexpressible(whole[..whole.len() - rest.len() + end].chars().take(SHOWN).collect())
}

fn name_of(text: &str) -> &str {
    let end = text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
    &text[..end.unwrap_or(text.len())]
}

/// The text before the character that ends it, which a backslash protects.
fn raw(text: &str, stop: char) -> Option<&str> {
    let mut protected = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if protected => protected = false,
            '\\' => protected = true,
            c if c == stop => return Some(&text[..at]),
            _ => {}
        }
    }
    None
}

/// A pattern in the words of Go's `path.Match`, as the builder's Dockerfile has to have it.
fn words(pieces: &[Piece]) -> String {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Any => text.push('*'),
            Piece::One => text.push('?'),
            Piece::Char(c) => {
                if "*?[\\".contains(*c) {
                    text.push_str("\\\\");
                }
                // At the beginning they are operators.
                if text.is_empty() && "#%".contains(*c) {
                    text.push('\\');
                }
                text.push_str(&escaped([*c].into_iter()));
            }
        }
    }
    text
}

/// Characters that stand for themselves inside of `${}`.
fn escaped(chars: impl Iterator<Item = char>) -> String {
    let mut text = String::new();
    for c in chars {
        if "\\}/$\"'".contains(c) {
            text.push('\\');
        }
        text.push(c);
    }
    text
}
