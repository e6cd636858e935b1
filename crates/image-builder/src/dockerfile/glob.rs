//! Patterns of `${A#…}`, `${A%…}` and `${A/…/…}`, as `BuildKit` understands them: `*` and `?` match
//! any character, also `/`; brackets are characters like others (`convertShellPatternToRegex` of
//! its package `shell`).

/// A part of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// `*`
    Any,
    /// `?`
    One,
    Char(char),
}

/// Which part of a value a pattern is compared with, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    /// `#`, `##`: the longest or the shortest beginning goes.
    Prefix { longest: bool },
    /// `%`, `%%`: the longest or the shortest end goes.
    Suffix { longest: bool },
    /// `/`, `//`: the first or each place is replaced.
    Replace { all: bool },
}

/// Reads a pattern in the words of the file; `None` if it has an escape that `BuildKit` refuses.
pub(super) fn parse(pattern: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '*' => Piece::Any,
            '?' => Piece::One,
            '\\' => match chars.next()? {
                escaped @ ('}' | '/' | '*' | '?' | '\\') => Piece::Char(escaped),
                _ => return None,
            },
            c => Piece::Char(c),
        });
    }
    Some(pieces)
}

/// Whether the pattern matches a text without characters.
pub(super) fn matches_nothing(pattern: &[Piece]) -> bool {
    pattern.iter().all(|piece| *piece == Piece::Any)
}

/// The value after the operator; `None` when it takes more than `steps`.
pub(super) fn apply(
    operator: Operator,
    value: &str,
    pattern: &[Piece],
    replacement: &str,
    steps: &mut usize,
) -> Option<String> {
    let text: Vec<char> = value.chars().collect();
    Some(match operator {
        Operator::Prefix { longest } => match length(&text, pattern, longest, steps)? {
            Some(length) => text[length..].iter().collect(),
            None => value.to_owned(),
        },
        Operator::Suffix { longest } => {
            let reversed: Vec<char> = text.iter().rev().copied().collect();
            let pattern: Vec<Piece> = pattern.iter().rev().copied().collect();
            match length(&reversed, &pattern, longest, steps)? {
                Some(length) => text[..text.len() - length].iter().collect(),
                None => value.to_owned(),
            }
        }
        Operator::Replace { all } => {
            let (mut result, mut at, mut done) = (String::new(), 0, false);
            while at < text.len() {
                match if done { None } else { length(&text[at..], pattern, true, steps)? } {
                    Some(length) if length > 0 => {
                        *steps = steps.checked_sub(replacement.len())?;
                        result.push_str(replacement);
                        at += length;
                        done = !all;
                    }
                    _ => {
                        result.push(text[at]);
                        at += 1;
                    }
                }
            }
            result
        }
    })
}

/// How many characters at the beginning of the text the pattern matches, if it does. `None`
/// outside: too many steps.
#[expect(clippy::option_option, reason = "the two are handled at different places")]
fn length(text: &[char], pattern: &[Piece], longest: bool, steps: &mut usize) -> Option<Option<usize>> {
    // The numbers of pieces that are matched, for the text up to `at`.
    let mut states = vec![false; pattern.len() + 1];
    states[0] = true;
    let mut found = None;
    for at in 0..=text.len() {
        for number in 0..pattern.len() {
            if states[number] && pattern[number] == Piece::Any {
                states[number + 1] = true;
            }
        }
        if states[pattern.len()] {
            found = Some(at);
            if !longest {
                break;
            }
        }
        let Some(c) = text.get(at) else { break };
        *steps = steps.checked_sub(pattern.len() + 1)?;
        let mut next = vec![false; states.len()];
        for (number, piece) in pattern.iter().enumerate().filter(|(number, _)| states[*number]) {
            match piece {
                Piece::Any => next[number] = true,
                Piece::One => next[number + 1] = true,
                Piece::Char(wanted) => next[number + 1] |= wanted == c,
            }
        }
        if !next.contains(&true) {
            break;
        }
        states = next;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(operator: Operator, value: &str, pattern: &str, replacement: &str) -> String {
        apply(operator, value, &parse(pattern).unwrap(), replacement, &mut 100_000).unwrap()
    }

    /// What `BuildKit`'s shell/lex.go makes of these.
    #[test]
    fn patterns_are_read_as_buildkit_reads_them() {
        let (first, last) = (Operator::Prefix { longest: false }, Operator::Suffix { longest: false });
        let (all_first, all_last) = (Operator::Prefix { longest: true }, Operator::Suffix { longest: true });
        let (one, all) = (Operator::Replace { all: false }, Operator::Replace { all: true });
        for (operator, value, pattern, replacement, expected) in [
            (all_first, "ghcr.io/acme/app:1.2", "*/", "", "app:1.2"),
            (first, "ghcr.io/acme/app:1.2", "*/", "", "acme/app:1.2"),
            (all_last, "a/b/c", "/*", "", "a"),
            (last, "a/b/c", "/*", "", "a/b"),
            (first, "v8", "v", "", "8"),
            (first, "v", "v", "", ""),
            (last, "a.b/c", ".*", "", "a"),
            (first, "abc", "*", "", "abc"),
            (all_first, "abc", "*", "", ""),
            (all_last, "x[1]", "[*", "", "x"),
            (all, "a/b/c", "\\/", "-", "a-b-c"),
            (one, "a-b-c", "-*", "/", "a/"),
            (one, "aXbX", "?X", "-", "-bX"),
            (last, "a*b", "\\*b", "", "a"),
        ] {
            let found = applied(operator, value, pattern, replacement);
            assert_eq!(found, expected, "{operator:?} {value} {pattern}");
        }
        assert_eq!(parse("\\x"), None);
        assert_eq!(apply(all, &"a".repeat(1000), &parse("*b").unwrap(), "", &mut 1000), None);
    }
}
