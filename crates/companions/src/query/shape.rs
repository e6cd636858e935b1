//! What the input of an operation must look like, in tables, and the sentence for what does not
//! (the one of Coral, AWS's framework: "1 validation error detected: Value 'x' at 'userName' failed
//! to satisfy constraint: …").

use hearth_api::{MAXIMUM_SHOWN, MAXIMUM_VIOLATIONS};

use super::form::Form;
use super::texts::{TAG_KEY, TAG_VALUE, Text};
use super::{Code, Refusal};

/// A member of an operation's input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) kind: Kind,
}

/// What a member is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text(Text),
    OneOf(&'static [&'static str]),
    /// With least and greatest value.
    Integer(u32, u32),
    Boolean,
    /// At most so many texts.
    Texts(Text, usize),
    /// From so many to so many structures.
    Structures(&'static [Member], usize, usize),
}

pub(crate) const fn required(name: &'static str, kind: Kind) -> Member {
    Member { name, required: true, kind }
}

pub(crate) const fn optional(name: &'static str, kind: Kind) -> Member {
    Member { name, required: false, kind }
}

/// Tags, at most 50.
pub(crate) const TAGS: Kind = Kind::Structures(
    &[required("Key", Kind::Text(TAG_KEY)), required("Value", Kind::Text(TAG_VALUE))],
    0,
    50,
);

/// Input that fits its operation's table.
#[derive(Debug, Clone)]
pub(crate) struct Input(Form);

impl Input {
    /// Checks a form. All that is wrong is told at once.
    pub(crate) fn check(form: Form, members: &[Member]) -> Result<Self, Refusal> {
        let mut problems = Problems::default();
        for member in members {
            problems.look_at(&form, member, "", "")?;
        }
        match problems.0.len() {
            0 => Ok(Self(form)),
            count => {
                let noun = if count == 1 { "error" } else { "errors" };
                let message = format!("{count} validation {noun} detected: {}", problems.0.join("; "));
                Err(Refusal::new(Code::ValidationError, message))
            }
        }
    }

    /// A text, if it was given.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)
    }

    /// A text that the operation's table requires.
    pub(crate) fn required(&self, name: &str) -> &str {
        self.get(name).expect("invariant: only members that the table requires are read with this")
    }

    /// A number, if it was given.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.get(name)?.parse().ok()
    }

    /// Whether a boolean was given and is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// Texts of a list; empty when it was not given.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        let entries = self.0.entries(name).unwrap_or_default();
        entries.iter().filter_map(|entry| self.0.get(entry)).collect()
    }

    /// How many entries a list has; `None` when it was not given.
    pub(crate) fn entries(&self, name: &str) -> Option<Vec<String>> {
        self.0.entries(name)
    }

    /// Two members of each structure of a list; a structure without one of them has
    /// an empty text for it.
    pub(crate) fn pairs(&self, name: &str, first: &str, second: &str) -> Vec<(&str, &str)> {
        let entries = self.0.entries(name).unwrap_or_default();
        let get = |entry: &str, member: &str| self.0.get(&format!("{entry}.{member}")).unwrap_or_default();
        entries.iter().map(|entry| (get(entry, first), get(entry, second))).collect()
    }
}

/// What is wrong, in the order of the members.
#[derive(Debug, Default)]
struct Problems(Vec<String>);

impl Problems {
    /// `prefix` is that of the form's names, `path` that of the sentence.
    fn look_at(&mut self, form: &Form, member: &Member, prefix: &str, path: &str) -> Result<(), Refusal> {
        let name = format!("{prefix}{}", member.name);
        let path = format!("{path}{}", lower_first(member.name));
        match member.kind {
            Kind::Text(_) | Kind::OneOf(_) | Kind::Integer(..) | Kind::Boolean => match form.get(&name) {
                None => self.missing(member, &path),
                Some(value) => self.scalar(member.kind, value, &path)?,
            },
            Kind::Texts(text, max) => match form.entries(&name) {
                None => self.missing(member, &path),
                Some(entries) => {
                    self.length(&path, entries.len(), 0, max);
                    for (index, entry) in entries.iter().enumerate() {
                        let value = form.get(entry).unwrap_or_default();
                        self.scalar(Kind::Text(text), value, &format!("{path}.{}.member", index + 1))?;
                    }
                }
            },
            Kind::Structures(members, min, max) => match form.entries(&name) {
                None => self.missing(member, &path),
                Some(entries) => {
                    self.length(&path, entries.len(), min, max);
                    for (index, entry) in entries.iter().enumerate() {
                        let path = format!("{path}.{}.member.", index + 1);
                        for member in members {
                            self.look_at(form, member, &format!("{entry}."), &path)?;
                        }
                    }
                }
            },
        }
        Ok(())
    }

    /// Adds a sentence, as long as there are few: a form of thousands must not be
    /// answered with as many.
    fn push(&mut self, sentence: String) {
        if self.0.len() < MAXIMUM_VIOLATIONS {
            self.0.push(sentence);
        }
    }

    fn missing(&mut self, member: &Member, path: &str) {
        if member.required {
            self.push(sentence("Value null", path, "not be null"));
        }
    }

    /// Length of a list, whose value no sentence repeats.
    fn length(&mut self, path: &str, length: usize, min: usize, max: usize) {
        if length < min {
            let says = format!("have length greater than or equal to {min}");
            self.push(sentence("Value", path, &says));
        }
        if length > max {
            self.push(sentence("Value", path, &format!("have length less than or equal to {max}")));
        }
    }

    fn scalar(&mut self, kind: Kind, value: &str, path: &str) -> Result<(), Refusal> {
        let quoted = shown(value);
        let mut refuse = |says: String| self.push(sentence(&quoted, path, &says));
        match kind {
            Kind::Text(text) => {
                let length = value.chars().count();
                if length < text.min {
                    refuse(format!("have length greater than or equal to {}", text.min));
                }
                if length > text.max {
                    refuse(format!("have length less than or equal to {}", text.max));
                }
                if let Some(pattern) = text.pattern.filter(|pattern| !(pattern.fits)(value)) {
                    refuse(format!("satisfy regular expression pattern: {}", pattern.expression));
                }
            }
            Kind::OneOf(values) if !values.contains(&value) => {
                refuse(format!("satisfy enum value set: [{}]", values.join(", ")));
            }
            Kind::Integer(min, max) => {
                let number: i64 = value.parse().map_err(|_| malformed(path, "an integer"))?;
                if number < i64::from(min) {
                    refuse(format!("have value greater than or equal to {min}"));
                }
                if number > i64::from(max) {
                    refuse(format!("have value less than or equal to {max}"));
                }
            }
            Kind::Boolean if !matches!(value, "true" | "false") => {
                return Err(malformed(path, "true or false"));
            }
            Kind::OneOf(_) | Kind::Boolean | Kind::Texts(..) | Kind::Structures(..) => {}
        }
        Ok(())
    }
}

/// How a sentence repeats a value.
fn shown(value: &str) -> String {
    if value.len() <= MAXIMUM_SHOWN { format!("Value '{value}'") } else { "Value".to_owned() }
}

fn malformed(path: &str, what: &str) -> Refusal {
    Refusal::new(Code::MalformedInput, format!("The value of '{path}' must be {what}."))
}

fn sentence(value: &str, path: &str, says: &str) -> String {
    format!("{value} at '{path}' failed to satisfy constraint: Member must {says}")
}

fn lower_first(name: &str) -> String {
    let mut characters = name.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::super::texts::NAME;
    use super::*;

    const MEMBERS: [Member; 5] = [
        required("UserName", Kind::Text(NAME)),
        optional("MaxItems", Kind::Integer(1, 1000)),
        optional("Scope", Kind::OneOf(&["All", "Local"])),
        optional("Tags", TAGS),
        optional("OnlyAttached", Kind::Boolean),
    ];

    fn refusal(body: &str) -> Option<String> {
        let form = Form::read("", body.as_bytes()).unwrap();
        Input::check(form, &MEMBERS).err().map(|refusal| refusal.message)
    }

    #[test]
    fn what_is_wrong_is_told_by_member_and_constraint() {
        let good =
            "UserName=a&MaxItems=1000&Scope=All&Tags.member.1.Key=k&Tags.member.1.Value=&OnlyAttached=true";
        assert_eq!(refusal(good), None);
        assert_eq!(
            refusal("MaxItems=0").unwrap(),
            "2 validation errors detected: Value null at 'userName' failed to satisfy constraint: Member must not be \
             null; Value '0' at 'maxItems' failed to satisfy constraint: Member must have value greater than or equal \
             to 1"
        );
        for (body, says) in [
            (
                "UserName=".to_owned(),
                "Value '' at 'userName' failed to satisfy constraint: Member must have length",
            ),
            (format!("UserName={}", "a".repeat(65)), "have length less than or equal to 64"),
            ("UserName=a%2Fb".to_owned(), "satisfy regular expression pattern: [\\w+=,.@-]+"),
            ("UserName=a&MaxItems=1001".to_owned(), "have value less than or equal to 1000"),
            (
                "UserName=a&Scope=x".to_owned(),
                "'scope' failed to satisfy constraint: Member must satisfy enum value set: [All, Local]",
            ),
            ("UserName=a&Tags.member.7.Key=k".to_owned(), "Value null at 'tags.1.member.value'"),
            ("UserName=a&MaxItems=x".to_owned(), "The value of 'maxItems' must be an integer."),
            ("UserName=a&OnlyAttached=1".to_owned(), "The value of 'onlyAttached' must be true or false."),
        ] {
            let message = refusal(&body).unwrap();
            assert!(message.contains(says), "{message}");
        }
        let tag = |n: u32| format!("&Tags.member.{n}.Key=k{n}&Tags.member.{n}.Value=");
        let many = (1..=51).fold(String::new(), |all, n| all + &tag(n));
        assert!(refusal(&format!("UserName=a{many}")).unwrap().contains("length less than or equal to 50"));
    }
}
