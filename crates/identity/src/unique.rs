//! Identifiers and secrets that nobody can guess.

/// A unique id: four letters that tell what it is of, such as `AIDA`, and seventeen of A to Z and 2
/// to 7 (IAM user guide, "IAM identifiers").
pub fn unique_id(prefix: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut id = prefix.to_owned();
    for byte in rand::random::<[u8; 17]>() {
        id.push(char::from(ALPHABET[usize::from(byte % 32)]));
    }
    id
}

/// A secret access key: forty characters, 160 random bits.
pub fn secret() -> String {
    hex::encode(rand::random::<[u8; 20]>())
}
