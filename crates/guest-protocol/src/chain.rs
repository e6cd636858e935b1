//! Errors as text: in a [`crate::Reply::Error`], in logs, and in the reasons that users read.

use std::error::Error;
use std::fmt::Write as _;

/// The error and its sources as one line, outermost first.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        write!(text, ": {source}").expect("invariant: writing to a string cannot fail");
        next = source.source();
    }
    text
}
