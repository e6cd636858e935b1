//! Progress of a build: a moving line on a terminal, plain lines elsewhere. All of it goes to
//! standard error, so that standard output holds the result alone.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use hearth_api::visible;

/// Shows what a build does.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}");
            bar.set_style(style.expect("invariant: the template is well-formed"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar }
    }

    /// What is being done now.
    pub(super) fn step(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(visible(text).into_owned()),
            None => self.line(text),
        }
    }

    /// A line that stays.
    pub(super) fn line(&self, text: &str) {
        let text = visible(text);
        match &self.bar {
            Some(bar) => bar.println(text),
            // Nobody reads it when standard error is closed.
            None => drop(writeln!(io::stderr().lock(), "{text}")),
        }
    }

    /// A line of the build's log. Those that begin a step of the Dockerfile also
    /// become the moving line.
    pub(super) fn log(&self, text: &str) {
        let text = last_overwrite(text);
        self.line(text);
        if let (Some(bar), Some((number, count, instruction))) = (&self.bar, parse_step(text)) {
            bar.set_message(format!("[{number}/{count}] {}", visible(instruction)));
        }
    }

    /// Takes the moving line away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What a terminal would show in the end of a line that was overwritten by carriage returns,
/// as apt's progress is.
fn last_overwrite(line: &str) -> &str {
    line.trim_end_matches('\r').rsplit('\r').next().unwrap_or(line)
}

/// Reads buildah's `STEP 2/5: RUN …`; with several stages it is `[1/2] STEP 2/5: RUN …`.
fn parse_step(line: &str) -> Option<(u32, u32, &str)> {
    let line = match line.strip_prefix('[') {
        Some(rest) => rest.split_once("] ")?.1,
        None => line,
    };
    let (numbers, instruction) = line.strip_prefix("STEP ")?.split_once(": ")?;
    let (number, count) = numbers.split_once('/')?;
    Some((number.parse().ok()?, count.parse().ok()?, instruction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_overwritten_lines_is_shown() {
        assert_eq!(last_overwrite("5%\r50%\r100% done"), "100% done");
        assert_eq!(last_overwrite("plain\r"), "plain");
        assert_eq!(last_overwrite(""), "");
    }

    #[test]
    fn steps_of_the_dockerfile_are_recognised() {
        assert_eq!(parse_step("STEP 2/5: RUN a: b"), Some((2, 5, "RUN a: b")));
        assert_eq!(parse_step("[1/2] STEP 1/3: FROM x AS y"), Some((1, 3, "FROM x AS y")));
        assert_eq!(parse_step("STEP BY STEP"), None);
        assert_eq!(parse_step("[notice] something"), None);
    }
}
