//! Identifiers, each a type of its own so that none can be passed for another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes text that is known to be well-formed, such as a stored value.
            pub fn from_stored(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The identifier as it is on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// `microvm-<uuid>`.
    MicrovmId
);
text_id!(
    /// The first label of an endpoint's host name: a UUID of its own, not the microVM's.
    EndpointLabel
);
text_id!(
    /// Id of one build of an image version: a UUID.
    BuildId
);
text_id!(
    /// An image's name: `[a-zA-Z0-9-_]+`, 1 to 64 characters.
    ImageName
);
text_id!(
    /// Twelve digits.
    AccountId
);

impl MicrovmId {
    /// A new random id.
    pub fn new() -> Self {
        Self(format!("microvm-{}", uuid::Uuid::new_v4()))
    }
}

impl Default for MicrovmId {
    fn default() -> Self {
        Self::new()
    }
}

impl EndpointLabel {
    /// A new random label.
    pub fn new() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }
}

impl Default for EndpointLabel {
    fn default() -> Self {
        Self::new()
    }
}

impl BuildId {
    /// A new random id.
    pub fn new() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }
}

impl Default for BuildId {
    fn default() -> Self {
        Self::new()
    }
}

/// The major number of an image version; `3.0` on the wire (the minor has always been 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageVersion(pub u32);

impl ImageVersion {
    /// The version of a new image.
    pub const FIRST: Self = Self(1);

    /// Reads `3.0` or `3`; nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let major = text.strip_suffix(".0").unwrap_or(text);
        let number: u32 = major.parse().ok()?;
        (number > 0 && number.to_string() == major).then_some(Self(number))
    }
}

impl fmt::Display for ImageVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.0", self.0)
    }
}

impl Serialize for ImageVersion {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageVersion {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("image version is not of the form N.0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_one_spelling_with_and_one_without_the_minor() {
        assert_eq!(ImageVersion::parse("1.0"), Some(ImageVersion(1)));
        assert_eq!(ImageVersion::parse("12"), Some(ImageVersion(12)));
        for bad in ["", "0", "0.0", "1.1", "01", "+1", "1.0.0", "x"] {
            assert_eq!(ImageVersion::parse(bad), None, "{bad}");
        }
        assert_eq!(ImageVersion(3).to_string(), "3.0");
    }
}
