use std::collections::HashSet;

use uuid::Uuid;

use super::*;

pub(super) const NOW: i64 = 1_800_000_000;

pub(super) fn key(byte: u8) -> TokenKey {
    TokenKey { kid: Uuid::from_bytes([byte; 16]), secret: [byte; 32] }
}

fn ring() -> TokenKeys {
    TokenKeys::new(key(1), vec![])
}

pub(super) fn microvm() -> MicrovmId {
    MicrovmId::from_stored("microvm-a")
}

pub(super) fn claims(ports: Vec<PortSpecification>) -> Claims {
    Claims { microvm: microvm(), ports, expires_at_seconds: NOW, kind: TokenKind::Http, revocations: 0 }
}

fn token() -> String {
    ring().issue(&claims(vec![PortSpecification::AllPorts {}])).unwrap()
}

fn judge(token: &str) -> Result<Claims, TokenError> {
    ring().open(token)
}

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// A token of these very bytes, sealed with the ring's key.
fn sealed(text: &str) -> String {
    let (ring, mut text) = (Ring::new(key(1), vec![]), text.as_bytes().to_vec());
    let (header, nonce, tag) = ring.newest().seal(&mut text);
    let [nonce, text, tag] = [&nonce[..], &text, &tag].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{header}..{nonce}.{text}.{tag}")
}

#[test]
fn a_token_opens_its_ports_of_its_microvm_until_it_expires() {
    let claims = claims(vec![
        PortSpecification::Port(8080),
        PortSpecification::Range { start_port: 9000, end_port: 9002 },
    ]);
    let found = judge(&ring().issue(&claims).unwrap()).unwrap();
    assert_eq!(found, claims);
    for (port, opens) in
        [(8079, false), (8080, true), (8081, false), (8999, false), (9000, true), (9002, true), (9003, false)]
    {
        assert_eq!(found.opens(port), opens, "{port}");
    }
    assert!(found.is_valid_at(NOW) && !found.is_valid_at(NOW + 1));
}

#[test]
fn the_form_is_that_of_the_service_and_the_length_tells_nothing() {
    let all = token();
    let some = Claims { revocations: 7, ..claims((1..10).map(PortSpecification::Port).collect()) };
    assert_eq!(all.len(), ring().issue(&some).unwrap().len());
    let parts: Vec<&str> = all.split('.').collect();
    assert_eq!((parts.len(), parts[1]), (5, ""));
    let header: serde_json::Value = serde_json::from_slice(&decode(parts[0])).unwrap();
    let expected = serde_json::json!({"kid": key(1).kid, "alg": "dir", "enc": "A256GCM"});
    assert_eq!(header, expected);
    let endless = (0..2000).map(PortSpecification::Port).collect();
    assert_eq!(ring().issue(&claims(endless)), Err(TokenError::TooManyPorts));
}

#[test]
fn a_change_of_any_character_is_noticed() {
    let token = token();
    assert!(judge(&token).is_ok());
    for position in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(judge(&changed).is_err(), "position {position}");
    }
}

#[test]
fn a_flipped_bit_in_nonce_text_or_tag_is_a_bad_tag() {
    let token = token();
    let parts: Vec<&str> = token.split('.').collect();
    for part in [2, 3, 4] {
        let mut bytes = decode(parts[part]);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let encoded = URL_SAFE_NO_PAD.encode(&bytes);
            let mut changed = parts.clone();
            changed[part] = &encoded;
            assert_eq!(judge(&changed.join(".")), Err(TokenError::BadTag), "part {part} bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn a_flipped_bit_in_the_header_is_refused() {
    let token = token();
    let (header, rest) = token.split_once('.').unwrap();
    let mut bytes = decode(header);
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let verdict = judge(&format!("{}.{rest}", URL_SAFE_NO_PAD.encode(&bytes)));
        // Hexadecimal digits of the key's id may be in upper case: then the tag tells.
        let refused =
            matches!(verdict, Err(TokenError::Malformed | TokenError::UnknownKey | TokenError::BadTag));
        assert!(refused, "bit {bit}: {verdict:?}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn other_headers_are_refused_before_anything_is_decrypted() {
    let token = token();
    let rest = token.split_once('.').unwrap().1;
    let kid = key(1).kid;
    for (header, expected) in [
        (format!(r#"{{"kid":"{kid}","alg":"A256KW","enc":"A256GCM"}}"#), TokenError::Malformed),
        (format!(r#"{{"kid":"{kid}","alg":"none","enc":"A256GCM"}}"#), TokenError::Malformed),
        (format!(r#"{{"kid":"{kid}","alg":"dir","enc":"A128GCM"}}"#), TokenError::Malformed),
        (format!(r#"{{"kid":"{kid}","alg":"dir","enc":"none"}}"#), TokenError::Malformed),
        (format!(r#"{{"kid":"{kid}","alg":"A256GCM","enc":"dir"}}"#), TokenError::Malformed),
        (format!(r#"{{"kid":"{kid}","alg":"dir","enc":"A256GCM","zip":"DEF"}}"#), TokenError::Malformed),
        (format!(r#"{{"kid":"{kid}","alg":"none","alg":"dir","enc":"A256GCM"}}"#), TokenError::Malformed),
        (format!(r#"{{"kid":"{kid}","alg":"dir"}}"#), TokenError::Malformed),
        (format!(r#"{{"kid":"{kid}","alg":"dir","enc":"A256GCM"}}{{}}"#), TokenError::Malformed),
        (String::new(), TokenError::Malformed),
        (format!(r#"{{"alg":"dir","enc":"A256GCM","kid":"{kid}"}}"#), TokenError::BadTag),
        (format!(r#"{{"kid":"{kid}","alg":"dir","enc":"A256GCM"}} "#), TokenError::BadTag),
        (format!(r#"{{"kid":"{}","alg":"dir","enc":"A256GCM"}}"#, key(2).kid), TokenError::UnknownKey),
        (
            format!(r#"{{"kid":"{kid}","alg":"dir","enc":"A256GCM"}}{}"#, " ".repeat(200)),
            TokenError::Malformed,
        ),
    ] {
        let changed = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(&header));
        assert_eq!(judge(&changed), Err(expected), "{header}");
    }
}

#[test]
fn what_is_not_five_strict_parts_is_malformed() {
    let token = token();
    let with_key = token.replacen("..", ".AAAA.", 1);
    let [header, _, nonce, text, tag] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    for bad in [
        "banana",
        "....",
        ".....",
        &token[..token.len() - 1],
        &format!("{token}="),
        &format!("{token}."),
        &format!(".{token}"),
        &format!(" {token}"),
        &with_key,
        &format!("{header}...{text}.{tag}"),
        &format!("{header}..{nonce}.{text}."),
        &format!("{header}..{nonce}A.{text}.{tag}"),
        &format!("{header}..{nonce}.{text}.{tag}AAAA"),
        &format!("{header}..{tag}.{text}.{nonce}"),
        &format!("{header}..{nonce}.{}.{tag}", &text[..text.len() - 2].replace('A', "+")),
        &format!("{header}..{nonce}.é.{tag}"),
    ] {
        assert_eq!(judge(bad), Err(TokenError::Malformed), "{bad}");
    }
    assert_eq!(judge(&format!("{header}..{nonce}..{tag}")), Err(TokenError::BadTag), "nothing is sealed");
}

#[test]
fn every_beginning_of_a_token_is_refused() {
    let token = token();
    for end in 0..token.len() {
        assert_eq!(judge(&token[..end]), Err(TokenError::Malformed), "{end} characters");
    }
}

#[test]
fn huge_parts_are_refused_unread() {
    let token = token();
    let [header, _, nonce, text, tag] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    let huge = "A".repeat(MAXIMUM_TOKEN_LENGTH);
    for bad in [
        huge.clone() + "A",
        format!("{huge}..{nonce}.{text}.{tag}"),
        format!("{header}..{huge}.{text}.{tag}"),
        format!("{header}..{nonce}.{huge}.{tag}"),
        format!("{header}..{nonce}.{text}.{huge}"),
        // Within the limit of the whole, beyond that of the part.
        format!("{}..{nonce}.{text}.{tag}", "A".repeat(300)),
        format!("{header}..{}.{text}.{tag}", "A".repeat(300)),
        format!("{header}..{nonce}.{text}.{}", "A".repeat(300)),
    ] {
        assert_eq!(judge(&bad), Err(TokenError::Malformed), "{} characters", bad.len());
    }
    let full = "A".repeat(6000);
    assert_eq!(judge(&format!("{header}..{nonce}.{full}.{tag}")), Err(TokenError::BadTag));
}

#[test]
fn claims_of_another_form_are_malformed() {
    let exp = NOW;
    let good = format!(r#"{{"vm":"microvm-a","ports":[{{"allPorts":{{}}}}],"exp":{exp},"kind":"http"}}"#);
    assert!(judge(&sealed(&good)).is_ok(), "a token of before there were revocations");
    for bad in [
        String::new(),
        "null".to_owned(),
        good.replace("}],", r#"}],"ports":[],"#),
        good.replace(r#","kind":"http""#, ""),
        good.replace("http", "ftp"),
        good.replace(r#""kind""#, r#""vm":"microvm-b","kind""#),
        good.replace(r#""kind""#, r#""aud":"x","kind""#),
        good.replace(r#""kind""#, r#""rev":-1,"kind""#),
        good.replace(r#"{"allPorts":{}}"#, r#"{"port":70000}"#),
        good.clone() + "x",
    ] {
        assert_eq!(judge(&sealed(&bad)), Err(TokenError::Malformed), "{bad}");
    }
}

#[test]
fn older_keys_still_read_and_foreign_secrets_do_not() {
    let token = token();
    let rotated = TokenKeys::new(key(2), vec![key(1)]);
    assert!(rotated.open(&token).is_ok());
    let foreign = TokenKeys::new(TokenKey { kid: key(1).kid, secret: [9; 32] }, vec![]);
    assert_eq!(foreign.open(&token), Err(TokenError::BadTag));
}

#[test]
fn keys_change_under_way_and_derived_ones_stay() {
    let keys = TokenKeys::with_root([5; 32], key(1), vec![]);
    let (old, derived) =
        (keys.issue(&claims(vec![PortSpecification::AllPorts {}])).unwrap(), keys.derive("a"));
    let verdict = |token: &str| keys.open(token);
    keys.replace(key(2), vec![key(1)]);
    let new = keys.issue(&claims(vec![PortSpecification::AllPorts {}])).unwrap();
    assert!(verdict(&old).is_ok() && verdict(&new).is_ok());
    assert_eq!(judge(&new), Err(TokenError::UnknownKey));
    keys.replace(key(2), vec![]);
    assert_eq!(verdict(&old), Err(TokenError::UnknownKey));
    assert!(verdict(&new).is_ok());
    assert_eq!(keys.derive("a"), derived);
    assert_ne!(keys.derive("b"), derived);
}

#[test]
fn a_revocation_ends_what_was_made_before_it() {
    let keys = ring();
    let made = |revocations| {
        keys.issue(&Claims { revocations, ..claims(vec![PortSpecification::Port(8080)]) }).unwrap()
    };
    let verdict = |token: &str| keys.open(token).err();
    let before = made(0);
    keys.revoke(&MicrovmId::from_stored("microvm-b"), 9, NOW);
    assert_eq!(verdict(&before), None);
    keys.revoke(&microvm(), 1, NOW);
    let between = made(1);
    assert_eq!(verdict(&before), Some(TokenError::Revoked));
    assert_eq!(verdict(&between), None);
    keys.revoke(&microvm(), 2, NOW);
    keys.revoke(&microvm(), 1, NOW);
    assert_eq!(verdict(&between), Some(TokenError::Revoked));
    assert_eq!(verdict(&made(2)), None);
    // It is remembered until the last of those tokens has expired.
    keys.revoke(&MicrovmId::from_stored("microvm-c"), 1, NOW + LONGEST_LIFE_SECONDS);
    assert_eq!(verdict(&between), Some(TokenError::Revoked));
    let later = NOW + LONGEST_LIFE_SECONDS + REVOCATION_MARGIN_SECONDS + 1;
    keys.revoke(&MicrovmId::from_stored("microvm-c"), 2, later);
    assert_eq!(keys.revoked.load().len(), 1);
}

#[test]
fn no_nonce_is_used_twice() {
    let (keys, claims) = (ring(), claims(vec![PortSpecification::AllPorts {}]));
    let nonce = |_| keys.issue(&claims).unwrap().split('.').nth(2).unwrap().to_owned();
    let nonces: HashSet<String> = (0..10_000).map(nonce).collect();
    assert_eq!(nonces.len(), 10_000);
}

/// Only what the ring has sealed is ever read.
#[test]
fn fuzz_tokens() {
    let (keys, good) = (ring(), token());
    bolero::check!().for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        assert!(keys.open(&text).is_err(), "{text}");
        // The same in the place of each part of a good token.
        for part in 0..5 {
            let mut parts: Vec<&str> = good.split('.').collect();
            if parts[part] != text {
                parts[part] = &text;
                let mixed = parts.join(".");
                assert!(keys.open(&mixed).is_err(), "{mixed}");
            }
        }
    });
}
