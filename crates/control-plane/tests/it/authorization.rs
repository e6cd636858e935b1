//! Every operation asks whether the caller may, for the right action and resource,
//! before it does anything.

mod cases;

use hearth_api::{AccountId, Timestamp};
use hearth_iam::DocumentKind;
use hearth_identity::entities::Attachments;
use hearth_identity::{AccessKey, Account, Policy, Role, User};
use http::StatusCode;
use serde_json::{Value, json};

use self::cases::{Case, case, cases, role};
use crate::support::{ACCOUNT, Api, REGION, Reply, configuration, image_arn, signed_by, with};

const USER: &str = "arn:aws:iam::000000000000:user/ann";
const EVERYTHING: &str = "*";

/// Gives the user `ann` this inline policy, or none.
pub(crate) async fn allow(api: &Api, statements: Option<Value>) {
    let policy = statements.map(|statements| {
        let text = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        Policy::parse(&text, DocumentKind::Identity, usize::MAX).unwrap()
    });
    let user = User {
        account: AccountId::from_stored(ACCOUNT),
        path: "/".into(),
        name: "ann".into(),
        id: "AIDA1".into(),
        created_at: Timestamp::now(),
        policies: Attachments {
            inline: policy.map(|policy| ("p".to_owned(), policy)).into_iter().collect(),
            ..Attachments::default()
        },
        access_keys: vec![AccessKey {
            id: "AKIAANN".into(),
            secret: "ann".into(),
            active: true,
            created_at: Timestamp::now(),
        }],
        tags: [].into(),
    };
    change(api, |account| account.put_user(user)).await;
}

async fn change(api: &Api, change: impl FnOnce(&mut Account)) {
    let account = AccountId::from_stored(ACCOUNT);
    let apply = |account: &mut Account| {
        change(account);
        Ok::<(), ()>(())
    };
    assert_eq!(api.identities.change(&account, apply).await.unwrap(), Some(Ok(())));
}

/// A role that trusts `service`.
async fn put_role(api: &Api, name: &str, service: &str) {
    let statement =
        json!({ "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "Service": service } });
    let trust = json!({ "Version": "2012-10-17", "Statement": statement }).to_string();
    let role = Role {
        account: AccountId::from_stored(ACCOUNT),
        path: "/".into(),
        name: name.into(),
        id: "AROA1".into(),
        created_at: Timestamp::now(),
        trust: Policy::parse(&trust, DocumentKind::Trust, usize::MAX).unwrap(),
        policies: Attachments::default(),
        description: None,
        maximum_session_seconds: 3600,
        tags: [].into(),
    };
    change(api, |account| account.put_role(role)).await;
}

async fn ann(api: &Api, case: &Case) -> Reply {
    let body = if case.body.is_null() { String::new() } else { case.body.to_string() };
    api.send(signed_by("AKIAANN", "ann", "lambda", case.method, &case.target, body.as_bytes())).await
}

async fn start() -> (Api, String) {
    let api = Api::start().await;
    api.built_image("app", |_| ()).await;
    for name in ["build", "execution", "operator"] {
        put_role(&api, name, "lambda.amazonaws.com").await;
    }
    let id = api.recorded_microvm(hearth_api::MicrovmState::Suspended).await.to_string();
    (api, id)
}

fn statement((action, resource): &(&'static str, String)) -> Value {
    json!({ "Effect": "Allow", "Action": action, "Resource": resource })
}

fn denial((action, resource): &(&'static str, String)) -> String {
    format!(
        "User: {USER} is not authorized to perform: {action} on resource: {resource} because no identity-based policy \
         allows the {action} action"
    )
}

#[tokio::test]
async fn no_operation_is_reached_without_each_of_its_permissions() {
    let (api, id) = start().await;
    let cases = cases(&id);
    assert_eq!(cases.len(), 37, "24 operations of lambda-microvms, 6 of lambda-core and seven of ours");
    for case in &cases {
        for (missing, ask) in case.asks.iter().enumerate() {
            let others = case.asks.iter().enumerate().filter(|(index, _)| *index != missing);
            let others: Vec<Value> = others.map(|(_, ask)| statement(ask)).collect();
            allow(&api, (!others.is_empty()).then_some(Value::from(others))).await;
            let reply = ann(&api, case).await;
            assert_eq!(
                reply.status,
                StatusCode::FORBIDDEN,
                "{} without {}: {}",
                case.target,
                ask.0,
                reply.body
            );
            assert_eq!(reply.error_type(), "AccessDeniedException");
            assert_eq!(reply.message(), denial(ask));
        }
    }
    let images = api.get("microvm-images").await.body["items"].as_array().unwrap().len();
    assert_eq!(images, 1, "what was denied was not done");
}

#[tokio::test]
async fn with_just_its_permissions_an_operation_is_reached() {
    let (api, id) = start().await;
    for case in cases(&id) {
        allow(&api, Some(case.asks.iter().map(statement).collect())).await;
        let reply = ann(&api, &case).await;
        assert_ne!(reply.status, StatusCode::FORBIDDEN, "{} {}: {}", case.method, case.target, reply.body);
    }
}

#[tokio::test]
async fn tags_of_the_image_and_of_the_request_decide() {
    let (api, id) = start().await;
    let get = case("GET", &format!("/2025-09-09/microvms/{id}"), Value::Null, "", "");
    for (team, allowed) in [("a", true), ("b", false)] {
        let condition = json!({ "StringEquals": { "aws:ResourceTag/team": team } });
        let statement =
            json!({ "Effect": "Allow", "Action": "lambda:*", "Resource": "*", "Condition": condition });
        allow(&api, Some(statement)).await;
        assert_eq!(ann(&api, &get).await.status == StatusCode::OK, allowed, "{team}");
    }
    let tags = format!("/2017-03-31/tags/{}", image_arn("app"));
    let condition = json!({
        "StringEquals": { "aws:RequestTag/stage": "test" },
        "ForAllValues:StringEquals": { "aws:TagKeys": ["stage"] },
    });
    allow(
        &api,
        Some(json!({ "Effect": "Allow", "Action": "lambda:TagResource", "Resource": "*", "Condition": condition })),
    )
    .await;
    for (sent, status) in [
        (json!({ "stage": "test" }), StatusCode::NO_CONTENT),
        (json!({ "stage": "production" }), StatusCode::FORBIDDEN),
        (json!({ "stage": "test", "team": "b" }), StatusCode::FORBIDDEN),
    ] {
        let tag = case("POST", &tags, json!({ "Tags": sent }), "", "");
        assert_eq!(ann(&api, &tag).await.status, status, "{}", tag.body);
    }
}

#[tokio::test]
async fn an_explicit_deny_wins() {
    let (api, id) = start().await;
    let get = case("GET", &format!("/2025-09-09/microvms/{id}"), Value::Null, "", "");
    allow(
        &api,
        Some(json!([
            { "Effect": "Allow", "Action": "*", "Resource": "*" },
            { "Effect": "Deny", "Action": "lambda:Get*", "Resource": image_arn("app") },
        ])),
    )
    .await;
    let reply = ann(&api, &get).await;
    assert!(reply.message().ends_with("with an explicit deny in an identity-based policy"), "{}", reply.body);
}

#[tokio::test]
async fn a_role_that_the_service_cannot_have_is_a_denial_of_passing_it() {
    let (api, _) = start().await;
    put_role(&api, "execution", "ec2.amazonaws.com").await;
    allow(&api, Some(json!({ "Effect": "Allow", "Action": "*", "Resource": "*" }))).await;
    let run = |name: &str| {
        let body = json!({ "imageIdentifier": image_arn("app"), "executionRoleArn": role(name) });
        case("POST", "/2025-09-09/microvms", body, "", "")
    };
    for name in ["execution", "never-made"] {
        let reply = ann(&api, &run(name)).await;
        assert_eq!(reply.message(), denial(&("iam:PassRole", role(name))));
    }
    // The root user may name a role that was never made; it stands for the account.
    let as_root = async |name: &str| api.call("POST", "microvms", run(name).body).await;
    assert_eq!(as_root("never-made").await.status, StatusCode::OK);
    let reply = as_root("execution").await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    assert!(reply.message().starts_with(&format!("User: arn:aws:iam::{ACCOUNT}:root is not authorized")));
}

/// The kind: every effect is authorised for the principal on whose behalf it happens.
#[tokio::test]
async fn output_goes_to_no_group_that_its_author_may_not_write_to() {
    let (api, _) = start().await;
    let run_only = json!([
        { "Effect": "Allow", "Action": "lambda:RunMicrovm", "Resource": "*" },
        { "Effect": "Allow", "Action": "lambda:PassNetworkConnector", "Resource": "*" },
        { "Effect": "Allow", "Action": "iam:PassRole", "Resource": role("execution") },
    ]);
    let run = |more: Value| {
        let mut body = json!({ "imageIdentifier": image_arn("app") });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        case("POST", "/2025-09-09/microvms", body, "", "")
    };
    let audit = || json!({ "logging": { "cloudWatch": { "logGroup": "/audit", "logStream": "prod" } } });
    let foreign_stream = json!({ "logging": { "cloudWatch": { "logStream": "of-another" } } });
    allow(&api, Some(run_only.clone())).await;
    for wanted in [audit(), foreign_stream] {
        let reply = ann(&api, &run(wanted)).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.body);
        assert!(
            reply.message().contains("perform: logs:PutLogEvents on resource: arn:aws:logs:"),
            "{}",
            reply.body
        );
    }
    // The service's own group takes no right of the caller, and an execution role has its own.
    let own = json!({ "logging": { "cloudWatch": { "logGroup": "/aws/lambda-microvms/app" } } });
    let mut with_role = audit();
    with_role["executionRoleArn"] = json!(role("execution"));
    for wanted in [own, with_role, json!({ "logging": { "disabled": {} } })] {
        let reply = ann(&api, &run(wanted)).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.body);
    }
    let mut all = run_only;
    let logs = "arn:aws:logs:*:*:log-group:/audit:*";
    let more = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"];
    all.as_array_mut().unwrap().push(json!({ "Effect": "Allow", "Action": more, "Resource": logs }));
    allow(&api, Some(all)).await;
    assert_eq!(ann(&api, &run(audit())).await.status, StatusCode::OK);
    assert_eq!(api.call("POST", "microvms", run(audit()).body).await.status, StatusCode::OK, "root");
}
