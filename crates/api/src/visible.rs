//! Text of apps, builds and clients as it may be shown on an operator's terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with everything visible that a terminal would obey instead of showing: control
/// characters other than line feed and tab (ECMA-48: C0, DEL, C1), and those that turn the
/// direction of text around (Unicode Standard Annex 9). They appear as `\u001b` and the like, which
/// is also how JSON writes them.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_obeyed(character) {
            // Writing to a string does not fail.
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

fn is_obeyed(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => character.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        for (text, shown) in [
            ("plain, Grüße\tand\nmore", "plain, Grüße\tand\nmore"),
            ("\u{1b}]0;title\u{7}\u{1b}[31mred", "\\u001b]0;title\\u0007\\u001b[31mred"),
            ("\u{9b}31m\u{7f}\r", "\\u009b31m\\u007f\\u000d"),
            ("user\u{202e}txt.exe", "user\\u202etxt.exe"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }
}
