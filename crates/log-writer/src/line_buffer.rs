//! Output is cut into lines.

/// Longest piece of one line, in bytes: a longer line is cut into several (an event of the service
/// holds 1 MiB).
const LINE_LIMIT_BYTES: usize = 64 << 10;

/// Output that has no end of line yet.
#[derive(Debug, Default)]
pub struct LineBuffer(String);

impl LineBuffer {
    /// Adds output; the complete lines leave, and so does a line that is too long.
    pub fn push(&mut self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in text.split_inclusive('\n') {
            let mut rest = piece;
            while self.0.len() + rest.len() > LINE_LIMIT_BYTES {
                let cut = rest.floor_char_boundary(LINE_LIMIT_BYTES.saturating_sub(self.0.len()));
                self.0.push_str(&rest[..cut]);
                lines.push(std::mem::take(&mut self.0));
                rest = &rest[cut..];
            }
            self.0.push_str(rest);
            if rest.ends_with('\n') {
                let line = std::mem::take(&mut self.0);
                let line = line.strip_suffix('\n').unwrap_or(&line);
                lines.push(line.strip_suffix('\r').unwrap_or(line).to_owned());
            }
        }
        lines
    }

    /// What has no end of line, if anything.
    pub fn take(&mut self) -> Option<String> {
        Some(std::mem::take(&mut self.0)).filter(|rest| !rest.is_empty())
    }

    /// Bytes that wait for an end of line.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_leave_when_they_are_complete_or_too_long() {
        let mut buffer = LineBuffer::default();
        assert_eq!(buffer.push("one\r\ntwo\n\nthr"), ["one", "two", ""]);
        assert_eq!(buffer.push("ee\n"), ["three"]);
        assert_eq!((buffer.take(), buffer.len()), (None, 0));
        let cut = buffer.push(&"ü".repeat(100_000));
        assert_eq!(cut.iter().map(String::len).collect::<Vec<_>>(), [65_536; 3]);
        assert_eq!(buffer.take().unwrap().len(), 200_000 - 3 * 65_536);
    }
}
