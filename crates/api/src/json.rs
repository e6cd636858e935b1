//! How much a JSON text would take when it is read.

/// About how many values a JSON text has: each takes many times its length in memory. No more than
/// a text of these bytes can have, and no fewer than it has.
pub fn json_values(text: &[u8]) -> usize {
    let (mut values, mut in_string, mut escaped) = (1, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => values += 1,
            _ => {}
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_and_texts_are_not_read() {
        for (text, values) in [
            ("", 1),
            ("{}", 2),
            (r#"{"a":1,"b":[1,2,3]}"#, 6),
            (r#""a,b{[\",,""#, 1),
            (r#"["\\",1]"#, 3),
            ("[[[[", 5),
        ] {
            assert_eq!(json_values(text.as_bytes()), values, "{text}");
        }
    }
}
