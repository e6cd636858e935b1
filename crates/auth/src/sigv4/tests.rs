//! Requests signed by botocore with the published example key, and AWS' published vectors.

use hearth_api::AccountId;
use jiff::Timestamp;

use super::credentials::{Credential, Lookup};
use super::*;

const HOST: (&str, &[u8]) = ("host", b"127.0.0.1:9400");
const DATE: (&str, &[u8]) = ("X-Amz-Date", b"20260102T030405Z");
const NOW: &str = "2026-01-02T03:04:05Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn lookup(access_key: &str) -> Lookup {
    let secret = match access_key {
        "AKIDEXAMPLE" => "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "AKIAIOSFODNN7EXAMPLE" => "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        _ => return Err(Denial::UnknownAccessKey),
    };
    let account = AccountId::from_stored("000000000000");
    Ok(Credential { secret: secret.to_owned(), account, session_token: None })
}

fn authorization(service: &str, signed: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-east-1/{service}/aws4_request, \
         SignedHeaders={signed}, Signature={signature}"
    )
}

/// A botocore-signed POST of RunMicrovm.
fn run_microvm(
    check: impl FnOnce(&mut SignedRequest<'_>) -> Result<Identity, Denial>,
) -> Result<Identity, Denial> {
    let authorization = authorization(
        "lambda",
        "content-type;host;x-amz-date",
        "54df526fd4ca0d7fd4d05d3f8ce23ce6acbd69a45ccd60ee680299d5d8599dc5",
    );
    let headers =
        [HOST, DATE, ("Content-Type", b"application/json"), ("Authorization", authorization.as_bytes())];
    check(&mut SignedRequest {
        method: "POST",
        path: "/2025-09-09/microvms",
        query: "",
        headers: &headers,
        body: br#"{"imageIdentifier": "x"}"#,
    })
}

#[test]
fn published_vectors_verify() {
    for (method, query, signature) in [
        ("GET", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "GET",
            "Param2=value2&Param1=value1",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
    ] {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature={signature}"
        );
        let headers: [(&str, &[u8]); 3] = [
            ("Host", b"example.amazonaws.com"),
            ("X-Amz-Date", b"20150830T123600Z"),
            ("Authorization", authorization.as_bytes()),
        ];
        let request = SignedRequest { method, path: "/", query, headers: &headers, body: b"" };
        let identity =
            verify(&request, "service", at("2015-08-30T12:36:00Z"), &SigningKeys::default(), lookup).unwrap();
        assert_eq!(identity.access_key, "AKIDEXAMPLE");
        assert_eq!(identity.region, "us-east-1");
    }
}

#[test]
fn the_presigned_example_of_the_s3_guide_verifies_until_it_expires() {
    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1\
        %2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
        &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let headers: [(&str, &[u8]); 1] = [("Host", b"examplebucket.s3.amazonaws.com")];
    let request = SignedRequest { method: "GET", path: "/test.txt", query, headers: &headers, body: b"" };
    assert!(verify(&request, "s3", at("2013-05-24T23:59:00Z"), &SigningKeys::default(), lookup).is_ok());
    assert!(matches!(
        verify(&request, "s3", at("2013-05-25T00:00:01Z"), &SigningKeys::default(), lookup),
        Err(Denial::Expired(_))
    ));
    assert!(matches!(
        verify(&request, "s3", at("2013-05-23T23:54:00Z"), &SigningKeys::default(), lookup),
        Err(Denial::NotYetCurrent(_))
    ));
}

#[test]
fn an_arn_in_the_path_verifies_however_the_colons_travel() {
    let authorization = authorization(
        "lambda",
        "host;x-amz-date",
        "31227860e7716fd71e13beaa418420ecef82acf512b58763af90291011da953f",
    );
    let headers = [HOST, DATE, ("Authorization", authorization.as_bytes())];
    let plain = "/2025-09-09/microvm-images/arn:aws:lambda:us-east-1:000000000000:microvm-image:my-app";
    for path in [plain.to_owned(), plain.replace(':', "%3A")] {
        let request = SignedRequest { method: "GET", path: &path, query: "", headers: &headers, body: b"" };
        assert!(verify(&request, "lambda", at(NOW), &SigningKeys::default(), lookup).is_ok(), "{path}");
    }
    let other = plain.replace("my-app", "my-ap");
    let request = SignedRequest { method: "GET", path: &other, query: "", headers: &headers, body: b"" };
    assert_eq!(verify(&request, "lambda", at(NOW), &SigningKeys::default(), lookup), Err(Denial::Mismatch));
}

#[test]
fn botocore_requests_to_logs_and_s3_verify() {
    let logs = authorization(
        "logs",
        "content-type;host;x-amz-date;x-amz-target",
        "e39eb629309aa79273fc48c03397b8b2378aeb60afebb795cbc16b640cedd88f",
    );
    let headers = [
        HOST,
        DATE,
        ("Authorization", logs.as_bytes()),
        ("X-Amz-Target", b"Logs_20140328.DescribeLogGroups"),
        ("Content-Type", b"application/x-amz-json-1.1"),
    ];
    let request = SignedRequest { method: "POST", path: "/", query: "", headers: &headers, body: b"{}" };
    assert!(verify(&request, "logs", at(NOW), &SigningKeys::default(), lookup).is_ok());

    let s3 = authorization(
        "s3",
        "host;x-amz-content-sha256;x-amz-date",
        "867c6c5888ca8976aa83d77a1cd2f0ea7848b6aa44932bf595b8bec1b36c6fe4",
    );
    let hash = b"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let headers = [HOST, DATE, ("x-amz-content-sha256", hash), ("Authorization", s3.as_bytes())];
    let path = "/bucket/a%20b%3Ac/%C3%A9.txt";
    let request = SignedRequest { method: "PUT", path, query: "", headers: &headers, body: b"hello" };
    assert!(verify(&request, "s3", at(NOW), &SigningKeys::default(), lookup).is_ok());
    let changed = SignedRequest { body: b"hellO", ..request };
    assert_eq!(verify(&changed, "s3", at(NOW), &SigningKeys::default(), lookup), Err(Denial::BodyMismatch));
}

#[test]
fn a_list_with_encoded_query_verifies() {
    let authorization = authorization(
        "lambda",
        "host;x-amz-date",
        "c2c386371d18b382bab07870c8240daa0b3a1b7273a90daf633ec687a897be59",
    );
    let headers = [HOST, DATE, ("Authorization", authorization.as_bytes())];
    let query =
        "nextToken=a%3D%3D&maxResults=5&imageIdentifier=arn%3Aaws%3Alambda%3Ar%3A0%3Amicrovm-image%3Ax";
    let request =
        SignedRequest { method: "GET", path: "/2025-09-09/microvms", query, headers: &headers, body: b"" };
    assert!(verify(&request, "lambda", at(NOW), &SigningKeys::default(), lookup).is_ok());
}

#[test]
fn every_signed_part_counts() {
    let verdict = |change: fn(&mut SignedRequest<'_>)| {
        run_microvm(|request| {
            change(request);
            verify(request, "lambda", at(NOW), &SigningKeys::default(), lookup)
        })
    };
    assert!(verdict(|_| ()).is_ok());
    assert_eq!(verdict(|r| r.method = "PUT"), Err(Denial::Mismatch));
    assert_eq!(verdict(|r| r.path = "/2025-09-09/microvm-images"), Err(Denial::Mismatch));
    assert_eq!(verdict(|r| r.query = "a=b"), Err(Denial::Mismatch));
    assert_eq!(verdict(|r| r.body = b"{}"), Err(Denial::Mismatch));
    assert_eq!(verdict(|r| r.headers = &r.headers[1..]), Err(Denial::Mismatch));
}

#[test]
fn the_clock_may_be_five_minutes_off_and_no_more() {
    let verdict = |now: &str| {
        run_microvm(|request| verify(request, "lambda", at(now), &SigningKeys::default(), lookup))
    };
    assert!(verdict("2026-01-02T03:09:05Z").is_ok());
    assert!(verdict("2026-01-02T02:59:05Z").is_ok());
    let expired = "20260102T030405Z is now earlier than 20260102T030406Z (20260102T030906Z - 5 min.)";
    assert_eq!(verdict("2026-01-02T03:09:06Z"), Err(Denial::Expired(expired.to_owned())));
    assert!(matches!(verdict("2026-01-02T02:59:04Z"), Err(Denial::NotYetCurrent(_))));
}

#[test]
fn unreadable_unknown_and_foreign_signatures_are_told_apart() {
    let verdict = |authorization: &str, service: &str| {
        let headers = [HOST, DATE, ("authorization", authorization.as_bytes())];
        let request = SignedRequest { method: "GET", path: "/", query: "", headers: &headers, body: b"" };
        verify(&request, service, at(NOW), &SigningKeys::default(), lookup)
    };
    for garbled in [
        "",
        "Basic dXNlcg==",
        "AWS4-HMAC-SHA256 Credential=x",
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-east-1/lambda, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, \
         Signature=0",
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-east-1/lambda/aws4_request, \
         SignedHeaders=x-amz-date, Signature=0",
    ] {
        assert!(matches!(verdict(garbled, "lambda"), Err(Denial::Incomplete(_))), "{garbled}");
    }
    let unknown = authorization("lambda", "host;x-amz-date", "00").replace("AKIDEXAMPLE", "AKIDOTHER");
    assert_eq!(verdict(&unknown, "lambda"), Err(Denial::UnknownAccessKey));
    let foreign = authorization("s3", "host;x-amz-date", "00");
    assert_eq!(verdict(&foreign, "lambda"), Err(Denial::WrongService { expected: "lambda".to_owned() }));

    let request = SignedRequest { method: "GET", path: "/", query: "", headers: &[HOST], body: b"" };
    assert_eq!(verify(&request, "lambda", at(NOW), &SigningKeys::default(), lookup), Err(Denial::Missing));
}

#[test]
fn what_we_sign_we_verify() {
    let scope = Scope {
        access_key: "AKIDEXAMPLE",
        secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        region: "us-east-1",
        service: "lambda",
    };
    let path = "/2025-09-09/microvm-images/arn:aws:lambda:us-east-1:0:microvm-image:x";
    let given = [HOST, ("Content-Type", b"application/json".as_slice())];
    let request = SignedRequest { method: "POST", path, query: "a=b%3D", headers: &given, body: b"{}" };
    let added = sign(&request, &scope, at(NOW));
    let mut headers = given.to_vec();
    headers.extend(added.iter().map(|(name, value)| (*name, value.as_bytes())));
    let signed = SignedRequest { headers: &headers, ..request };
    assert!(verify(&signed, "lambda", at(NOW), &SigningKeys::default(), lookup).is_ok());
}

#[test]
fn the_service_of_a_request_is_read_from_either_form() {
    let header = authorization("logs", "host", "00");
    assert_eq!(claimed_service(Some(&header), "").as_deref(), Some("logs"));
    let query = "X-Amz-Credential=AK%2F20260102%2Fus-east-1%2Fs3%2Faws4_request";
    assert_eq!(claimed_service(None, query).as_deref(), Some("s3"));
    assert_eq!(claimed_service(None, "prefix=a"), None);
}

/// A request for `logs` with these headers, signed without them.
fn with_unsigned(extra: &[(&'static str, &'static [u8])], presigned: bool) -> Result<Identity, Denial> {
    let mut headers = vec![HOST];
    let scope = Scope {
        access_key: "AKIDEXAMPLE",
        secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        region: "us-east-1",
        service: "logs",
    };
    let base = SignedRequest { method: "POST", path: "/", query: "", headers: &[HOST], body: b"{}" };
    let added = sign(&base, &scope, at(NOW));
    let query = if presigned {
        let parameters = "X-Amz-Algorithm=AWS4-HMAC-SHA256\
            &X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Fus-east-1%2Flogs%2Faws4_request\
            &X-Amz-Date=20260102T030405Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host";
        let claim = claim::ScopeRef { date: "20260102", region: "us-east-1", service: "logs" };
        let key = signing_key::derive(scope.secret, &claim);
        let unsigned = SignedRequest { query: parameters, ..base };
        let canonical =
            canonical::canonical_request(&unsigned, "/", &["host".to_owned()], &sha256_hex(base.body));
        let signature = signature(&key, &claim, "20260102T030405Z", &canonical);
        format!("{parameters}&X-Amz-Signature={signature}")
    } else {
        headers.extend(added.iter().map(|(name, value)| (*name, value.as_bytes())));
        String::new()
    };
    headers.extend(extra);
    let request = SignedRequest { headers: &headers, query: &query, ..base };
    verify(&request, "logs", at(NOW), &SigningKeys::default(), lookup)
}

#[test]
fn a_header_that_changes_a_request_must_be_signed_in_either_form() {
    for presigned in [false, true] {
        assert!(with_unsigned(&[], presigned).is_ok(), "{presigned}");
        let harmless: [(&str, &[u8]); 3] =
            [("User-Agent", b"x"), ("X-Amzn-Trace-Id", b"Root=1"), ("amz-sdk-request", b"attempt=1")];
        assert!(with_unsigned(&harmless, presigned).is_ok(), "{presigned}");
        for name in ["x-amz-target", "X-Amz-Meta-Owner", "x-amz-user-agent"] {
            let expected = Err(Denial::HeaderNotSigned(name.to_ascii_lowercase()));
            assert_eq!(with_unsigned(&[(name, b"v")], presigned), expected, "{presigned}");
        }
    }
}

/// The kind: a short request that a verifier makes a long one of. What is refused is refused
/// before anything is built.
#[test]
fn a_header_cannot_be_named_again_and_again() {
    let value = vec![b'v'; 30_000];
    let list = format!("host;x-amz-date{}", ";a".repeat(15_000));
    let header = authorization("logs", &list, "00");
    let query = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Fus-east-1%2Flogs%2Faws4_request\
         &X-Amz-Date=20260102T030405Z&X-Amz-Expires=60&X-Amz-Signature=00&X-Amz-SignedHeaders={list}"
    );
    let given: [&[_]; 2] =
        [&[HOST, DATE, ("a", &value), ("authorization", header.as_bytes())], &[HOST, ("a", &value)]];
    for (headers, query) in given.into_iter().zip(["", &query]) {
        let request = SignedRequest { method: "POST", path: "/", query, headers, body: b"" };
        for verdict in [
            verify(&request, "logs", at(NOW), &SigningKeys::default(), lookup).err(),
            check_head(&request, "logs", at(NOW), lookup).err(),
        ] {
            let Some(Denial::Incomplete(says)) = verdict else { panic!("{verdict:?}") };
            assert!(says.contains("SignedHeaders must not name more than 100 headers."), "{says}");
        }
    }
}
