//! What the builder prints: what the log shows of it, and what it says of a failure.
//!
//! The words are those of buildah 1.43, which is in the builder's disk. The guest may print what
//! it likes: the worst that it gets is a sentence of its own, or an image that its Dockerfile
//! could have named as well.

use std::collections::VecDeque;

use hearth_log_writer::LineBuffer;

use crate::dockerfile::HELPER;

/// Lines that are kept to explain a failure.
const TAIL_LINES: usize = 64;
/// Characters that are kept of each.
const LINE_CHARS: usize = 300;
/// How buildah ends when an image of FROM, or of COPY --from and RUN --mount=from, is not there.
const NOT_KNOWN: &str = ": image not known";
const NOT_FOUND: &str = ": no stage or image found with that name";
/// How it ends when ADD names a git repository by a variable.
const NO_GIT: &str = "exec: \"git\": executable file not found";

/// How a RUN line ends that SIGBUS has ended: 128 and the number of the signal.
const SIGBUS: &str = "exit status 135";

/// The output of one build.
#[derive(Debug, Default)]
pub(crate) struct BuildOutput {
    buffer: LineBuffer,
    tail: VecDeque<String>,
    /// Whether the line before was hidden.
    hidden: bool,
}

impl BuildOutput {
    /// Takes more output; returns what the log shows, in whole lines.
    pub(crate) fn push(&mut self, text: &str) -> String {
        let lines = self.buffer.push(text);
        self.shown(lines)
    }

    /// What the log shows of the last line, if that had no end.
    pub(crate) fn rest(&mut self) -> String {
        let lines = self.buffer.take().into_iter().collect();
        self.shown(lines)
    }

    fn shown(&mut self, lines: Vec<String>) -> String {
        let mut shown = String::new();
        for line in lines {
            // "Using cache" belongs to the step before.
            self.hidden = is_put_in(&line) || (self.hidden && line.starts_with("--> "));
            if self.hidden {
                continue;
            }
            shown.push_str(&line);
            shown.push('\n');
            if self.tail.len() == TAIL_LINES {
                self.tail.pop_front();
            }
            self.tail.push_back(plain(&line));
        }
        shown
    }

    /// The image that the build ended for want of.
    pub(crate) fn missing_image(&self) -> Option<String> {
        let error = self.tail.back()?.strip_prefix("Error: ")?;
        let image = if let Some(error) = error.strip_suffix(NOT_KNOWN) {
            error.rsplit(": ").next()?
        } else {
            error.strip_suffix(NOT_FOUND)?.rsplit("from=").next()?
        };
        let is_reference = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
        (!image.is_empty() && image.len() < LINE_CHARS / 2 && image.chars().all(is_reference))
            .then(|| image.to_owned())
    }

    /// Why the build failed, in a sentence or two: the step and the line that it printed last.
    pub(crate) fn reason(&self) -> String {
        let said = |line: &&String| !line.is_empty();
        let Some(at) = self.tail.iter().rposition(|line| line.starts_with("Error: ")) else {
            let last = self.tail.iter().rfind(said).map_or("it printed nothing", String::as_str);
            return format!("The container image build failed: {}.", last.trim_end_matches('.'));
        };
        let error: Vec<_> = self.tail.range(at..).map(String::as_str).collect();
        let error = error.join(" ");
        let error = error["Error: ".len()..].trim_end_matches('.');
        if error.contains(NO_GIT) {
            return "The container image build failed: an ADD names a git repository, and the builder has no git. ADD an \
                    archive of the repository, or clone it in a RUN line of an image with git."
                .to_owned();
        }
        let of_run = error.strip_prefix("building at STEP \"").and_then(|error| error.rsplit_once("\": "));
        let Some((step, cause)) = of_run else {
            return format!("The container image build failed: {error}.");
        };
        let mut reason = format!("The container image build failed at \"{step}\": {cause}.");
        if cause.ends_with(SIGBUS) {
            reason.push_str(
                " That is SIGBUS, which a program gets when the disk of a file it has mapped is full.",
            );
        }
        let before = self.tail.range(..at).rev().filter(said).find(|line| !is_of_the_builder(line));
        if let Some(line) = before.filter(|line| !is_step(line) && !line.starts_with("--> ")) {
            reason.push_str(" Its last line of output: ");
            reason.push_str(line);
        }
        reason
    }
}

/// The line without control characters and the sequences of a terminal (`ESC [ …
/// letter`), and not too long.
fn plain(line: &str) -> String {
    let shown = line.trim().split('\u{1b}').enumerate().flat_map(|(number, part)| {
        let end = if number > 0 && part.starts_with('[') {
            part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |end| end + 1)
        } else {
            0
        };
        part[end..].chars()
    });
    shown.filter(|c| !c.is_control()).take(LINE_CHARS).collect()
}

/// `STEP 2/5: …` or `[1/3] STEP 2/5: …`.
fn is_step(line: &str) -> bool {
    step(line).is_some()
}

fn step(line: &str) -> Option<&str> {
    let line = if line.starts_with('[') { line.split_once("] ")?.1 } else { line };
    Some(line.strip_prefix("STEP ")?.split_once(": ")?.1)
}

/// A step that the Dockerfile does not have: the one by which build-image makes RUN lines trust the
/// host's certificates, or a variable that the Dockerfile in other words has.
fn is_put_in(line: &str) -> bool {
    step(line).is_some_and(|step| {
        (step.starts_with("ENV \"") && step.contains("=\"/run/hearth-ca.crt\""))
            || step.strip_prefix("ARG ").is_some_and(|name| name.starts_with(HELPER))
    })
}

/// What buildah says of a RUN line that failed, besides its error.
fn is_of_the_builder(line: &str) -> bool {
    ["subprocess exited with status", "process exited with error", "process failed to start"]
        .iter()
        .any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str) -> BuildOutput {
        let mut output = BuildOutput::default();
        output.push(text);
        output.rest();
        output
    }

    #[test]
    fn a_failed_step_is_named_with_the_line_that_says_why() {
        let text = "STEP 1/2: FROM debian\nSTEP 2/2: RUN apt-get install foo\nReading package lists...\n\
                    \x1b[31mE: Unable to locate package foo\x1b[0m\n\nsubprocess exited with status 100\nsubprocess exited with status 100\n\
                    Error: building at STEP \"RUN apt-get install foo\": exit status 100\n";
        assert_eq!(
            output(text).reason(),
            "The container image build failed at \"RUN apt-get install foo\": exit status 100. \
             Its last line of output: E: Unable to locate package foo"
        );
        let silent = "[2/2] STEP 2/2: RUN false\nsubprocess exited with status 1\nError: building at STEP \"RUN false\": exit status 1";
        assert_eq!(
            output(silent).reason(),
            "The container image build failed at \"RUN false\": exit status 1."
        );
        let mapped = "Error: building at STEP \"RUN x\": exit status 135\n";
        assert!(output(mapped).reason().ends_with("exit status 135. That is SIGBUS, which a program gets when the disk of a file it has mapped is full."));
        let other = "Error: COPY requires at least two arguments\n";
        assert_eq!(
            output(other).reason(),
            "The container image build failed: COPY requires at least two arguments."
        );
        let git = "Error: building at STEP \"ADD ${R} /x\": failed while performing `git init`: exec: \"git\": executable file not found in $PATH\n";
        assert!(output(git).reason().contains("the builder has no git. ADD an archive"));
        assert_eq!(output("cp: no space.\n\n").reason(), "The container image build failed: cp: no space.");
        assert_eq!(output("").reason(), "The container image build failed: it printed nothing.");
    }

    #[test]
    fn the_image_that_the_builder_lacks_is_found_in_its_last_words() {
        let missing = |text: &str| output(text).missing_image();
        assert_eq!(
            missing("Error: creating build container: docker.io/library/debian:foo: image not known\n")
                .as_deref(),
            Some("docker.io/library/debian:foo")
        );
        assert_eq!(
            missing("Error: COPY --from=busybox:1: no stage or image found with that name").as_deref(),
            Some("busybox:1")
        );
        assert_eq!(
            missing("Error: type=bind,from=ghcr.io/a/b@sha256:00,target=/x from=ghcr.io/a/b@sha256:00: no stage or image found with that name\n").as_deref(),
            Some("ghcr.io/a/b@sha256:00")
        );
        assert_eq!(missing("Error: creating build container: a b: image not known\nmore\n"), None);
        assert_eq!(missing("Error: creating build container: a;b: image not known\n"), None);
        assert_eq!(missing("x: image not known\n"), None);
    }

    #[test]
    fn steps_that_the_dockerfile_does_not_have_are_not_shown() {
        let mut output = BuildOutput::default();
        let text = "[1/2] STEP 1/3: FROM debian\n[1/2] STEP 2/3: ENV \"SSL_CERT_FILE\"=\"/run/hearth-ca.crt\" \"PIP_CERT\"=\"/run/hearth-ca.crt\"\n\
                    --> Using cache 12\n[1/2] STEP 3/4: ARG hearth_value_1=\"${A//x/\u{1}}\"\n--> 56\n\
                    [1/2] STEP 3/3: RUN x\n--> Using cache 34\nwithout an end";
        assert_eq!(
            output.push(text),
            "[1/2] STEP 1/3: FROM debian\n[1/2] STEP 3/3: RUN x\n--> Using cache 34\n"
        );
        assert_eq!(output.rest(), "without an end\n");
    }
}
