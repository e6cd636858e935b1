//! What is said of JSON that cannot be read.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::error::{Error, Exception};

/// Longest sentence of the parser that is repeated, in bytes.
const MAXIMUM_SENTENCE: usize = 500;
pub(crate) const SERIALIZATION: Exception = Exception { name: "SerializationException", status: 400 };

/// Why JSON text cannot be read as `T`, with the position, which a parsed value has no more.
pub(crate) fn misread_as<T: DeserializeOwned>(text: &Bytes, otherwise: &serde_json::Error) -> Error {
    match serde_json::from_slice::<T>(text) {
        Ok(_) => misread(otherwise),
        Err(error) => misread(&error),
    }
}

pub(crate) fn misread(error: &serde_json::Error) -> Error {
    let mut message = error.to_string();
    message.truncate(message.floor_char_boundary(MAXIMUM_SENTENCE));
    Error::new(SERIALIZATION, message)
}
