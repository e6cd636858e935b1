//! Statements against requests, and several policies together.

use hearth_iam::{Decision, DocumentKind, Policies, PolicyType, Principal, Request, evaluate};
use serde_json::{Value, json};

use crate::support::{
    ACCOUNT, IMAGE, OTHER_ACCOUNT, RUN, allow, deny, identity, parse, root_of, run, service, session, user,
    user_of,
};

fn decide(statements: &Value, request: &Request) -> Decision {
    let document = identity(statements);
    evaluate(&Policies { identity: vec![&document], ..Policies::default() }, request)
}

const NOTHING_ALLOWS: Decision = Decision::ImplicitlyDenied(PolicyType::Identity);

#[test]
fn actions_and_resources() {
    let any_image = "arn:aws:lambda:*:111122223333:microvm-image:*";
    for (statement, expected) in [
        (allow("*", "*"), true),
        (allow("LAMBDA:runmicro??", any_image), true),
        (allow("lambda:Run*", IMAGE), true),
        (allow("lambda:Get*", IMAGE), false),
        (allow("lambda-microvms:*", "*"), false),
        (allow(RUN, &IMAGE.to_uppercase().replacen("ARN:AWS:LAMBDA", "arn:aws:lambda", 1)), false),
        (allow(RUN, "arn:aws:lambda:us-east-1:444455556666:microvm-image:*"), false),
        (allow(RUN, "arn:aws:lambda:us-east-1:${aws:PrincipalAccount}:*"), true),
        (allow(RUN, "arn:aws:lambda:us-east-1:111122223333:microvm-image:${aws:PrincipalTag/none}"), false),
        (json!({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}), true),
        (json!({"Effect": "Allow", "NotAction": "lambda:*", "Resource": "*"}), false),
        (json!({"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::*"}), true),
        (json!({"Effect": "Allow", "Action": "*", "NotResource": any_image}), false),
    ] {
        assert_eq!(decide(&statement, &run()).is_allowed(), expected, "{statement}");
    }
    let list = Request::new(user(), "lambda:ListMicrovms", "*");
    assert!(decide(&allow("lambda:ListMicrovms", "*"), &list).is_allowed());
    assert!(!decide(&allow("lambda:ListMicrovms", any_image), &list).is_allowed());
}

#[test]
fn variables_mean_nothing_in_the_old_version() {
    let statement = allow(RUN, "arn:aws:lambda:us-east-1:${aws:PrincipalAccount}:*");
    let old = json!({"Version": "2008-10-17", "Statement": statement}).to_string();
    let document = hearth_iam::Document::parse(&old, DocumentKind::Identity, 6_144).unwrap();
    assert_eq!(
        evaluate(&Policies { identity: vec![&document], ..Policies::default() }, &run()),
        NOTHING_ALLOWS
    );
}

#[test]
fn a_deny_wins_wherever_it_is() {
    let explicit = Decision::ExplicitlyDenied(PolicyType::Identity);
    assert_eq!(decide(&json!([allow("*", "*"), deny(RUN, IMAGE)]), &run()), explicit);
    assert_eq!(decide(&json!([deny("lambda:*", "*"), allow("*", "*")]), &run()), explicit);
    let (everything, nothing) = (identity(&allow("*", "*")), identity(&deny("*", "*")));
    let policies =
        Policies { identity: vec![&everything], boundary: Some(&everything), ..Policies::default() };
    assert_eq!(
        evaluate(&Policies { identity: vec![&everything, &nothing], ..policies.clone() }, &run()),
        explicit
    );
    assert_eq!(
        evaluate(&Policies { boundary: Some(&nothing), ..policies.clone() }, &run()),
        Decision::ExplicitlyDenied(PolicyType::Boundary)
    );
    assert_eq!(
        evaluate(&Policies { session: Some(vec![&everything, &nothing]), ..policies }, &run()),
        Decision::ExplicitlyDenied(PolicyType::Session)
    );
}

#[test]
fn boundary_and_session_policies_limit_and_do_not_grant() {
    let (everything, reading) = (identity(&allow("*", "*")), identity(&allow("lambda:Get*", "*")));
    let all = Policies { identity: vec![&everything], ..Policies::default() };
    assert!(evaluate(&all, &run()).is_allowed());
    for (policies, expected) in [
        (Policies { boundary: Some(&everything), ..Policies::default() }, NOTHING_ALLOWS),
        (Policies { session: Some(vec![&everything]), ..Policies::default() }, NOTHING_ALLOWS),
        (
            Policies { boundary: Some(&reading), ..all.clone() },
            Decision::ImplicitlyDenied(PolicyType::Boundary),
        ),
        (
            Policies { session: Some(vec![&reading]), ..all.clone() },
            Decision::ImplicitlyDenied(PolicyType::Session),
        ),
        (Policies { session: Some(vec![]), ..all.clone() }, Decision::ImplicitlyDenied(PolicyType::Session)),
        (Policies { session: Some(vec![&reading, &everything]), ..all }, Decision::Allowed),
    ] {
        assert_eq!(evaluate(&policies, &run()), expected, "{policies:?}");
    }
}

#[test]
fn the_root_user_needs_no_policy_in_its_own_account_only() {
    let own = Request::new(root_of(ACCOUNT), RUN, IMAGE);
    assert!(evaluate(&Policies::default(), &own).is_allowed());
    let managed = Request::new(root_of(ACCOUNT), RUN, "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1");
    assert!(evaluate(&Policies::default(), &managed).is_allowed());
    let foreign = Request::new(root_of(OTHER_ACCOUNT), RUN, IMAGE);
    assert_eq!(evaluate(&Policies::default(), &foreign), Decision::ImplicitlyDenied(PolicyType::Resource));
}

#[test]
fn another_account_needs_the_consent_of_both_sides() {
    let everything = identity(&allow("*", "*"));
    let share = |principal: Value| {
        let statement = json!({"Effect": "Allow", "Principal": principal, "Action": RUN, "Resource": IMAGE});
        parse(DocumentKind::Resource, &statement)
    };
    let request = Request::new(user_of(OTHER_ACCOUNT, "bob"), RUN, IMAGE);
    let missing = Decision::ImplicitlyDenied(PolicyType::Resource);
    for (principal, expected) in [
        (json!({"AWS": OTHER_ACCOUNT}), Decision::Allowed),
        (json!({"AWS": "arn:aws:iam::444455556666:user/bob"}), Decision::Allowed),
        (json!("*"), Decision::Allowed),
        (json!({"AWS": "arn:aws:iam::444455556666:user/eve"}), missing),
        (json!({"AWS": ACCOUNT}), missing),
    ] {
        let resource = share(principal);
        let policies = Policies { resource: Some(&resource), ..Policies::default() };
        assert_ne!(evaluate(&policies, &request), Decision::Allowed);
        assert_eq!(evaluate(&Policies { identity: vec![&everything], ..policies }, &request), expected);
    }
    let unshared = Policies { identity: vec![&everything], ..Policies::default() };
    assert_eq!(evaluate(&unshared, &request), missing);
}

#[test]
fn within_an_account_a_resource_policy_that_names_the_caller_is_enough() {
    let reading = identity(&allow("lambda:Get*", "*"));
    let role = "arn:aws:iam::111122223333:role/service/deployer";
    let of_session = "arn:aws:sts::111122223333:assumed-role/deployer/ci";
    let boundary = Decision::ImplicitlyDenied(PolicyType::Boundary);
    for (caller, principal, alone, with_boundary) in [
        (user(), json!({"AWS": "arn:aws:iam::111122223333:user/ann"}), Decision::Allowed, Decision::Allowed),
        (user(), json!({"AWS": ACCOUNT}), NOTHING_ALLOWS, NOTHING_ALLOWS),
        (session(), json!({"AWS": role}), Decision::Allowed, boundary),
        (session(), json!({"AWS": [role, of_session]}), Decision::Allowed, Decision::Allowed),
        (session(), json!("*"), Decision::Allowed, boundary),
        (session(), json!({"Service": "lambda.amazonaws.com"}), NOTHING_ALLOWS, NOTHING_ALLOWS),
    ] {
        let statement = json!({"Effect": "Allow", "Principal": principal, "Action": "*", "Resource": "*"});
        let resource = parse(DocumentKind::Resource, &statement);
        let request = Request::new(caller, RUN, IMAGE);
        let policies = Policies { resource: Some(&resource), ..Policies::default() };
        assert_eq!(evaluate(&policies, &request), alone, "{statement}");
        assert_eq!(
            evaluate(&Policies { boundary: Some(&reading), ..policies }, &request),
            with_boundary,
            "{statement}"
        );
    }
}

#[test]
fn of_several_grants_the_farthest_counts() {
    let to = |principal: &str| json!({"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "*", "Resource": "*"});
    let (account, ann) = (to(ACCOUNT), to("arn:aws:iam::111122223333:user/ann"));
    for statements in [json!([account, ann]), json!([ann, account])] {
        let resource = parse(DocumentKind::Resource, &statements);
        let policies = Policies { resource: Some(&resource), ..Policies::default() };
        assert_eq!(evaluate(&policies, &run()), Decision::Allowed, "{statements}");
    }
}

#[test]
fn a_service_has_what_resources_grant_it_and_nothing_else() {
    let everything = identity(&allow("*", "*"));
    let request = Request::new(service("lambda.amazonaws.com"), RUN, IMAGE);
    let policies = Policies { identity: vec![&everything], ..Policies::default() };
    assert_eq!(evaluate(&policies, &request), Decision::ImplicitlyDenied(PolicyType::Resource));
}

#[test]
fn an_identity_policy_does_not_pass_for_one_of_a_resource() {
    let everything = identity(&allow("*", "*"));
    let policies = Policies { resource: Some(&everything), ..Policies::default() };
    assert_eq!(evaluate(&policies, &run()), NOTHING_ALLOWS);
}

#[test]
fn keys_that_follow_from_the_principal() {
    let expect = |principal: Principal, key: &str, value: &str| {
        let statement = json!({
            "Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {key: value}}
        });
        let request = Request::new(principal, RUN, IMAGE);
        assert!(decide(&json!([allow("a:b", "*"), statement]), &request).is_allowed(), "{key} {value}");
    };
    expect(user(), "aws:username", "ann");
    expect(user(), "aws:userid", "AIDAann");
    expect(user(), "aws:PrincipalType", "User");
    expect(user(), "aws:PrincipalArn", "arn:aws:iam::111122223333:user/ann");
    expect(session(), "aws:userid", "AROADEPLOYER:ci");
    expect(session(), "aws:PrincipalArn", "arn:aws:iam::111122223333:role/service/deployer");
    expect(session(), "aws:PrincipalAccount", ACCOUNT);
    expect(session(), "aws:PrincipalIsAWSService", "false");
}

#[test]
fn denials_are_worded_as_the_service_does() {
    let sentence = |decision: Decision| decision.denial(&run());
    let who = "User: arn:aws:iam::111122223333:user/ann is not authorized to perform: lambda:RunMicrovm on resource: \
               arn:aws:lambda:us-east-1:111122223333:microvm-image:app";
    assert_eq!(sentence(Decision::Allowed), None);
    for (policy_type, implicit, explicit) in [
        (PolicyType::Identity, "no identity-based policy", "an identity-based policy"),
        (PolicyType::Boundary, "no permissions boundary", "a permissions boundary"),
        (PolicyType::Session, "no session policy", "a session policy"),
        (PolicyType::Resource, "no resource-based policy", "a resource-based policy"),
        (PolicyType::Trust, "no role trust policy", "the role trust policy"),
    ] {
        assert_eq!(
            sentence(Decision::ImplicitlyDenied(policy_type)).unwrap(),
            format!("{who} because {implicit} allows the lambda:RunMicrovm action")
        );
        assert_eq!(
            sentence(Decision::ExplicitlyDenied(policy_type)).unwrap(),
            format!("{who} with an explicit deny in {explicit}")
        );
    }
    let by_session =
        Decision::ImplicitlyDenied(PolicyType::Identity).denial(&Request::new(session(), RUN, "*")).unwrap();
    assert!(by_session.starts_with("User: arn:aws:sts::111122223333:assumed-role/deployer/ci is not"));
}
