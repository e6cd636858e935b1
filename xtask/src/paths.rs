//! The paths that code names: `crate::a::B`, what `use` imports, `child::function()`.

/// A path as it is written, with its parts.
#[derive(Debug, PartialEq)]
pub(crate) struct NamedPath {
    pub(crate) parts: Vec<String>,
    /// The name that a `use` gives it.
    pub(crate) import: Option<String>,
}

/// All paths of two parts or more in code without comments and strings, and all imports.
pub(crate) fn of_code(code: &str) -> Vec<NamedPath> {
    let tokens = tokens(code);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let follows = at.checked_sub(1).and_then(|before| tokens.get(before).copied());
        if tokens[at] == "use" && follows != Some("+") {
            at = import(&tokens, at + 1, &[], &mut found);
        } else if is_name(tokens[at]) && !matches!(follows, Some("::" | "." | "$")) {
            let end = path(&tokens, at);
            if end > at + 1 {
                let parts = (at..end).step_by(2).map(|part| tokens[part].to_owned()).collect();
                found.push(NamedPath { parts, import: None });
            }
            at = end;
        } else {
            at += 1;
        }
    }
    found
}

/// The end of the path that begins at a name.
fn path(tokens: &[&str], mut at: usize) -> usize {
    while tokens.get(at + 1) == Some(&"::") && tokens.get(at + 2).is_some_and(|next| is_name(next)) {
        at += 2;
    }
    at + 1
}

/// Reads a tree of imports, which stands behind `before`; returns its end.
fn import(tokens: &[&str], mut at: usize, before: &[String], found: &mut Vec<NamedPath>) -> usize {
    let mut parts = before.to_vec();
    while let Some(token) = tokens.get(at) {
        match *token {
            "{" => {
                at += 1;
                while !matches!(tokens.get(at), None | Some(&"}" | &";")) {
                    let end = import(tokens, at, &parts, found);
                    // Behind the comma; whatever stands there instead is passed over.
                    at = end + 1 - usize::from(tokens.get(end) == Some(&"}"));
                }
                return at + 1;
            }
            "::" => at += 1,
            name if is_name(name) || name == "*" => {
                parts.push(name.to_owned());
                at += 1;
            }
            _ => break,
        }
        if tokens.get(at) == Some(&"as") {
            let import = tokens.get(at + 1).map(|name| (*name).to_owned());
            found.push(NamedPath { parts, import });
            return at + 2;
        }
    }
    if parts.last().is_some_and(|last| last == "self") {
        parts.pop();
    }
    found.push(NamedPath { import: parts.last().cloned(), parts });
    at
}

/// Names, `::`, and single characters of everything else.
fn tokens(code: &str) -> Vec<&str> {
    let (mut tokens, mut rest) = (Vec::new(), code.trim_start());
    while let Some(first) = rest.chars().next() {
        let length = if is_name(&rest[..first.len_utf8()]) || first.is_ascii_digit() {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, behind) = rest.split_at(length);
        tokens.push(token);
        rest = behind.trim_start();
    }
    tokens
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_and_paths_are_found() {
        let code = "use crate::{a::B, c::{self, D as E}};\nuse super::f::*;\nfn g() { h::i::<J>(crate::k); }";
        let found: Vec<(String, Option<String>)> =
            of_code(code).into_iter().map(|path| (path.parts.join("::"), path.import)).collect();
        let expected = [
            ("crate::a::B", Some("B")),
            ("crate::c", Some("c")),
            ("crate::c::D", Some("E")),
            ("super::f::*", Some("*")),
            ("h::i", None),
            ("crate::k", None),
        ];
        assert_eq!(found, expected.map(|(path, import)| (path.to_owned(), import.map(str::to_owned))));
    }
}
