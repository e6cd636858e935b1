//! What the members of a request must be: the constraints of Smithy models, as constants.

/// A regular expression of a service model, and a function that decides it.
#[derive(Debug, Clone, Copy)]
pub struct Pattern {
    /// As the model spells it; shown to the caller.
    pub expression: &'static str,
    /// Whether a text matches as a whole.
    pub matches: fn(&str) -> bool,
}

/// Constraints of a text.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    /// Least number of characters.
    pub minimum: usize,
    /// Greatest number of characters.
    pub maximum: usize,
    /// What it must look like.
    pub pattern: Option<Pattern>,
    /// Whether its value must not be repeated in an error.
    pub sensitive: bool,
}

impl Text {
    /// Any text.
    pub const ANY: Self = Self { minimum: 0, maximum: usize::MAX, pattern: None, sensitive: false };
}

/// What a value must be.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A string.
    Text(Text),
    /// An integer between two, both included.
    Integer(i64, i64),
    /// True or false.
    Boolean,
    /// One of these strings.
    Enumeration(&'static [&'static str]),
    /// A list with these least and greatest lengths.
    List(&'static Shape, usize, usize),
    /// A map of strings to values with these least and greatest numbers of entries.
    Map {
        /// What keys must be.
        key: &'static Shape,
        /// What values must be.
        value: &'static Shape,
        /// Least number of entries.
        minimum: usize,
        /// Greatest number of entries.
        maximum: usize,
    },
    /// An object.
    Structure(&'static [Member]),
    /// An object with exactly one of these members.
    Union(&'static [Member]),
}

/// Where a member of a request is sent by protocols that bind members to HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// In the body; also every member of a member.
    Body,
    /// In the path.
    Path,
    /// In the query; a list's name is repeated.
    Query,
    /// In a header.
    Header,
}

/// A member of a structure.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    /// Name on the wire.
    pub name: &'static str,
    /// What it must be.
    pub shape: &'static Shape,
    /// Whether it must be there.
    pub required: bool,
    /// Where it is sent.
    pub location: Location,
}

/// A structure without members.
pub const EMPTY: Shape = Shape::Structure(&[]);

/// A member of the body that must be there.
pub const fn required(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, shape, required: true, location: Location::Body }
}

/// A member of the body that may be left out.
pub const fn optional(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, shape, required: false, location: Location::Body }
}

/// A member of the path.
pub const fn path(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, shape, required: true, location: Location::Path }
}

/// A member of the query that may be left out.
pub const fn query(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, shape, required: false, location: Location::Query }
}

/// A member in a header that may be left out.
pub const fn header(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, shape, required: false, location: Location::Header }
}

/// A text of these lengths in characters.
pub const fn text(minimum: usize, maximum: usize) -> Shape {
    Shape::Text(Text { minimum, maximum, ..Text::ANY })
}

/// A text of these lengths in characters that matches a pattern.
pub const fn patterned(minimum: usize, maximum: usize, pattern: Pattern) -> Shape {
    Shape::Text(Text { minimum, maximum, pattern: Some(pattern), sensitive: false })
}

/// A text of at most `maximum` characters that no error repeats.
pub const fn secret(maximum: usize) -> Shape {
    Shape::Text(Text { maximum, sensitive: true, ..Text::ANY })
}
