//! What is accepted as a policy, and what refusals say.

use hearth_iam::{Document, DocumentKind, PolicyError};
use serde_json::{Value, json};

use crate::support::policy;

fn refusal(text: &str, kind: DocumentKind) -> String {
    match Document::parse(text, kind, 6_144) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

/// A statement that allows everything, with these members set or, if null, removed.
fn statement(changes: &Value) -> Value {
    let mut statement = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            statement.as_object_mut().unwrap().remove(name);
        } else {
            statement[name] = value.clone();
        }
    }
    statement
}

fn accepts(kind: DocumentKind, changes: &Value) {
    let text = policy(&statement(changes)).to_string();
    if let Err(error) = Document::parse(&text, kind, 6_144) {
        panic!("{error}: {text}");
    }
}

/// Refused as the second statement, after one that is well-formed.
fn refuses(kind: DocumentKind, changes: &Value, expected: &str) {
    let first = match kind {
        DocumentKind::Identity => json!({}),
        DocumentKind::Resource => json!({"Principal": "*"}),
        DocumentKind::Trust => json!({"Principal": "*", "Resource": null, "Action": "sts:AssumeRole"}),
    };
    let sentence = refusal(&policy(&json!([statement(&first), statement(changes)])).to_string(), kind);
    assert!(sentence.starts_with("Statement 2: ") && sentence.ends_with('.'), "{sentence}");
    assert!(sentence.contains(expected), "{sentence}");
}

#[test]
fn the_usual_forms_are_accepted() {
    for changes in [
        json!({}),
        json!({"Sid": ""}),
        json!({"Sid": "Everything1"}),
        json!({"Action": ["lambda:Run*", "s3:Get?bject", "*:*"]}),
        json!({"Action": null, "NotAction": "iam:*"}),
        json!({"Resource": null, "NotResource": ["arn:aws:s3:::secret/*"]}),
        json!({"Resource": "arn:aws:lambda:*"}),
        json!({"Resource": "arn:*:s3:::${aws:username}"}),
        json!({"Resource": "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1"}),
        json!({"Condition": {}}),
        json!({"Condition": {"Bool": {"aws:SecureTransport": true}, "NumericLessThan": {"a:b": [1, "2.5", -3]}}}),
    ] {
        accepts(DocumentKind::Identity, &changes);
    }
    for principal in [
        json!("*"),
        json!({"AWS": "*"}),
        json!({"AWS": ["111122223333", "arn:aws:iam::111122223333:root"]}),
        json!({"AWS": "arn:aws:iam::111122223333:user/division/ann"}),
        json!({"AWS": "arn:aws:iam::111122223333:role/x", "Service": ["lambda.amazonaws.com"]}),
        json!({"AWS": "arn:aws:sts::111122223333:assumed-role/x/session"}),
    ] {
        accepts(DocumentKind::Resource, &json!({"Principal": principal}));
        accepts(
            DocumentKind::Trust,
            &json!({"Principal": principal, "Resource": null, "Action": "sts:AssumeRole"}),
        );
    }
    let sentence = json!({"Principal": "*", "Sid": "Allow GET requests originating from www.example.com."});
    accepts(DocumentKind::Resource, &sentence);
    accepts(DocumentKind::Resource, &json!({"NotPrincipal": {"AWS": "111122223333"}, "Effect": "Deny"}));
}

#[test]
fn statements_are_refused_with_what_would_be_right() {
    let identity = DocumentKind::Identity;
    refuses(identity, &json!({"Effect": "allow"}), "\"Allow\" or \"Deny\"");
    refuses(identity, &json!({"Effect": null}), "\"Allow\" or \"Deny\"");
    refuses(identity, &json!({"Efect": "Deny"}), "no element \"Efect\"");
    refuses(identity, &json!({"Sid": "a b"}), "letters and digits");
    refuses(identity, &json!({"Action": null}), "an Action or a NotAction");
    refuses(identity, &json!({"NotAction": "a:b"}), "both Action and NotAction");
    refuses(identity, &json!({"Action": []}), "empty list");
    refuses(identity, &json!({"Action": 5}), "not a number");
    for action in
        ["", "Run", "lambda:", ":Run", "lambda:a:b", "l*:Run", "lambda:${aws:username}", "lambda:Run Microvm"]
    {
        refuses(identity, &json!({"Action": action}), "such as \"lambda:RunMicrovm\"");
    }
    refuses(identity, &json!({"Resource": null}), "a Resource or a NotResource");
    for resource in
        ["", "app", "arn", "arn:aws:*", "arn:aws:lam*:r:a:b", "arn:aws:lambda:us-east-1", "**", "${aws:x}"]
    {
        refuses(identity, &json!({"Resource": resource}), "must be \"*\" or an ARN");
    }
    refuses(identity, &json!({"Resource": "arn:aws:s3:::${user}"}), "malformed policy variable");
    refuses(identity, &json!({"Principal": "*"}), "must not have a Principal");
}

#[test]
fn principals_are_refused_with_what_would_be_right() {
    let resource = DocumentKind::Resource;
    refuses(resource, &json!({}), "must have a Principal");
    refuses(resource, &json!({"Principal": "111122223333"}), "Principal must be \"*\" or an object");
    refuses(resource, &json!({"Principal": {}}), "Principal must be \"*\" or an object");
    refuses(resource, &json!({"Principal": {"Federated": "x"}}), "type \"Federated\" is not supported");
    for principal in [
        "ann",
        "1111",
        "arn:aws:iam::111122223333:user/*",
        "arn:aws:iam::111122223333:user",
        "arn:aws:iam::111122223333:group/x",
        "arn:aws:sts::111122223333:assumed-role/x",
        "arn:aws:iam::x:root",
    ] {
        refuses(resource, &json!({"Principal": {"AWS": principal}}), "12 digits");
    }
    refuses(resource, &json!({"Principal": {"Service": "*"}}), "such as \"lambda.amazonaws.com\"");
    refuses(
        resource,
        &json!({"NotPrincipal": {"AWS": "111122223333"}}),
        "must not be used with the Effect \"Allow\"",
    );
    refuses(resource, &json!({"NotPrincipal": "*", "Effect": "Deny"}), "leaves nobody");
    let trust = DocumentKind::Trust;
    refuses(trust, &json!({"Principal": "*", "Action": "sts:AssumeRole"}), "must not have a Resource");
    refuses(trust, &json!({"Principal": "*", "Resource": null, "Action": "*"}), "must be one of STS");
}

#[test]
fn conditions_are_refused_with_what_would_be_right() {
    for (condition, expected) in [
        (json!([]), "must be an object of operators, not a list"),
        (json!({"StringEquals": "x"}), "must be an object of keys and values"),
        (json!({"stringEquals": {"aws:x": "y"}}), "operator \"stringEquals\" is not supported"),
        (json!({"BinaryEquals": {"aws:x": "y"}}), "operator \"BinaryEquals\" is not supported"),
        (json!({"ForEachValue:StringEquals": {"aws:x": "y"}}), "not supported"),
        (json!({"StringEqualsIfExistsIfExists": {"aws:x": "y"}}), "not supported"),
        (json!({"NumericLike": {"aws:x": "1"}}), "not supported"),
        (json!({"NullIfExists": {"aws:x": "true"}}), "must be just \"Null\""),
        (json!({"ForAnyValue:Null": {"aws:x": "true"}}), "must be just \"Null\""),
        (json!({"StringEquals": {"username": "y"}}), "must have a prefix"),
        (json!({"StringEquals": {"aws:x": []}}), "empty list"),
        (json!({"StringEquals": {"aws:x": {}}}), "not an object"),
        (json!({"StringEquals": {"aws:x": [null]}}), "not null"),
        (json!({"StringEquals": {"aws:x": "${oops"}}), "malformed policy variable"),
        (json!({"Bool": {"aws:x": "yes"}}), "\"true\" or \"false\""),
        (json!({"Null": {"aws:x": 1}}), "\"true\" or \"false\""),
        (json!({"NumericEquals": {"aws:x": "five"}}), "a number such as"),
        (json!({"NumericEquals": {"aws:x": "NaN"}}), "a number such as"),
        (json!({"NumericEquals": {"aws:x": "${aws:y}"}}), "a number such as"),
        (json!({"DateEquals": {"aws:x": "yesterday"}}), "a date such as"),
        (json!({"DateEquals": {"aws:x": "2026"}}), "a date such as"),
        (json!({"IpAddress": {"aws:x": "10.0.0.0/33"}}), "an IP address or range"),
        (json!({"IpAddress": {"aws:x": "10.0.0/8"}}), "an IP address or range"),
        (json!({"IpAddress": {"aws:x": "::1/+8"}}), "an IP address or range"),
        (json!({"ArnLike": {"aws:x": "arn:aws:s3:*"}}), "must have six parts"),
    ] {
        refuses(DocumentKind::Identity, &json!({"Condition": condition}), expected);
    }
}

#[test]
fn what_is_around_the_statements_is_checked_too() {
    for (text, expected) in [
        ("", "not well-formed JSON"),
        ("{", "not well-formed JSON"),
        ("[]", "A policy must be a JSON object, not a list."),
        ("{}", "must have a Statement"),
        (r#"{"Statement": []}"#, "must have a Statement"),
        (r#"{"Version": "2012-10-18", "Statement": {}}"#, "Version must be"),
        (r#"{"Id": 1, "Statement": {}}"#, "Id must be a string"),
        (r#"{"Statements": {}}"#, "no element \"Statements\""),
        (r#"{"Statement": "x"}"#, "Statement 1: A statement must be an object, not a string."),
        (r#"{"Statement": {"Effect": "Deny", "Effect": "Allow"}}"#, "\"Effect\" appears twice"),
    ] {
        let sentence = refusal(text, DocumentKind::Identity);
        assert!(sentence.contains(expected) && sentence.ends_with('.'), "{sentence}");
    }
    let twice =
        policy(&json!([statement(&json!({"Sid": "A"})), statement(&json!({"Sid": "A"}))])).to_string();
    assert!(refusal(&twice, DocumentKind::Identity).contains("The Sid \"A\" is used twice"));
    let deep = format!("{{\"Statement\": {}", "[".repeat(100_000));
    assert!(refusal(&deep[..6_000], DocumentKind::Identity).contains("recursion limit"));
}

#[test]
fn white_space_does_not_count_towards_the_limit() {
    let text = policy(&statement(&json!({}))).to_string();
    let spaced = text.replace(',', ",\n    ");
    assert!(Document::parse(&spaced, DocumentKind::Identity, text.len()).is_ok());
    let error = Document::parse(&text, DocumentKind::Identity, text.len() - 1).unwrap_err();
    assert_eq!(error, PolicyError::TooLong { length: text.len(), limit: text.len() - 1 });
}

/// The kind: white space counts for nothing, so it must be bounded apart.
#[test]
fn white_space_is_bounded_in_bytes() {
    let with = |spaces: usize| {
        format!(
            r#"{{"Statement":{{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::{}"}}}}"#,
            " ".repeat(spaces)
        )
    };
    let parse = |text: &str| Document::parse(text, DocumentKind::Identity, 100);
    let bare = with(0).len();
    assert_eq!(Document::longest(100), 400);
    assert!(parse(&with(400 - bare)).is_ok());
    let error = parse(&with(401 - bare)).unwrap_err();
    assert_eq!(error, PolicyError::TooManyBytes { bytes: 401, limit: 400 });
    assert!(error.to_string().contains("401 bytes with its white space; at most 400"), "{error}");
    assert!(
        Document::parse(&with(100_000), DocumentKind::Identity, usize::MAX).is_ok(),
        "what is stored is read"
    );
}
