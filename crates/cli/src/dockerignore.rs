//! `.dockerignore`: which files of a directory stay out of the zip.
//!
//! Of Docker's rules (docs.docker.com, "Build context", section "dockerignore files";
//! moby/patternmatcher): comments, `*`, `?`, `[a-z]`, `\`, `**`, `!`, the last pattern that matches
//! decides, and a pattern that matches a directory covers what is in it. Names are bytes.

/// The file named after the Dockerfile, which counts instead of `.dockerignore` when it is there.
pub(crate) const OF_DOCKERFILE: &str = "Dockerfile.dockerignore";
/// The file for all Dockerfiles.
pub(crate) const OF_ALL: &str = ".dockerignore";

/// The patterns of a `.dockerignore` file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DockerIgnore {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// Names between slashes.
    parts: Vec<Vec<u8>>,
    /// Begins with `!`: what it matches stays in.
    keeps: bool,
}

impl DockerIgnore {
    /// Reads the text of the file.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let patterns = text.split(|byte| *byte == b'\n').filter_map(|line| {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                return None;
            }
            let (keeps, pattern) = match line.strip_prefix(b"!") {
                Some(pattern) => (true, pattern.trim_ascii_start()),
                None => (false, line),
            };
            let parts = pattern.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && part != b".");
            let parts: Vec<_> = parts.map(<[u8]>::to_vec).collect();
            (!parts.is_empty()).then_some(Pattern { parts, keeps })
        });
        Self { patterns: patterns.collect() }
    }

    /// Whether the file or directory at this path, relative to the top, stays out.
    pub(crate) fn ignores(&self, path: &[&[u8]]) -> bool {
        // Docker's own client sends the first two in any case, and the builder reads the third.
        if let [name] = path
            && ["Dockerfile", OF_ALL, OF_DOCKERFILE].iter().any(|sent| sent.as_bytes() == *name)
        {
            return false;
        }
        self.deciding(path).is_some_and(|number| !self.patterns[number].keeps)
    }

    /// Whether something in an ignored directory can be wanted: there is a later pattern with `!`
    /// for something in it.
    pub(crate) fn may_keep_below(&self, directory: &[&[u8]]) -> bool {
        let after = self.deciding(directory).map_or(0, |number| number + 1);
        self.patterns[after..]
            .iter()
            .any(|pattern| pattern.keeps && may_match_below(&pattern.parts, directory))
    }

    /// Number of the pattern that decides on a path.
    fn deciding(&self, path: &[&[u8]]) -> Option<usize> {
        self.patterns.iter().rposition(|pattern| pattern.covers(path))
    }
}

impl Pattern {
    /// Whether the pattern matches the path or a directory above it.
    fn covers(&self, path: &[&[u8]]) -> bool {
        (1..=path.len()).any(|length| match_parts(&self.parts, &path[..length]))
    }
}

fn match_parts(pattern: &[Vec<u8>], path: &[&[u8]]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((part, rest)), _) if part == b"**" => {
            match_parts(rest, path)
                || path.split_first().is_some_and(|(_, below)| match_parts(pattern, below))
        }
        (Some((part, rest)), Some((name, below))) => match_name(part, name) && match_parts(rest, below),
        _ => false,
    }
}

/// Whether the pattern can match something in the directory.
fn may_match_below(pattern: &[Vec<u8>], directory: &[&[u8]]) -> bool {
    match (pattern.split_first(), directory.split_first()) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some((part, _)), _) if part == b"**" => true,
        (Some((part, rest)), Some((name, below))) => match_name(part, name) && may_match_below(rest, below),
    }
}

fn match_name(pattern: &[u8], name: &[u8]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return name.is_empty() };
    if *first == b'*' {
        return match_name(rest, name)
            || name.split_first().is_some_and(|(_, below)| match_name(pattern, below));
    }
    let Some((character, below)) = first_character(name) else { return false };
    match first {
        b'?' => match_name(rest, below),
        b'[' => class(rest, character).is_some_and(|(matches, rest)| matches && match_name(rest, below)),
        _ => {
            let literal = if *first == b'\\' && !rest.is_empty() { rest } else { pattern };
            first_character(literal)
                .is_some_and(|(wanted, rest)| wanted == character && match_name(rest, below))
        }
    }
}

/// The first character of a name, or its first byte if that is no character, and the rest.
fn first_character(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = name.utf8_chunks().next()?;
    let length = first.valid().chars().next().map_or(1, char::len_utf8);
    Some(name.split_at(length))
}

/// Whether a character is in the class whose text begins here, behind its bracket, and what follows
/// the class; `None` if the class has no end.
fn class<'a>(mut text: &'a [u8], character: &[u8]) -> Option<(bool, &'a [u8])> {
    let negated = text.starts_with(b"^");
    text = &text[usize::from(negated)..];
    let mut found = false;
    let mut is_first = true;
    loop {
        if let Some(rest) = text.strip_prefix(b"]").filter(|_| !is_first) {
            return Some((found != negated, rest));
        }
        is_first = false;
        let (from, rest) = first_character(text.strip_prefix(b"\\").unwrap_or(text))?;
        let (to, rest) = match rest.strip_prefix(b"-").filter(|rest| !rest.starts_with(b"]")) {
            Some(rest) => first_character(rest.strip_prefix(b"\\").unwrap_or(rest))?,
            None => (from, rest),
        };
        // UTF-8 has the order of the characters.
        found |= from <= character && character <= to;
        text = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<&[u8]> {
        text.split('/').map(str::as_bytes).collect()
    }

    fn ignored(text: &str, name: &str) -> bool {
        DockerIgnore::parse(text.as_bytes()).ignores(&path(name))
    }

    #[test]
    fn patterns_match_from_the_top() {
        assert!(ignored("target", "target"));
        assert!(ignored("/target/", "target/debug/x"));
        assert!(!ignored("target", "src/target"));
        assert!(ignored("**/target", "src/target/x"));
        assert!(ignored("**/target", "target"));
        assert!(ignored("*.md", "README.md"));
        assert!(!ignored("*.md", "docs/README.md"));
        assert!(ignored("*/temp?", "a/temp1"));
        assert!(!ignored("*/temp?", "a/temp12"));
        assert!(ignored("docs/**/*.txt", "docs/a/b/c.txt"));
    }

    #[test]
    fn classes_and_escapes_are_those_of_docker() {
        for (pattern, name, matches) in [
            ("**/*.py[cod]", "a/b.pyc", true),
            ("**/*.py[cod]", "a/b.py", false),
            ("*.p[ek]m", "key.pem", true),
            ("v[0-9][^a-c]", "v1d", true),
            ("v[0-9][^a-c]", "v1b", false),
            ("[\\]x]", "]", true),
            ("[]x]", "]", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("caf?", "café", true),
            ("[à-ï]", "é", true),
            ("a[b", "a[b", false),
        ] {
            assert_eq!(ignored(pattern, name), matches, "{pattern} {name}");
        }
        assert!(DockerIgnore::parse(b"fixtures/\xe9?").ignores(&[b"fixtures", b"\xe9\xe8"]));
    }

    #[test]
    fn the_last_match_decides_and_comments_do_not() {
        let text = "# README.md\n\n*.md\n!README.md\n";
        assert!(ignored(text, "NEWS.md"));
        assert!(!ignored(text, "README.md"));
        assert!(ignored("!a\na", "a"));
    }

    #[test]
    fn the_dockerfile_is_always_sent() {
        assert!(!ignored("*", "Dockerfile") && !ignored("*", "Dockerfile.dockerignore"));
        assert!(ignored("*", "app.py"));
    }

    #[test]
    fn a_directory_is_looked_into_only_for_what_can_be_in_it() {
        let may = |text: &str, name| DockerIgnore::parse(text.as_bytes()).may_keep_below(&path(name));
        assert!(!may("*", "pgdata"));
        assert!(!may("*\n!src", "pgdata") && !may("*\n!src/a", "pgdata/src"));
        assert!(may("*\n!src/*/a", "src") && may("*\n!src/*/a", "src/x") && !may("*\n!src/*/a", "src/x/b"));
        assert!(may("*\n!**/a", "pgdata"));
        // A later pattern has all of it again.
        assert!(!may("!docs/keep\ndocs", "docs") && may("docs\n!docs/keep", "docs"));
    }
}
