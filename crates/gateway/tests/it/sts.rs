//! STS: who calls, and temporary credentials.

mod sessions;

use http::StatusCode;

use crate::support::{ACCOUNT, Keys, Neighbours, OTHER_ACCOUNT, Reply, signed};

const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
const BODY: &[u8] = b"Action=GetCallerIdentity&Version=2011-06-15";

/// Neighbours with the user `ann`, her keys, and the role `work` of the root account, which
/// trusts everybody in it.
pub(crate) struct Sts {
    pub(crate) neighbours: Neighbours,
    pub(crate) ann: Keys,
    role: String,
}

impl Sts {
    pub(crate) async fn start() -> Self {
        let neighbours = Neighbours::start().await;
        let role = format!("arn:aws:iam::{ACCOUNT}:role/work");
        let sts = Self { neighbours, ann: Keys::root(), role };
        sts.iam("CreateUser", &[("UserName", "ann")]).await;
        let trust = Self::trust(&format!(r#"{{"AWS":"{ACCOUNT}"}}"#), "{}");
        sts.iam("CreateRole", &[("RoleName", "work"), ("AssumeRolePolicyDocument", &trust)]).await;
        let ann = sts.iam("CreateAccessKey", &[("UserName", "ann")]).await.keys();
        Self { ann, ..sts }
    }

    pub(crate) async fn iam(&self, action: &str, members: &[(&str, &str)]) -> Reply {
        self.neighbours.query(&Keys::root(), "iam", action, members).await.ok()
    }

    async fn call(&self, keys: &Keys, action: &str, members: &[(&str, &str)]) -> Reply {
        self.neighbours.query(keys, "sts", action, members).await
    }

    fn trust(principal: &str, condition: &str) -> String {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{principal},"Action":["sts:AssumeRole","sts:TagSession"],"Condition":{condition}}}]}}"#
        )
    }

    async fn set_trust(&self, principal: &str, condition: &str) {
        let trust = Self::trust(principal, condition);
        self.iam("UpdateAssumeRolePolicy", &[("RoleName", "work"), ("PolicyDocument", &trust)]).await;
    }

    pub(crate) async fn may(&self, member: &str, name: &str, action: &str) {
        let document = format!(r#"{{"Statement":{{"Effect":"Allow","Action":{action},"Resource":"*"}}}}"#);
        let put = if member == "UserName" { "PutUserPolicy" } else { "PutRolePolicy" };
        self.iam(put, &[(member, name), ("PolicyName", "p"), ("PolicyDocument", &document)]).await;
    }

    pub(crate) async fn assume(&self, keys: &Keys, more: &[(&str, &str)]) -> Reply {
        let members: Vec<_> = [("RoleArn", self.role.as_str()), ("RoleSessionName", "s1")]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        self.call(keys, "AssumeRole", &members).await
    }

    pub(crate) async fn assume_is_refused(
        &self,
        keys: &Keys,
        more: &[(&str, &str)],
        status: u16,
        code: &str,
        says: &str,
    ) {
        let (found_status, found_code, message) = self.assume(keys, more).await.refusal();
        assert_eq!((found_status, found_code.as_str()), (status, code), "{message}");
        assert!(message.contains(says), "{message}");
    }
}

#[tokio::test]
async fn the_caller_learns_the_account_and_a_stranger_does_not() {
    let neighbours = Neighbours::start().await;
    let reply = neighbours.call("sts", "POST", "/", &FORM, BODY).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(reply.text().contains(&format!("<Account>{ACCOUNT}</Account>")));
    assert!(reply.headers.contains_key("x-amzn-requestid"));
    let wrong = neighbours.send(signed("other", "sts", "POST", "/", &FORM, BODY)).await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    assert!(wrong.text().contains("<Code>SignatureDoesNotMatch</Code>"));
    let unsigned = http::Request::post("/").header(FORM[0].0, FORM[0].1).body(BODY.to_vec().into()).unwrap();
    assert_eq!(neighbours.send(unsigned).await.refusal().1, "MissingAuthenticationToken");
    let for_iam = neighbours.call("iam", "POST", "/", &FORM, BODY).await;
    assert_eq!(for_iam.refusal().1, "InvalidAction", "another service has no such version");
}

#[tokio::test]
async fn a_service_that_is_not_here_is_named() {
    let neighbours = Neighbours::start().await;
    for (service, target) in [("lambda", "/2026-10-01/runtimes"), ("dynamodb", "/")] {
        let reply = neighbours.call(service, "GET", target, &[], b"").await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
        assert_eq!(reply.headers["x-amzn-errortype"], "UnknownOperationException");
        assert!(reply.text().contains(&format!("{target} of the service '{service}'")), "{}", reply.text());
    }
    let neighbours = Sts::start().await;
    for action in ["AssumeRoleWithSAML", "DecodeAuthorizationMessage", "GetFederationToken", "Nothing"] {
        let (status, code, message) = neighbours.call(&Keys::root(), action, &[]).await.refusal();
        assert_eq!((status, code.as_str()), (400, "InvalidAction"));
        assert_eq!(message, format!("The action {action} of STS is not served here."));
    }
}

#[tokio::test]
async fn everybody_learns_who_they_are() {
    let sts = Sts::start().await;
    let who = async |keys: &Keys| {
        let reply = sts.call(keys, "GetCallerIdentity", &[]).await.ok();
        (reply.field("Arn"), reply.field("UserId"), reply.field("Account"))
    };
    let account = ACCOUNT.to_owned();
    assert_eq!(
        who(&Keys::root()).await,
        (format!("arn:aws:iam::{ACCOUNT}:root"), account.clone(), account.clone())
    );
    let (arn, id, _) = who(&sts.ann).await;
    assert_eq!((arn, &id[..4]), (format!("arn:aws:iam::{ACCOUNT}:user/ann"), "AIDA"));
    assert_eq!(who(&Keys::other_root()).await.2, OTHER_ACCOUNT);
    sts.may("UserName", "ann", r#""sts:AssumeRole""#).await;
    let session = sts.assume(&sts.ann, &[]).await.ok();
    let (arn, id, _) = who(&session.keys()).await;
    assert_eq!((&arn, &id), (&session.field("Arn"), &session.field("AssumedRoleId")));
    assert_eq!(arn, format!("arn:aws:sts::{ACCOUNT}:assumed-role/work/s1"));
    assert!(id.starts_with("AROA") && id.ends_with(":s1"), "{id}");
}

#[tokio::test]
async fn a_role_is_assumed_by_whom_it_trusts_and_who_may() {
    let sts = Sts::start().await;
    sts.assume_is_refused(
        &Keys::root(),
        &[],
        403,
        "AccessDenied",
        "Roles may not be assumed by root accounts.",
    )
    .await;
    let says = format!("user/ann is not authorized to perform: sts:AssumeRole on resource: {}", sts.role);
    sts.assume_is_refused(&sts.ann, &[], 403, "AccessDenied", &says).await;
    sts.may("UserName", "ann", r#""sts:AssumeRole""#).await;
    sts.may("RoleName", "work", r#""iam:ListUsers""#).await;
    let keys = sts.assume(&sts.ann, &[]).await.ok().keys();
    assert!(keys.id.starts_with("ASIA"));

    // The session may what the role may, and what ann may is of no use to it.
    sts.neighbours.query(&keys, "iam", "ListUsers", &[]).await.ok();
    let (status, code, message) = sts.neighbours.query(&keys, "iam", "ListRoles", &[]).await.refusal();
    assert_eq!((status, code.as_str()), (403, "AccessDenied"));
    assert!(
        message.contains("assumed-role/work/s1 is not authorized to perform: iam:ListRoles"),
        "{message}"
    );
    sts.assume_is_refused(&keys, &[], 403, "AccessDenied", "not authorized").await;
    let without_token = Keys { token: None, ..keys.clone() };
    assert_eq!(sts.call(&without_token, "GetCallerIdentity", &[]).await.refusal().1, "InvalidClientTokenId");

    let ann = format!(r#"{{"AWS":"arn:aws:iam::{ACCOUNT}:user/eve"}}"#);
    sts.set_trust(&ann, "{}").await;
    sts.assume_is_refused(&sts.ann, &[], 403, "AccessDenied", "role trust policy").await;
    let gone = [("RoleArn", "arn:aws:iam::000000000000:role/never"), ("RoleSessionName", "s1")];
    let (status, code, message) = sts.call(&sts.ann, "AssumeRole", &gone).await.refusal();
    assert_eq!((status, code.as_str()), (403, "AccessDenied"), "{message}");

    // A deleted role is worth nothing in the hands of its sessions, also when
    // another of its name comes.
    sts.iam("DeleteRolePolicy", &[("RoleName", "work"), ("PolicyName", "p")]).await;
    sts.iam("DeleteRole", &[("RoleName", "work")]).await;
    let trust = Sts::trust("\"*\"", "{}");
    sts.iam("CreateRole", &[("RoleName", "work"), ("AssumeRolePolicyDocument", &trust)]).await;
    sts.may("RoleName", "work", r#""iam:ListUsers""#).await;
    assert_eq!(sts.neighbours.query(&keys, "iam", "ListUsers", &[]).await.refusal().0, 403);
}

#[tokio::test]
async fn a_role_of_another_account_needs_the_consent_of_both() {
    let sts = Sts::start().await;
    let there = Keys::other_root();
    let iam = async |action: &str, members: &[(&str, &str)]| {
        sts.neighbours.query(&there, "iam", action, members).await.ok()
    };
    iam("CreateUser", &[("UserName", "guest")]).await;
    let guest = iam("CreateAccessKey", &[("UserName", "guest")]).await.keys();
    let document = r#"{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}}"#;
    sts.assume_is_refused(&guest, &[], 403, "AccessDenied", "role trust policy").await;
    sts.set_trust(&format!(r#"{{"AWS":"{OTHER_ACCOUNT}"}}"#), "{}").await;
    sts.assume_is_refused(&guest, &[], 403, "AccessDenied", "identity-based policy").await;
    iam("PutUserPolicy", &[("UserName", "guest"), ("PolicyName", "p"), ("PolicyDocument", document)]).await;
    let session = sts.assume(&guest, &[]).await.ok();
    let who = sts.call(&session.keys(), "GetCallerIdentity", &[]).await.ok();
    assert_eq!(who.field("Account"), ACCOUNT);
}

#[tokio::test]
async fn conditions_of_the_trust_policy_see_the_parameters() {
    let sts = Sts::start().await;
    sts.may("UserName", "ann", r#""sts:*""#).await;
    let everybody = format!(r#"{{"AWS":"{ACCOUNT}"}}"#);
    let tags = |value| [("Tags.member.1.Key", "team"), ("Tags.member.1.Value", value)];
    let denied = async |more: &[(&str, &str)]| {
        sts.assume_is_refused(&sts.ann, more, 403, "AccessDenied", "role trust policy").await;
    };
    sts.set_trust(&everybody, r#"{"StringEquals":{"sts:ExternalId":"secret"}}"#).await;
    denied(&[]).await;
    denied(&[("ExternalId", "guess")]).await;
    sts.assume(&sts.ann, &[("ExternalId", "secret")]).await.ok();
    sts.set_trust(&everybody, r#"{"StringEquals":{"aws:RequestTag/team":"red"}}"#).await;
    denied(&[]).await;
    denied(&tags("blue")).await;
    sts.assume(&sts.ann, &tags("red")).await.ok();
    sts.set_trust(&everybody, r#"{"StringLike":{"sts:RoleSessionName":"t*"}}"#).await;
    denied(&[]).await;

    // To pass tags is an action of its own.
    sts.set_trust(&everybody, "{}").await;
    sts.may("UserName", "ann", r#""sts:AssumeRole""#).await;
    sts.assume(&sts.ann, &[]).await.ok();
    sts.assume_is_refused(&sts.ann, &tags("red"), 403, "AccessDenied", "sts:TagSession").await;
}

#[tokio::test]
async fn the_account_of_a_key_is_told_to_who_may_know() {
    let sts = Sts::start().await;
    let key = [("AccessKeyId", sts.ann.id.as_str())];
    assert_eq!(sts.call(&sts.ann, "GetAccessKeyInfo", &key).await.refusal().1, "AccessDenied");
    assert_eq!(sts.call(&Keys::other_root(), "GetAccessKeyInfo", &key).await.ok().field("Account"), ACCOUNT);
    let unknown =
        sts.call(&Keys::root(), "GetAccessKeyInfo", &[("AccessKeyId", "AKIA0000000000000000")]).await;
    assert_eq!(unknown.refusal().1, "ValidationError");
}

#[tokio::test]
async fn a_call_may_be_a_query_string() {
    let sts = Sts::start().await;
    let target = "/?Action=GetCallerIdentity&Version=2011-06-15";
    let reply = sts.neighbours.send(sts.ann.sign("sts", "GET", target, &[], b"")).await.ok();
    assert_eq!(reply.field("Account"), ACCOUNT);
}

/// The kind: rights that outlive their owner.
#[tokio::test]
async fn who_is_deleted_assumes_nothing_and_the_next_of_the_name_does_not_inherit() {
    let sts = Sts::start().await;
    let named = format!(r#"{{"AWS":"arn:aws:iam::{ACCOUNT}:user/ann"}}"#);
    sts.set_trust(&named, "{}").await;
    let session = sts.call(&sts.ann, "GetSessionToken", &[]).await.ok().keys();
    let work = sts.assume(&session, &[]).await.ok().keys();
    sts.call(&work, "GetCallerIdentity", &[]).await.ok();
    sts.iam("DeleteAccessKey", &[("UserName", "ann"), ("AccessKeyId", &sts.ann.id)]).await;
    sts.call(&session, "GetCallerIdentity", &[]).await.ok();
    sts.iam("DeleteUser", &[("UserName", "ann")]).await;
    for keys in [&sts.ann, &session, &work] {
        for action in ["GetCallerIdentity", "AssumeRole"] {
            let members = [("RoleArn", sts.role.as_str()), ("RoleSessionName", "ghost")];
            let members: &[_] = if action == "AssumeRole" { &members } else { &[] };
            let (status, code, _) = sts.call(keys, action, members).await.refusal();
            assert_eq!((status, code.as_str()), (403, "InvalidClientTokenId"), "{action}");
        }
    }
    sts.iam("CreateUser", &[("UserName", "ann")]).await;
    let next = sts.iam("CreateAccessKey", &[("UserName", "ann")]).await.keys();
    sts.assume_is_refused(&next, &[], 403, "AccessDenied", "role trust policy").await;
    for keys in [&session, &work] {
        let (_, code, _) = sts.call(keys, "GetCallerIdentity", &[]).await.refusal();
        assert_eq!(code, "InvalidClientTokenId");
    }
    sts.set_trust(&named, "{}").await;
    sts.assume(&next, &[]).await.ok();
    // A new name is not a new user.
    sts.iam("UpdateUser", &[("UserName", "ann"), ("NewUserName", "eve")]).await;
    sts.assume(&next, &[]).await.ok();
}
