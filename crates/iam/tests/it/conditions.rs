//! Each condition operator, on values and on none.

use hearth_iam::{Policies, evaluate};
use serde_json::{Value, json};

use crate::support::{identity, run};

/// Whether a condition holds for a request whose key `t:k` has these values.
fn holds(operator: &str, expected: &Value, actual: &[&str]) -> bool {
    let document = identity(&json!({
        "Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {operator: {"T:K": expected}}
    }));
    let request = run().with("t:k", actual.iter().copied());
    evaluate(&Policies { identity: vec![&document], ..Policies::default() }, &request).is_allowed()
}

/// The operator, `expected` and `actual` as said; the negated operator, if any, the other way
/// round; both for a missing key, with and without IfExists.
fn check(operator: &str, negated: Option<&str>, cases: &[(Value, &str, bool)]) {
    for (expected, actual, result) in cases {
        assert_eq!(holds(operator, expected, &[actual]), *result, "{operator} {expected} {actual}");
        assert!(!holds(operator, expected, &[]), "{operator} {expected}");
        assert!(holds(&format!("{operator}IfExists"), expected, &[]));
        assert_eq!(holds(&format!("{operator}IfExists"), expected, &[actual]), *result);
        if let Some(negated) = negated {
            assert_eq!(holds(negated, expected, &[actual]), !*result, "{negated} {expected} {actual}");
            assert!(holds(negated, expected, &[]), "{negated} {expected}");
            assert!(holds(&format!("{negated}IfExists"), expected, &[]));
        }
    }
}

#[test]
fn strings() {
    check(
        "StringEquals",
        Some("StringNotEquals"),
        &[
            (json!("red"), "red", true),
            (json!("red"), "Red", false),
            (json!(["red", "blue"]), "blue", true),
            (json!("r*"), "red", false),
            (json!("r*"), "r*", true),
            (json!(5), "5", true),
            (json!("${aws:username}"), "ann", true),
            (json!("${aws:username}"), "bob", false),
            (json!("${aws:PrincipalTag/none}"), "", false),
            (json!("${aws:PrincipalTag/none, 'red'}"), "red", true),
        ],
    );
    check(
        "StringEqualsIgnoreCase",
        Some("StringNotEqualsIgnoreCase"),
        &[(json!("RED"), "red", true), (json!("straße"), "STRAßE", true), (json!("re*"), "red", false)],
    );
    check(
        "StringLike",
        Some("StringNotLike"),
        &[
            (json!("home/${aws:username}/*"), "home/ann/x", true),
            (json!("home/${aws:username}/*"), "home/bob/x", false),
            (json!("r?d"), "red", true),
            (json!("r?d"), "RED", false),
            (json!("r${?}d"), "red", false),
            (json!("r${*}d"), "r*d", true),
        ],
    );
}

#[test]
fn arns() {
    let arn = "arn:aws:lambda:us-east-1:111122223333:microvm-image:app";
    for (operator, negated) in [("ArnEquals", "ArnNotEquals"), ("ArnLike", "ArnNotLike")] {
        check(
            operator,
            Some(negated),
            &[
                (json!(arn), arn, true),
                (json!("arn:aws:lambda:*:111122223333:microvm-image:*"), arn, true),
                (json!("arn:aws:lambda:us-east-?:*:*"), arn, true),
                (json!("arn:aws:lambda:*:${aws:PrincipalAccount}:*"), arn, true),
                (json!("arn:aws:*:*:microvm-image:app:*"), arn, false),
                (json!("arn:aws:lambda:*:*:*"), "not an ARN", false),
                (json!("${aws:PrincipalArn}"), "arn:aws:iam::111122223333:user/ann", true),
            ],
        );
    }
}

#[test]
fn booleans() {
    check(
        "Bool",
        None,
        &[
            (json!("true"), "true", true),
            (json!(true), "TRUE", true),
            (json!("false"), "true", false),
            (json!("false"), "no", false),
            (json!(["true", "false"]), "false", true),
        ],
    );
}

#[test]
fn null_asks_whether_a_key_is_missing() {
    assert!(holds("Null", &json!("true"), &[]));
    assert!(!holds("Null", &json!("false"), &[]));
    assert!(holds("Null", &json!(false), &["x"]));
    assert!(!holds("Null", &json!("true"), &["x"]));
    assert!(holds("Null", &json!("true"), &[""]));
}

#[test]
fn numbers() {
    check(
        "NumericEquals",
        Some("NumericNotEquals"),
        &[
            (json!(5), "5.0", true),
            (json!("5"), "6", false),
            (json!([1, 2]), "2", true),
            (json!(5), "five", false),
        ],
    );
    for (operator, below, same, above) in [
        ("NumericLessThan", true, false, false),
        ("NumericLessThanEquals", true, true, false),
        ("NumericGreaterThan", false, false, true),
        ("NumericGreaterThanEquals", false, true, true),
    ] {
        let cases = [(json!(10), "9.5", below), (json!(10), "10", same), (json!("10"), "100", above)];
        check(operator, None, &cases);
        assert!(!holds(operator, &json!(0), &["inf"]));
    }
}

#[test]
fn dates() {
    check(
        "DateEquals",
        Some("DateNotEquals"),
        &[
            (json!("2026-01-31T00:00:00Z"), "2026-01-31T01:00:00+01:00", true),
            (json!("2026-01-31"), "2026-01-31T00:00:00Z", true),
            (json!("2026-01-31T00:00Z"), "2026-01-31T00:00:00.000Z", true),
            (json!("2026-01-31"), "2026-01-31T00:00:01Z", false),
            (json!(1_769_817_600), "2026-01-31T00:00:00Z", true),
            (json!("2026-01-31"), "1769817600", true),
            (json!("2026-01-31"), "soon", false),
        ],
    );
    for (operator, before, same, after) in [
        ("DateLessThan", true, false, false),
        ("DateLessThanEquals", true, true, false),
        ("DateGreaterThan", false, false, true),
        ("DateGreaterThanEquals", false, true, true),
    ] {
        let limit = json!("2026-01-31T00:00:00Z");
        check(
            operator,
            None,
            &[
                (limit.clone(), "2026-01-30T23:59:59Z", before),
                (limit.clone(), "2026-01-31T00:00:00Z", same),
                (limit, "2026-02-01", after),
            ],
        );
    }
}

#[test]
fn ip_addresses() {
    check(
        "IpAddress",
        Some("NotIpAddress"),
        &[
            (json!("203.0.113.0/24"), "203.0.113.255", true),
            (json!("203.0.113.0/24"), "203.0.114.0", false),
            (json!("203.0.113.77/24"), "203.0.113.1", true),
            (json!("203.0.113.7"), "203.0.113.7", true),
            (json!("203.0.113.7"), "203.0.113.8", false),
            (json!("0.0.0.0/0"), "198.51.100.1", true),
            (json!("0.0.0.0/0"), "2001:db8::1", false),
            (json!("203.0.113.0/24"), "::ffff:203.0.113.9", true),
            (json!("2001:db8::/32"), "2001:db8:ffff::1", true),
            (json!("2001:db8::/32"), "2001:db9::1", false),
            (json!("::/0"), "2001:db8::1", true),
            (json!("::/0"), "203.0.113.9", false),
            (json!(["10.0.0.0/8", "2001:db8::1"]), "2001:db8::1", true),
            (json!("10.0.0.0/8"), "10.0.0.0/8", false),
        ],
    );
}

#[test]
fn set_operators() {
    let colours = json!(["red", "blue"]);
    for (actual, all, any, all_not, any_not) in [
        (&["red"][..], true, true, false, false),
        (&["red", "blue"], true, true, false, false),
        (&["red", "green"], false, true, false, true),
        (&["green", "black"], false, false, true, true),
        (&[], true, false, true, false),
        (&[""], true, false, true, false),
    ] {
        assert_eq!(holds("ForAllValues:StringEquals", &colours, actual), all, "{actual:?}");
        assert_eq!(holds("ForAnyValue:StringEquals", &colours, actual), any, "{actual:?}");
        assert_eq!(holds("ForAllValues:StringNotEquals", &colours, actual), all_not, "{actual:?}");
        assert_eq!(holds("ForAnyValue:StringNotEquals", &colours, actual), any_not, "{actual:?}");
    }
    assert!(holds("ForAnyValue:StringEqualsIfExists", &colours, &[]));
    assert!(!holds("ForAnyValue:StringEqualsIfExists", &colours, &["green"]));
    assert!(holds("ForAllValues:NumericLessThan", &json!(10), &["1", "9"]));
    assert!(!holds("ForAllValues:NumericLessThan", &json!(10), &["1", "10"]));
}

#[test]
fn without_a_set_operator_several_values_count_as_any_or_none() {
    let red = json!("red");
    assert!(holds("StringEquals", &red, &["green", "red"]));
    assert!(!holds("StringNotEquals", &red, &["green", "red"]));
    assert!(holds("StringNotEquals", &red, &["green", "blue"]));
}

#[test]
fn all_conditions_of_a_statement_must_hold() {
    let document = identity(&json!({
        "Effect": "Allow", "Action": "*", "Resource": "*",
        "Condition": {
            "StringEquals": {"t:a": "1", "t:b": "2"},
            "IpAddress": {"aws:SourceIp": "10.0.0.0/8"},
        }
    }));
    let policies = Policies { identity: vec![&document], ..Policies::default() };
    let request = run().with("T:A", ["1"]).with("t:b", ["2"]).with("aws:sourceip", ["10.1.2.3"]);
    assert!(evaluate(&policies, &request).is_allowed());
    assert!(!evaluate(&policies, &request.clone().with("t:a", ["2"])).is_allowed());
    assert!(!evaluate(&policies, &request.clone().with("aws:SourceIp", ["11.1.2.3"])).is_allowed());
    assert!(!evaluate(&policies, &request.with("t:b", Vec::<String>::new())).is_allowed());
}
