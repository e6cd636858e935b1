//! The table as a whole: nothing in it can be reached without the permission of its name.

use std::collections::BTreeSet;
use std::sync::Arc;

use hearth_api::{AccountId, Timestamp};
use hearth_auth::sigv4::{Scope, SignedRequest, sign};
use hearth_iam::DocumentKind;
use hearth_identity::entities::{Attachments, Tags};
use hearth_identity::{AccessKey, Account, Identities, Policy, RootKey, User};
use hearth_service::pages::PageKey;
use hearth_service::query::QueryApi as _;
use hearth_service::shape::Shape;
use hearth_service::{Api as _, Operation};
use hearth_store_sqlite::Store;

use super::Iam;

const ACCOUNT: &str = "111122223333";

pub(super) fn account() -> AccountId {
    AccountId::from_stored(ACCOUNT)
}

pub(super) async fn open(store: &Store) -> Arc<Iam> {
    let root = RootKey { account: account(), access_key: "AKIAROOT".into(), secret: "root".into() };
    let identities = Identities::open(Arc::new(store.clone()), vec![root]).await.unwrap();
    Iam::new(Arc::new(identities), PageKey([1; 32]))
}

/// The answer to a signed call; or code and message of its refusal.
pub(super) async fn call(
    iam: &Arc<Iam>,
    access_key: &str,
    action: &str,
    pairs: &[(&str, &str)],
) -> Result<String, String> {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", action).append_pair("Version", Iam::VERSION).extend_pairs(pairs);
    let body = form.finish();
    let secret = if access_key == "AKIAROOT" { "root" } else { "ann" };
    let scope = Scope { access_key, secret, region: "us-east-1", service: "iam" };
    let headers = [("host", b"localhost".as_slice())];
    let signed =
        SignedRequest { method: "POST", path: "/", query: "", headers: &headers, body: body.as_bytes() };
    let mut request = http::Request::post("/").header("host", "localhost");
    for (name, value) in sign(&signed, &scope, jiff::Timestamp::now()) {
        request = request.header(name, value);
    }
    let response = iam.clone().answer(request.body(body.into()).unwrap()).await;
    let refused = !response.status().is_success();
    let text = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    if refused {
        let field = |name: &str| text.split(&format!("<{name}>")).nth(1).unwrap().split("</").next().unwrap();
        return Err(format!("{}: {}", field("Code"), field("Message")));
    }
    Ok(text)
}

/// Ann, who calls with `AKIAANN` and may do what one statement says.
async fn put_ann(iam: &Iam, statement: Option<serde_json::Value>) {
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
    iam.identities.change(&account(), put).await.unwrap().unwrap().unwrap();
}

/// A value that fits a required member; what is named is not there.
fn good(name: &str, shape: &Shape) -> Vec<(String, String)> {
    let trust = r#"{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Principal":"*"}}"#;
    let value = match (name, shape) {
        ("UserName", _) => "bob",
        ("RoleName", _) => "builder",
        ("PolicyName", _) => "some",
        ("PolicyArn" | "PermissionsBoundary", _) => "arn:aws:iam::111122223333:policy/some",
        ("AssumeRolePolicyDocument", _) => trust,
        ("PolicyDocument", _) => r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#,
        ("Description", _) => "words",
        ("AccessKeyId", _) => "AKIA0000000000000000",
        ("VersionId", _) => "v1",
        (_, Shape::Enumeration(values)) => values[0],
        (_, Shape::List(Shape::Text(_), ..)) => return vec![(format!("{name}.member.1"), "key".into())],
        (_, Shape::List(Shape::Structure(members), ..)) => {
            return members
                .iter()
                .map(|inner| (format!("{name}.member.1.{}", inner.name), "x".into()))
                .collect();
        }
        other => panic!("no value for {other:?}"),
    };
    vec![(name.to_owned(), value.to_owned())]
}

async fn run(iam: &Arc<Iam>, operation: &Operation<Iam>, access_key: &str) -> Result<String, String> {
    let required = operation.members.iter().filter(|member| member.required);
    let mut pairs: Vec<_> = required.flat_map(|member| good(member.name, member.shape)).collect();
    // The caller itself would be taken otherwise.
    if operation.members.iter().any(|member| member.name == "UserName" && !member.required) {
        pairs.push(("UserName".into(), "bob".into()));
    }
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    call(iam, access_key, operation.name, &pairs).await
}

fn refusal(outcome: Result<String, String>) -> String {
    outcome.err().unwrap_or_default()
}

#[test]
fn an_operation_is_in_the_table_once() {
    let names: Vec<_> = Iam::operations().map(|operation| operation.name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

#[tokio::test]
async fn no_operation_is_reached_without_its_permission() {
    for operation in Iam::operations() {
        let name = operation.name;
        let iam = open(&Store::temporary().await.unwrap()).await;
        put_ann(&iam, None).await;
        let denied = refusal(run(&iam, operation, "AKIAANN").await);
        let begins = format!(
            "AccessDenied: User: arn:aws:iam::{ACCOUNT}:user/ann is not authorized to perform: iam:{name} on resource: "
        );
        let rest = denied.strip_prefix(&begins).unwrap_or_else(|| panic!("{name}: {denied:?}"));
        let resource = rest.split(' ').next().unwrap();

        // Everything but this is not enough.
        let others =
            serde_json::json!({ "Effect": "Allow", "NotAction": format!("iam:{name}"), "Resource": "*" });
        put_ann(&iam, Some(others)).await;
        let denied = refusal(run(&iam, operation, "AKIAANN").await);
        assert!(denied.starts_with(&begins), "{name}: {denied:?}");

        let just_this =
            serde_json::json!({ "Effect": "Allow", "Action": format!("iam:{name}"), "Resource": resource });
        put_ann(&iam, Some(just_this)).await;
        let other = refusal(run(&iam, operation, "AKIAANN").await);
        assert!(!other.contains("not authorized"), "{name} on {resource}: {other}");
    }
}

#[tokio::test]
async fn the_root_user_needs_no_permission() {
    for operation in Iam::operations() {
        let iam = open(&Store::temporary().await.unwrap()).await;
        let refused = refusal(run(&iam, operation, "AKIAROOT").await);
        assert!(refused.is_empty() || refused.starts_with("NoSuchEntity"), "{}: {refused}", operation.name);
    }
}
