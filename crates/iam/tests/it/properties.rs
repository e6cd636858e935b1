//! Random small policies and requests: both evaluators agree, and the rules that
//! must always hold do.

use std::collections::BTreeMap;

use hearth_iam::{
    Decision, Document, DocumentKind, Policies, PolicyType, Principal, Request, evaluate, evaluate_trust,
};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::oracle::{Asked, decide};
use crate::support::{
    ACCOUNT, IMAGE, OTHER_ACCOUNT, ROLE, RUN, identity, policy, root_of, service, session, trust, user,
    user_of,
};

const FAMILIES: [(&[&str], &[&str]); 6] = [
    (
        &[
            "StringEquals",
            "StringNotEquals",
            "StringEqualsIgnoreCase",
            "StringNotEqualsIgnoreCase",
            "StringLike",
            "StringNotLike",
        ],
        &[
            "a",
            "A",
            "b",
            "ab",
            "a*",
            "*",
            "?",
            "a?",
            "",
            "${t:One}",
            "${t:none}",
            "${t:none, 'a*'}",
            "${*}",
            "a${?}",
            "${t:many}",
        ],
    ),
    (
        &["ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"],
        &[
            "arn:aws:s3:::a",
            "arn:aws:s3:::*",
            "arn:*:*:*:*:a?b",
            "*:*:*:*:*:*",
            "${t:one}",
            "arn:aws:s3:::${t:one}",
        ],
    ),
    (&["Bool", "Null"], &["true", "false", "TRUE"]),
    (
        &[
            "NumericEquals",
            "NumericNotEquals",
            "NumericLessThan",
            "NumericLessThanEquals",
            "NumericGreaterThan",
            "NumericGreaterThanEquals",
        ],
        &["5", "10", "-1", "5.0", "0.5"],
    ),
    (
        &[
            "DateEquals",
            "DateNotEquals",
            "DateLessThan",
            "DateLessThanEquals",
            "DateGreaterThan",
            "DateGreaterThanEquals",
        ],
        &["2026-01-01", "2026-01-02T00:00:00Z", "5", "10"],
    ),
    (&["IpAddress", "NotIpAddress"], &["10.0.0.0/8", "10.0.0.1", "0.0.0.0/0", "2001:db8::/33", "::/0"]),
];

const ACTUAL: [&str; 19] = [
    "",
    "a",
    "b",
    "ab",
    "A",
    "a*",
    "?",
    "5",
    "10",
    "0.5",
    "true",
    "False",
    "2026-01-01T00:00:00Z",
    "2026-01-02T00:00:00Z",
    "10.0.0.1",
    "11.0.0.1",
    "2001:db8::1",
    "arn:aws:s3:::a",
    "arn:aws:s3:::a:b",
];

fn one_or_many(values: impl Strategy<Value = String>) -> impl Strategy<Value = Value> {
    prop::collection::vec(values, 1..3)
        .prop_map(|mut values| if values.len() == 1 { json!(values.remove(0)) } else { json!(values) })
}

fn texts(values: &'static [&'static str]) -> impl Strategy<Value = Value> {
    one_or_many(select(values).prop_map(str::to_owned))
}

fn any_condition() -> impl Strategy<Value = Value> {
    let operator =
        select(FAMILIES.to_vec()).prop_flat_map(|(operators, values)| (select(operators), texts(values)));
    let (set, suffix) =
        (select(vec!["", "", "ForAllValues:", "ForAnyValue:"]), select(vec!["", "", "IfExists"]));
    let key = select(vec!["t:one", "T:One", "t:many", "t:none", "aws:username"]);
    (operator, set, suffix, key).prop_map(|((operator, values), set, suffix, key)| {
        let name = if operator == "Null" { operator.to_owned() } else { format!("{set}{operator}{suffix}") };
        json!({name: {key: values}})
    })
}

fn any_action() -> impl Strategy<Value = Value> {
    texts(&[
        "*",
        "*:*",
        "lambda:*",
        "lambda:Run*",
        "LAMBDA:runmicrovm",
        "lambda:?et*",
        RUN,
        "s3:*Object",
        "sts:AssumeRole",
    ])
}

fn any_resource() -> impl Strategy<Value = Value> {
    let pieces = vec![
        "a",
        "b",
        "*",
        "?",
        ":",
        "/",
        "${t:one}",
        "${t:many}",
        "${t:none}",
        "${T:none, 'b'}",
        "${*}",
        "${$}",
    ];
    let glob = prop::collection::vec(select(pieces), 0..5)
        .prop_map(|pieces| format!("arn:aws:s3:::{}", pieces.concat()));
    let others =
        select(vec!["*", IMAGE, "arn:aws:lambda:*", "arn:aws:lambda:*:${aws:PrincipalAccount}:*:a?p"]);
    one_or_many(prop_oneof![3 => glob, 2 => others.prop_map(str::to_owned)])
}

prop_compose! {
    fn any_statement()(
        effect in select(vec!["Allow", "Allow", "Deny"]),
        (action_name, action) in (select(vec!["Action", "Action", "NotAction"]), any_action()),
        (resource_name, resource) in (select(vec!["Resource", "Resource", "NotResource"]), any_resource()),
        condition in prop::option::of(any_condition()),
    ) -> Value {
        let mut statement = json!({"Effect": effect, action_name: action, resource_name: resource});
        if let Some(condition) = condition {
            statement["Condition"] = condition;
        }
        statement
    }
}

fn any_statements() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(any_statement(), 1..4)
}

fn any_values(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(select(ACTUAL.to_vec()), count)
}

/// The same request for both evaluators.
fn any_request() -> impl Strategy<Value = (Request, Asked)> {
    let resource = prop_oneof![
        prop::collection::vec(select(vec!["a", "b", ":", "/", "*", "$"]), 0..5)
            .prop_map(|p| format!("arn:aws:s3:::{}", p.concat())),
        Just(IMAGE.to_owned()),
        Just("*".to_owned()),
    ];
    let action = select(vec![RUN, "lambda:GetMicrovm", "s3:GetObject", "sts:AssumeRole"]);
    (action, resource, any_values(0..2), any_values(0..4))
        .prop_map(|(action, resource, one, many)| request(user(), action, &resource, &one, &many))
}

fn request(caller: Principal, action: &str, resource: &str, one: &[&str], many: &[&str]) -> (Request, Asked) {
    let owned = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect::<Vec<String>>();
    let (names, exact_names) = names(&caller);
    let context = BTreeMap::from([
        ("aws:username".to_owned(), owned(&["ann"])),
        ("aws:principalaccount".to_owned(), owned(&[ACCOUNT])),
        ("t:one".to_owned(), owned(one)),
        ("t:many".to_owned(), owned(many)),
    ]);
    let asked =
        Asked { action: action.to_owned(), resource: resource.to_owned(), context, names, exact_names };
    let request = Request::new(caller, action, resource)
        .with("AWS:UserName", ["ann"])
        .with("T:ONE", owned(one))
        .with("t:many", owned(many));
    (request, asked)
}

/// What a Principal may call this caller, and what of it means nobody else.
fn names(caller: &Principal) -> (Vec<String>, Vec<String>) {
    let arn = caller.arn();
    let Some(account) = caller.account() else {
        let name = format!("Service/{arn}");
        return (vec!["*".to_owned(), name.clone()], vec![name]);
    };
    let of_account = vec![account.to_string(), format!("arn:aws:iam::{account}:root")];
    let mut all = vec!["*".to_owned(), arn.clone()];
    all.extend(of_account.clone());
    match caller {
        Principal::Root { .. } => (all, of_account),
        Principal::AssumedRole { .. } => {
            all.push(ROLE.to_owned());
            (all, vec![arn])
        }
        _ => (all, vec![arn]),
    }
}

fn any_caller() -> impl Strategy<Value = Principal> {
    let lambda = service("lambda.amazonaws.com");
    select(vec![user(), user_of(OTHER_ACCOUNT, "ann"), session(), root_of(ACCOUNT), lambda])
}

prop_compose! {
    fn any_trust_statement()(
        everyone in prop::bool::weighted(0.1),
        aws in texts(&[
            ACCOUNT, OTHER_ACCOUNT, ROLE, "arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:user/ann",
            "arn:aws:sts::111122223333:assumed-role/deployer/ci", "arn:aws:iam::444455556666:user/ann",
        ]),
        service in prop::option::of(texts(&["lambda.amazonaws.com", "ec2.amazonaws.com"])),
        (element, effect) in select(vec![("Principal", "Allow"), ("Principal", "Deny"), ("NotPrincipal", "Deny")]),
        action in texts(&["sts:AssumeRole", "sts:*", "STS:assume*", "sts:TagSession"]),
        condition in prop::option::weighted(0.3, any_condition()),
    ) -> Value {
        let mut principal = json!({"AWS": aws});
        if let Some(service) = service {
            principal["Service"] = service;
        }
        if everyone && element == "Principal" {
            principal = json!("*");
        }
        let mut statement = json!({"Effect": effect, "Action": action, element: principal});
        if let Some(condition) = condition {
            statement["Condition"] = condition;
        }
        statement
    }
}

fn layer(kind: PolicyType, statements: &[Value]) -> (PolicyType, Vec<Value>) {
    (kind, vec![policy(&json!(statements))])
}

fn by_identity(documents: Vec<&Document>, request: &Request) -> Decision {
    evaluate(&Policies { identity: documents, ..Policies::default() }, request)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn both_evaluators_agree(
        own in any_statements(),
        boundary in prop::option::weighted(0.3, any_statements()),
        session in prop::option::weighted(0.3, any_statements()),
        (request, asked) in any_request(),
    ) {
        let documents = [Some(&own), boundary.as_ref(), session.as_ref()].map(|s| s.map(|s| identity(&json!(s))));
        let policies = Policies {
            identity: documents[0].iter().collect(),
            boundary: documents[1].as_ref(),
            session: documents[2].as_ref().map(|document| vec![document]),
            resource: None,
        };
        let mut layers = vec![layer(PolicyType::Identity, &own)];
        layers.extend(boundary.map(|statements| layer(PolicyType::Boundary, &statements)));
        layers.extend(session.map(|statements| layer(PolicyType::Session, &statements)));
        prop_assert_eq!(evaluate(&policies, &request), decide(&layers, &asked));
    }

    #[test]
    fn both_evaluators_agree_on_each_statement(statement in any_statement(), (request, asked) in any_request()) {
        let document = identity(&statement);
        let layers = [layer(PolicyType::Identity, &[statement])];
        prop_assert_eq!(by_identity(vec![&document], &request), decide(&layers, &asked));
    }

    #[test]
    fn both_evaluators_agree_on_conditions(
        condition in any_condition(), one in any_values(0..2), many in any_values(0..4)
    ) {
        let statement = json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition});
        let (request, asked) = request(user(), RUN, IMAGE, &one, &many);
        let document = identity(&statement);
        let layers = [layer(PolicyType::Identity, &[statement])];
        prop_assert_eq!(by_identity(vec![&document], &request), decide(&layers, &asked));
    }

    #[test]
    fn both_evaluators_agree_on_trust(
        statements in prop::collection::vec(any_trust_statement(), 1..4),
        caller in any_caller(),
        (one, many) in (any_values(0..2), any_values(0..4)),
    ) {
        let (request, asked) = request(caller, "sts:AssumeRole", ROLE, &one, &many);
        let layers = [layer(PolicyType::Trust, &statements)];
        prop_assert_eq!(evaluate_trust(&trust(&json!(statements)), &request), decide(&layers, &asked));
    }

    #[test]
    fn one_more_deny_never_allows_and_one_more_allow_never_denies(
        statements in any_statements(), added in any_statement(), (request, _) in any_request()
    ) {
        let (before, after) = (identity(&json!(statements)), identity(&added));
        let alone = by_identity(vec![&before], &request).is_allowed();
        let both = by_identity(vec![&before, &after], &request).is_allowed();
        if added["Effect"] == "Deny" {
            prop_assert!(alone || !both);
        } else {
            prop_assert!(both || !alone);
        }
    }

    #[test]
    fn the_order_of_statements_is_irrelevant(
        (one, other) in any_statements().prop_flat_map(|s| (Just(s.clone()), Just(s).prop_shuffle())),
        (request, _) in any_request(),
    ) {
        let (one, other) = (identity(&json!(one)), identity(&json!(other)));
        prop_assert_eq!(by_identity(vec![&one], &request), by_identity(vec![&other], &request));
    }

    #[test]
    fn whatever_text_comes_it_is_accepted_or_refused_in_a_sentence(
        text in prop_oneof![".*", r#"\{("(Version|Statement|Effect|Action|x)":["{\[\]}, a-z$*:0-9]*){0,4}\}"#],
        value in "[a-z$*?{}:,' /]{0,12}",
    ) {
        let kind = DocumentKind::Resource;
        let statement = json!({
            "Effect": "Deny", "Principal": "*", "Action": "*", "Resource": format!("arn:a:b:::{value}"),
            "Condition": {"StringLike": {"a:b": value}},
        });
        for text in [text, policy(&statement).to_string()] {
            if let Err(error) = Document::parse(&text, kind, 10_240) {
                prop_assert!(error.to_string().ends_with('.'), "{}", error);
            }
        }
    }
}
