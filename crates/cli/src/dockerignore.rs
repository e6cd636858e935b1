//! `.dockerignore`: which files of a directory stay out of the zip.
//!
//! Of Docker's rules (docs.docker.com, "Build context", section "dockerignore files"): comments, `*`, `?`, `**`, `!`,
//! the last pattern that matches decides, and a pattern that matches a directory covers what is in it. Character
//! classes are not understood.

/// The patterns of a `.dockerignore` file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DockerIgnore {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// Names between slashes.
    parts: Vec<String>,
    /// Begins with `!`: what it matches stays in.
    keeps: bool,
}

impl DockerIgnore {
    /// Reads the text of the file.
    pub(crate) fn parse(text: &str) -> Self {
        let patterns = text.lines().filter_map(|line| {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                return None;
            }
            let (keeps, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim_start()),
                None => (false, line),
            };
            let parts = pattern.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned);
            let parts: Vec<String> = parts.collect();
            (!parts.is_empty()).then_some(Pattern { parts, keeps })
        });
        Self { patterns: patterns.collect() }
    }

    /// Whether the file or directory at this path, relative to the top, stays out.
    pub(crate) fn ignores(&self, path: &[&str]) -> bool {
        // Docker's own client sends these two in any case.
        if path == ["Dockerfile"] || path == [".dockerignore"] {
            return false;
        }
        let deciding = self.patterns.iter().rev().find(|pattern| pattern.covers(path));
        deciding.is_some_and(|pattern| !pattern.keeps)
    }

    /// Whether nothing in an ignored directory can be wanted.
    pub(crate) fn may_skip_directories(&self) -> bool {
        self.patterns.iter().all(|pattern| !pattern.keeps)
    }
}

impl Pattern {
    /// Whether the pattern matches the path or a directory above it.
    fn covers(&self, path: &[&str]) -> bool {
        (1..=path.len()).any(|length| match_parts(&self.parts, &path[..length]))
    }
}

fn match_parts(pattern: &[String], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((part, rest)), _) if part == "**" => {
            match_parts(rest, path)
                || path.split_first().is_some_and(|(_, below)| match_parts(pattern, below))
        }
        (Some((part, rest)), Some((name, below))) => {
            match_name(part.as_bytes(), name.as_bytes()) && match_parts(rest, below)
        }
        _ => false,
    }
}

fn match_name(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            match_name(rest, name) || name.split_first().is_some_and(|(_, below)| match_name(pattern, below))
        }
        (Some((b'?', rest)), Some((_, below))) => match_name(rest, below),
        (Some((character, rest)), Some((other, below))) => character == other && match_name(rest, below),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(text: &str, path: &str) -> bool {
        DockerIgnore::parse(text).ignores(&path.split('/').collect::<Vec<_>>())
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
    fn the_last_match_decides_and_comments_do_not() {
        let text = "# README.md\n\n*.md\n!README.md\n";
        assert!(ignored(text, "NEWS.md"));
        assert!(!ignored(text, "README.md"));
        assert!(ignored("!a\na", "a"));
    }

    #[test]
    fn the_dockerfile_is_always_sent() {
        assert!(!ignored("*", "Dockerfile"));
        assert!(ignored("*", "app.py"));
        assert!(DockerIgnore::parse("*").may_skip_directories());
        assert!(!DockerIgnore::parse("*\n!src").may_skip_directories());
    }
}
