//! Rust source, taken apart into code and comments.

/// A file of Rust. All texts have the length and the lines of the file; what does not belong to
/// them is blank.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Without comments and without what is in string literals.
    pub(crate) code: String,
    /// Without comments.
    pub(crate) code_and_strings: String,
    /// Comments alone, with their marks.
    pub(crate) comments: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Code,
    Text,
    Comment,
}

impl Source {
    pub(crate) fn of(text: &str) -> Self {
        let kinds = kinds(text.as_bytes());
        let keep = |wanted: &[Kind]| {
            let characters = text.char_indices();
            characters.map(|(at, c)| if c == '\n' || wanted.contains(&kinds[at]) { c } else { ' ' }).collect()
        };
        Self {
            code: keep(&[Kind::Code]),
            code_and_strings: keep(&[Kind::Code, Kind::Text]),
            comments: keep(&[Kind::Comment]),
        }
    }
}

/// What each byte belongs to.
fn kinds(bytes: &[u8]) -> Vec<Kind> {
    let mut kinds = Vec::with_capacity(bytes.len());
    while kinds.len() < bytes.len() {
        let at = kinds.len();
        let (kind, length) = next(bytes, at);
        kinds.resize((at + length).min(bytes.len()), kind);
    }
    kinds
}

/// The kind and the length of what begins at this byte.
fn next(bytes: &[u8], at: usize) -> (Kind, usize) {
    let rest = &bytes[at..];
    let inside_name = at > 0 && is_name(bytes[at - 1]);
    match rest {
        [b'/', b'/', ..] => {
            (Kind::Comment, rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()))
        }
        [b'/', b'*', ..] => (Kind::Comment, block_comment(rest)),
        [b'"', ..] => (Kind::Text, string(rest)),
        [b'r', b'"' | b'#', ..] if !inside_name => match raw_string(&rest[1..]) {
            Some(length) => (Kind::Text, 1 + length),
            None => (Kind::Code, 1),
        },
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !inside_name => match raw_string(&rest[2..]) {
            Some(length) => (Kind::Text, 2 + length),
            None => (Kind::Code, 1),
        },
        [b'\'', ..] => match character(rest) {
            Some(length) => (Kind::Text, length),
            None => (Kind::Code, 1),
        },
        _ => (Kind::Code, 1),
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of a raw string from its hash signs on; `None` if it is none (`r#type`).
fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest.iter().take_while(|byte| **byte == b'#').count();
    if rest.get(hashes) != Some(&b'"') {
        return None;
    }
    let end: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let inside = &rest[hashes + 1..];
    let found = inside.windows(end.len()).position(|window| window == end);
    Some(found.map_or(rest.len(), |position| hashes + 1 + position + end.len()))
}

/// Length of a character literal; `None` if this is a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        let end = rest.iter().skip(3).position(|byte| *byte == b'\'')?;
        return Some(end + 4);
    }
    let text = std::str::from_utf8(&rest[1..rest.len().min(5)]);
    let valid = text.map_or_else(|error| error.valid_up_to(), str::len);
    let first = std::str::from_utf8(&rest[1..=valid]).ok()?.chars().next()?;
    let end = 1 + first.len_utf8();
    (rest.get(end) == Some(&b'\'')).then_some(end + 1)
}

/// Code without its inline test modules, which are blank.
pub(crate) fn without_tests(code: &str) -> String {
    let mut code = code.to_owned();
    let mut from = 0;
    while let Some(start) = code[from..].find("#[cfg(test)]").map(|found| from + found) {
        let Some(brace) = inline_module(&code[start..]).map(|offset| start + offset) else {
            from = start + 1;
            continue;
        };
        let end = brace + block(&code[brace..]);
        let blank: String = code[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        code.replace_range(start..end, &blank);
        from = start;
    }
    code
}

/// Where the brace of `mod name {` is, if that is what the attributes here are for.
fn inline_module(code: &str) -> Option<usize> {
    let mut at = 0;
    for line in code.split_inclusive('\n') {
        let trimmed = line.trim();
        if trimmed.starts_with("mod ") {
            return trimmed.ends_with('{').then(|| at + line.rfind('{').unwrap_or_default());
        }
        if !trimmed.is_empty() && !trimmed.starts_with("#[") {
            return None;
        }
        at += line.len();
    }
    None
}

/// Length of a block from its brace to the brace that closes it.
fn block(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_told_apart() {
        let source =
            Source::of("let a = \"// no \\\" comment\"; // b\n/* c /* d */ e */ f('\"', 'ä', r#\"x\"#)");
        assert_eq!(source.comments.trim(), "// b\n/* c /* d */ e */");
        assert_eq!(
            source.code.split_whitespace().collect::<Vec<_>>(),
            ["let", "a", "=", ";", "f(", ",", ",", ")"]
        );
        assert!(source.code_and_strings.contains("// no"));
        assert!(!source.code_and_strings.contains("// b"));
    }

    #[test]
    fn a_lifetime_is_no_character() {
        assert_eq!(Source::of("fn a<'a>(b: &'a str) {} 'b'").code.trim_end(), "fn a<'a>(b: &'a str) {}");
    }

    #[test]
    fn inline_tests_are_blank() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod d;\n";
        let left = without_tests(code);
        assert!(!left.contains("fn b") && left.contains("fn c") && left.contains("mod d"));
    }
}
