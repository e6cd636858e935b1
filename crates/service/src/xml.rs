//! XML answers.

use std::fmt::{Display, Write as _};

use hearth_api::Timestamp;
use quick_xml::escape::escape;

/// A sequence of elements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Xml(String);

impl Xml {
    /// Adds an element with text.
    pub fn text(mut self, name: &str, value: impl Display) -> Self {
        // A carriage return would reach the reader as a line feed, and control characters have no
        // form at all.
        let value: String =
            value.to_string().chars().map(|c| if is_xml(c) { c } else { '\u{fffd}' }).collect();
        let value = escape(value.as_str()).replace('\r', "&#13;");
        self.write(format_args!("<{name}>{value}</{name}>"));
        self
    }

    /// Adds an element with text, if there is any.
    pub fn optional(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// Adds a time; the query protocol writes ISO 8601, and the services leave out the fraction.
    pub fn time(self, name: &str, time: Timestamp) -> Self {
        self.text(name, time.0.strftime("%Y-%m-%dT%H:%M:%SZ"))
    }

    /// Adds an element with elements.
    pub fn element(mut self, name: &str, inner: Self) -> Self {
        let Self(inner) = inner;
        self.write(format_args!("<{name}>{inner}</{name}>"));
        self
    }

    /// Adds a list.
    pub fn list(self, name: &str, items: impl IntoIterator<Item = Self>) -> Self {
        let members = items.into_iter().fold(Self::default(), |all, item| all.element("member", item));
        self.element(name, members)
    }

    /// Adds a list of texts.
    pub fn texts<T: Display>(self, name: &str, items: impl IntoIterator<Item = T>) -> Self {
        let members = items.into_iter().fold(Self::default(), |all, item| all.text("member", item));
        self.element(name, members)
    }

    /// The whole document.
    pub fn document(self, root: &str, namespace: &str) -> String {
        format!("<{root} xmlns=\"{}\">{}</{root}>", escape(namespace), self.0)
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("invariant: writing to a String succeeds");
    }
}

fn is_xml(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}') || matches!(c, '\t' | '\n' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let xml = Xml::default().text("a", "<&>\"'\r\n\u{1}é").optional("b", None::<&str>);
        assert_eq!(xml.0, "<a>&lt;&amp;&gt;&quot;&apos;&#13;\n\u{fffd}é</a>");
    }

    #[test]
    fn lists_have_members() {
        let xml =
            Xml::default().list("L", [Xml::default().text("x", 1)]).texts("T", ["y"]).texts::<&str>("N", []);
        assert_eq!(xml.0, "<L><member><x>1</x></member></L><T><member>y</member></T><N></N>");
        let time = Xml::default().time("t", Timestamp::from_millis(1_500));
        assert_eq!(time.document("r", "n&"), "<r xmlns=\"n&amp;\"><t>1970-01-01T00:00:01Z</t></r>");
    }
}
