//! The table as a whole: nothing in it can be reached without the permission of its name.

use std::collections::BTreeSet;

use hearth_api::{AccountId, Timestamp};
use hearth_iam::DocumentKind;
use hearth_identity::entities::{Attachments, Tags};
use hearth_identity::{AccessKey, Account, Caller, Identities, Policy, RootKey, User};
use hearth_store_sqlite::Store;

use super::{Operation, Outcome, call, operations};
use crate::query::form::Form;
use crate::query::shape::Kind;

const ACCOUNT: &str = "111122223333";

pub(super) fn account() -> AccountId {
    AccountId::from_stored(ACCOUNT)
}

pub(super) async fn open(store: &Store) -> Identities {
    let root = RootKey { account: account(), access_key: "AKIAROOT".into(), secret: "root".into() };
    Identities::open(std::sync::Arc::new(store.clone()), vec![root]).await.unwrap()
}

pub(super) fn caller(identities: &Identities, access_key: &str) -> Caller {
    let (parts, ()) = http::Request::new(()).into_parts();
    identities.caller(access_key, &parts, jiff::Timestamp::now()).unwrap()
}

/// A form of pairs of names and values.
pub(super) fn form(pairs: &[(&str, &str)]) -> Form {
    let body: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    Form::read("", body.as_bytes()).unwrap()
}

/// Ann, who calls with `AKIAANN` and may do what one statement says.
async fn put_ann(identities: &Identities, statement: Option<serde_json::Value>) {
    let policy = statement.map(|statement| {
        let text = serde_json::json!({ "Version": "2012-10-17", "Statement": statement }).to_string();
        ("only".to_owned(), Policy::parse(&text, DocumentKind::Identity, 6144).unwrap())
    });
    let key =
        AccessKey { id: "AKIAANN".into(), secret: "ann".into(), active: true, created_at: Timestamp::now() };
    let ann = User {
        account: account(),
        path: "/".into(),
        name: "ann".into(),
        id: "AIDAANN".into(),
        created_at: Timestamp::now(),
        policies: Attachments { inline: policy.into_iter().collect(), ..Attachments::default() },
        access_keys: vec![key],
        tags: Tags::new(),
    };
    let put = |account: &mut Account| {
        account.put_user(ann);
        Ok::<(), ()>(())
    };
    identities.change(&account(), put).await.unwrap().unwrap().unwrap();
}

/// A value that fits a required member; what is named is not there.
fn good(name: &str, kind: &Kind) -> Vec<(String, String)> {
    let trust = r#"{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Principal":"*"}}"#;
    let value = match (name, kind) {
        ("UserName", _) => "bob",
        ("RoleName", _) => "builder",
        ("PolicyName", _) => "some",
        ("PolicyArn" | "PermissionsBoundary", _) => "arn:aws:iam::111122223333:policy/some",
        ("AssumeRolePolicyDocument", _) => trust,
        ("PolicyDocument", _) => r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#,
        ("Description", _) => "words",
        ("AccessKeyId", _) => "AKIA0000000000000000",
        ("VersionId", _) => "v1",
        (_, Kind::OneOf(values)) => values[0],
        (_, Kind::Texts(..)) => return vec![(format!("{name}.member.1"), "key".into())],
        (_, Kind::Structures(members, ..)) => {
            return members
                .iter()
                .map(|inner| (format!("{name}.member.1.{}", inner.name), "x".into()))
                .collect();
        }
        other => panic!("no value for {other:?}"),
    };
    vec![(name.to_owned(), value.to_owned())]
}

async fn run(identities: &Identities, operation: &Operation, access_key: &str) -> Outcome {
    let required = operation.members.iter().filter(|member| member.required);
    let mut pairs: Vec<_> = required.flat_map(|member| good(member.name, &member.kind)).collect();
    // The caller itself would be taken otherwise.
    if operation.members.iter().any(|member| member.name == "UserName" && !member.required) {
        pairs.push(("UserName".into(), "bob".into()));
    }
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    call(identities, operation.name, form(&pairs), &caller(identities, access_key)).await
}

fn refusal(outcome: &Outcome) -> String {
    outcome.as_ref().err().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn an_operation_is_in_the_table_once() {
    let names: Vec<_> = operations().map(|operation| operation.name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

#[tokio::test]
async fn no_operation_is_reached_without_its_permission() {
    for operation in operations() {
        let name = operation.name;
        let identities = open(&Store::temporary().await.unwrap()).await;
        put_ann(&identities, None).await;
        let denied = refusal(&run(&identities, operation, "AKIAANN").await);
        let begins = format!(
            "AccessDenied: User: arn:aws:iam::{ACCOUNT}:user/ann is not authorized to perform: iam:{name} on resource: "
        );
        let rest = denied.strip_prefix(&begins).unwrap_or_else(|| panic!("{name}: {denied:?}"));
        let resource = rest.split(' ').next().unwrap();

        // Everything but this is not enough.
        let others =
            serde_json::json!({ "Effect": "Allow", "NotAction": format!("iam:{name}"), "Resource": "*" });
        put_ann(&identities, Some(others)).await;
        let denied = refusal(&run(&identities, operation, "AKIAANN").await);
        assert!(denied.starts_with(&begins), "{name}: {denied:?}");

        let just_this =
            serde_json::json!({ "Effect": "Allow", "Action": format!("iam:{name}"), "Resource": resource });
        put_ann(&identities, Some(just_this)).await;
        let other = refusal(&run(&identities, operation, "AKIAANN").await);
        assert!(!other.contains("not authorized"), "{name} on {resource}: {other}");
    }
}

#[tokio::test]
async fn the_root_user_needs_no_permission() {
    for operation in operations() {
        let identities = open(&Store::temporary().await.unwrap()).await;
        let refused = refusal(&run(&identities, operation, "AKIAROOT").await);
        assert!(refused.is_empty() || refused.starts_with("NoSuchEntity"), "{}: {refused}", operation.name);
    }
}
