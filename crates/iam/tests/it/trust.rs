//! Who may assume a role.

use hearth_iam::{Decision, Policies, PolicyType, Principal, evaluate, evaluate_trust};
use serde_json::{Value, json};

use crate::support::{
    ACCOUNT, OTHER_ACCOUNT, ROLE, allow, assume, deny, identity, root_of, service, session, trust, user,
    user_of,
};

fn trusting(principal: &Value) -> Value {
    json!({"Effect": "Allow", "Principal": principal, "Action": ["sts:AssumeRole", "sts:TagSession"]})
}

const UNTRUSTED: Decision = Decision::ImplicitlyDenied(PolicyType::Trust);

#[test]
fn a_trust_policy_names_accounts_users_roles_sessions_services_or_everyone() {
    let cases: [(Value, Principal, bool); 15] = [
        (json!({"AWS": ACCOUNT}), user(), true),
        (json!({"AWS": "arn:aws:iam::111122223333:root"}), session(), true),
        (json!({"AWS": ACCOUNT}), root_of(ACCOUNT), true),
        (json!({"AWS": ACCOUNT}), user_of(OTHER_ACCOUNT, "ann"), false),
        (json!({"AWS": ACCOUNT}), service("lambda.amazonaws.com"), false),
        (json!({"AWS": "arn:aws:iam::111122223333:user/ann"}), user(), true),
        (json!({"AWS": "arn:aws:iam::111122223333:user/Ann"}), user(), false),
        (json!({"AWS": "arn:aws:iam::111122223333:role/service/deployer"}), session(), true),
        (json!({"AWS": "arn:aws:iam::111122223333:role/deployer"}), session(), false),
        (json!({"AWS": "arn:aws:sts::111122223333:assumed-role/deployer/ci"}), session(), true),
        (json!({"AWS": "arn:aws:sts::111122223333:assumed-role/deployer/cd"}), session(), false),
        (json!("*"), user_of(OTHER_ACCOUNT, "ann"), true),
        (json!({"Service": "lambda.amazonaws.com"}), service("lambda.amazonaws.com"), true),
        (json!({"Service": ["ec2.amazonaws.com"]}), service("lambda.amazonaws.com"), false),
        (json!({"Service": "lambda.amazonaws.com", "AWS": OTHER_ACCOUNT}), user(), false),
    ];
    for (principal, caller, trusted) in cases {
        let expected = if trusted { Decision::Allowed } else { UNTRUSTED };
        let document = trust(&trusting(&principal));
        assert_eq!(evaluate_trust(&document, &assume(caller.clone())), expected, "{principal} {caller:?}");
    }
}

#[test]
fn a_trust_policy_may_demand_where_a_service_acts_from() {
    let mut statement = trusting(&json!({"Service": "lambda.amazonaws.com"}));
    statement["Condition"] = json!({
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
        "ArnLike": {"aws:SourceArn": "arn:aws:lambda:*:111122223333:microvm-image:*"},
    });
    let document = trust(&statement);
    let request = assume(service("lambda.amazonaws.com")).with("aws:SourceAccount", [ACCOUNT]);
    assert_eq!(evaluate_trust(&document, &request), UNTRUSTED);
    let image = "arn:aws:lambda:us-east-1:111122223333:microvm-image:app";
    let request = request.with("aws:SourceArn", [image]);
    assert_eq!(evaluate_trust(&document, &request), Decision::Allowed);
    assert_eq!(evaluate_trust(&document, &request.with("aws:SourceAccount", [OTHER_ACCOUNT])), UNTRUSTED);
}

#[test]
fn a_deny_in_a_trust_policy_wins_and_not_principal_spares_only_the_named() {
    let but_ann = json!({"Effect": "Deny", "NotPrincipal": {"AWS": [ACCOUNT, "arn:aws:iam::111122223333:user/ann"]},
        "Action": "sts:AssumeRole"});
    let document = trust(&json!([trusting(&json!("*")), but_ann]));
    assert_eq!(evaluate_trust(&document, &assume(user())), Decision::Allowed);
    assert_eq!(evaluate_trust(&document, &assume(root_of(ACCOUNT))), Decision::Allowed);
    let denied = Decision::ExplicitlyDenied(PolicyType::Trust);
    assert_eq!(evaluate_trust(&document, &assume(user_of(ACCOUNT, "bob"))), denied);
    assert_eq!(evaluate_trust(&document, &assume(session())), denied);
}

#[test]
fn trust_in_an_account_leaves_it_to_identity_policies_and_trust_in_a_user_does_not() {
    let may = identity(&allow("sts:AssumeRole", ROLE));
    let must_not = identity(&deny("sts:*", "*"));
    let (account, ann) = (json!({"AWS": ACCOUNT}), json!({"AWS": "arn:aws:iam::111122223333:user/ann"}));
    let lacking = Decision::ImplicitlyDenied(PolicyType::Identity);
    for (principal, policies, expected) in [
        (&account, vec![], lacking),
        (&account, vec![&may], Decision::Allowed),
        (&ann, vec![], Decision::Allowed),
        (&ann, vec![&must_not], Decision::ExplicitlyDenied(PolicyType::Identity)),
        (&json!({"AWS": OTHER_ACCOUNT}), vec![&may], UNTRUSTED),
    ] {
        let document = trust(&trusting(principal));
        let policies = Policies { identity: policies, resource: Some(&document), ..Policies::default() };
        assert_eq!(evaluate(&policies, &assume(user())), expected, "{principal}");
    }
}

#[test]
fn a_user_of_another_account_needs_both() {
    let may = identity(&allow("sts:AssumeRole", "*"));
    let bob = || assume(user_of(OTHER_ACCOUNT, "bob"));
    let document = trust(&trusting(&json!({"AWS": "arn:aws:iam::444455556666:user/bob"})));
    let alone = Policies { resource: Some(&document), ..Policies::default() };
    assert_eq!(evaluate(&alone, &bob()), Decision::ImplicitlyDenied(PolicyType::Identity));
    assert_eq!(evaluate(&Policies { identity: vec![&may], ..alone }, &bob()), Decision::Allowed);
}

#[test]
fn a_service_needs_trust_only() {
    let lambda = || assume(service("lambda.amazonaws.com"));
    let document = trust(&trusting(&json!({"Service": "lambda.amazonaws.com"})));
    let policies = Policies { resource: Some(&document), ..Policies::default() };
    assert_eq!(evaluate(&policies, &lambda()), Decision::Allowed);
    let document = trust(&trusting(&json!({"AWS": ACCOUNT})));
    let policies = Policies { resource: Some(&document), ..Policies::default() };
    assert_eq!(evaluate(&policies, &lambda()), UNTRUSTED);
    assert_eq!(
        UNTRUSTED.denial(&lambda()).unwrap(),
        "User: lambda.amazonaws.com is not authorized to perform: sts:AssumeRole on resource: \
         arn:aws:iam::111122223333:role/service/deployer because no role trust policy allows the sts:AssumeRole action"
    );
}
