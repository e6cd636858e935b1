//! IAM: users, access keys, roles and the account, each operation with its refusals.

use crate::support::{ACCOUNT, Keys, Neighbours, Reply};

pub(crate) const ALLOW: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;
pub(crate) const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}]}"#;

/// IAM of a root user.
pub(crate) struct Iam(pub(crate) Neighbours, pub(crate) Keys);

impl Iam {
    pub(crate) async fn start() -> Self {
        Self(Neighbours::start().await, Keys::root())
    }

    pub(crate) async fn call(&self, action: &str, members: &[(&str, &str)]) -> Reply {
        self.0.query(&self.1, "iam", action, members).await
    }

    pub(crate) async fn ok(&self, action: &str, members: &[(&str, &str)]) -> Reply {
        self.call(action, members).await.ok()
    }

    /// Status, code and message.
    pub(crate) async fn refused(&self, action: &str, members: &[(&str, &str)]) -> (u16, String, String) {
        self.call(action, members).await.refusal()
    }

    pub(crate) async fn is_refused(
        &self,
        action: &str,
        members: &[(&str, &str)],
        status: u16,
        code: &str,
        says: &str,
    ) {
        let (found_status, found_code, message) = self.refused(action, members).await;
        assert_eq!((found_status, found_code.as_str()), (status, code), "{action}: {message}");
        assert!(message.contains(says), "{action}: {message}");
    }

    pub(crate) async fn user(&self, name: &str) {
        self.ok("CreateUser", &[("UserName", name)]).await;
    }

    pub(crate) async fn role(&self, name: &str) {
        self.ok("CreateRole", &[("RoleName", name), ("AssumeRolePolicyDocument", TRUST)]).await;
    }

    /// ARN of a new policy.
    pub(crate) async fn policy(&self, name: &str) -> String {
        self.ok("CreatePolicy", &[("PolicyName", name), ("PolicyDocument", ALLOW)]).await.field("Arn")
    }
}

#[tokio::test]
async fn a_user_is_made_read_renamed_and_deleted() {
    let iam = Iam::start().await;
    let made = iam.ok("CreateUser", &[("UserName", "Ann"), ("Path", "/team/")]).await;
    assert_eq!(made.field("Arn"), format!("arn:aws:iam::{ACCOUNT}:user/team/Ann"));
    assert!(made.field("UserId").starts_with("AIDA"));
    assert!(made.text().starts_with(
        "<CreateUserResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><CreateUserResult><User>"
    ));
    assert!(made.text().ends_with("</RequestId></ResponseMetadata></CreateUserResponse>"));
    assert_eq!(made.field("RequestId"), made.headers["x-amzn-requestid"].to_str().unwrap());

    iam.is_refused(
        "CreateUser",
        &[("UserName", "aNN")],
        409,
        "EntityAlreadyExists",
        "User with name aNN already",
    )
    .await;
    assert_eq!(iam.ok("GetUser", &[("UserName", "ann")]).await.field("UserName"), "Ann");
    iam.is_refused(
        "GetUser",
        &[("UserName", "bob")],
        404,
        "NoSuchEntity",
        "The user with name bob cannot be found.",
    )
    .await;
    assert_eq!(iam.ok("GetUser", &[]).await.field("Arn"), format!("arn:aws:iam::{ACCOUNT}:root"));

    iam.user("bob").await;
    assert_eq!(iam.ok("ListUsers", &[("PathPrefix", "/team/")]).await.fields("UserName"), ["Ann"]);
    let taken = [("UserName", "ann"), ("NewUserName", "Bob")];
    iam.is_refused("UpdateUser", &taken, 409, "EntityAlreadyExists", "Bob").await;
    iam.ok("UpdateUser", &[("UserName", "ann"), ("NewUserName", "Eve"), ("NewPath", "/")]).await;
    let moved = iam.ok("GetUser", &[("UserName", "eve")]).await;
    assert_eq!(
        (moved.field("Arn"), moved.field("UserId")),
        (format!("arn:aws:iam::{ACCOUNT}:user/Eve"), made.field("UserId"))
    );
    iam.is_refused("GetUser", &[("UserName", "ann")], 404, "NoSuchEntity", "ann").await;
    assert_eq!(iam.ok("ListGroupsForUser", &[("UserName", "eve")]).await.field("IsTruncated"), "false");
    iam.ok("DeleteUser", &[("UserName", "eve")]).await;
    iam.is_refused("DeleteUser", &[("UserName", "eve")], 404, "NoSuchEntity", "eve").await;
}

#[tokio::test]
async fn a_user_has_two_access_keys_at_most() {
    let iam = Iam::start().await;
    iam.user("ann").await;
    let keys = iam.ok("CreateAccessKey", &[("UserName", "ann")]).await.keys();
    assert_eq!((keys.id.len(), &keys.id[..4], keys.secret.len()), (20, "AKIA", 40));
    iam.ok("CreateAccessKey", &[("UserName", "ann")]).await;
    iam.is_refused("CreateAccessKey", &[("UserName", "ann")], 409, "LimitExceeded", "AccessKeysPerUser: 2")
        .await;
    assert_eq!(iam.ok("ListAccessKeys", &[("UserName", "ann")]).await.fields("AccessKeyId").len(), 2);

    let whoami = |keys: Keys| {
        let neighbours = &iam.0;
        async move { neighbours.query(&keys, "sts", "GetCallerIdentity", &[]).await }
    };
    assert_eq!(whoami(keys.clone()).await.ok().field("Arn"), format!("arn:aws:iam::{ACCOUNT}:user/ann"));
    let set = |status| [("UserName", "ann"), ("AccessKeyId", keys.id.as_str()), ("Status", status)];
    iam.ok("UpdateAccessKey", &set("Inactive")).await;
    assert_eq!(whoami(keys.clone()).await.refusal().1, "InvalidClientTokenId");
    iam.is_refused("UpdateAccessKey", &set("Expired"), 400, "InvalidInput", "Expired").await;
    iam.is_refused("UpdateAccessKey", &set("active"), 400, "ValidationError", "[Active, Inactive, Expired]")
        .await;
    iam.ok("UpdateAccessKey", &set("Active")).await;
    whoami(keys.clone()).await.ok();

    iam.is_refused(
        "DeleteUser",
        &[("UserName", "ann")],
        409,
        "DeleteConflict",
        "must delete access keys first",
    )
    .await;
    iam.is_refused("CreateAccessKey", &[], 400, "ValidationError", "Must specify userName").await;
    let delete = [("UserName", "ann"), ("AccessKeyId", keys.id.as_str())];
    iam.ok("DeleteAccessKey", &delete).await;
    iam.is_refused("DeleteAccessKey", &delete, 404, "NoSuchEntity", &keys.id).await;
    assert_eq!(whoami(keys).await.refusal().0, 403);
}

#[tokio::test]
async fn a_role_is_made_read_changed_and_deleted() {
    let iam = Iam::start().await;
    let name = ("RoleName", "build");
    iam.is_refused("GetRole", &[name], 404, "NoSuchEntity", "The role with name build cannot be found.")
        .await;
    let made = [name, ("AssumeRolePolicyDocument", TRUST), ("Description", "a & b"), ("Path", "/x/")];
    let made = iam.ok("CreateRole", &made).await;
    assert_eq!(made.field("Arn"), format!("arn:aws:iam::{ACCOUNT}:role/x/build"));
    assert_eq!(
        (made.field("Description").as_str(), made.field("MaxSessionDuration").as_str()),
        ("a & b", "3600")
    );
    let again = [("RoleName", "BUILD"), ("AssumeRolePolicyDocument", TRUST)];
    iam.is_refused("CreateRole", &again, 409, "EntityAlreadyExists", "Role with name BUILD already exists.")
        .await;
    let read = iam.ok("GetRole", &[name]).await;
    let document = read.field("AssumeRolePolicyDocument");
    assert!(document.starts_with("%7B%22Version%22%3A%222012-10-17%22"), "{document}");
    let document = percent_encoding::percent_decode_str(&document).decode_utf8().unwrap().into_owned();
    assert_eq!(document, TRUST);

    let updated = iam.ok("UpdateRole", &[name, ("Description", "c"), ("MaxSessionDuration", "7200")]).await;
    assert!(updated.text().contains("<UpdateRoleResult></UpdateRoleResult>"), "botocore looks for it");
    let updated = iam.ok("UpdateRoleDescription", &[name, ("Description", "d")]).await;
    assert_eq!(
        (updated.field("Description").as_str(), updated.field("MaxSessionDuration").as_str()),
        ("d", "7200")
    );
    iam.is_refused(
        "UpdateRole",
        &[name, ("MaxSessionDuration", "60")],
        400,
        "ValidationError",
        "equal to 3600",
    )
    .await;
    let trust = TRUST.replace("lambda", "ec2");
    iam.ok("UpdateAssumeRolePolicy", &[name, ("PolicyDocument", &trust)]).await;
    assert!(iam.ok("GetRole", &[name]).await.field("AssumeRolePolicyDocument").contains("ec2"));
    let bad = [name, ("PolicyDocument", ALLOW)];
    iam.is_refused("UpdateAssumeRolePolicy", &bad, 400, "MalformedPolicyDocument", "must have a Principal")
        .await;
    let long = TRUST.replace("TagSession", &"T".repeat(2048));
    iam.is_refused(
        "UpdateAssumeRolePolicy",
        &[name, ("PolicyDocument", &long)],
        409,
        "LimitExceeded",
        "2048",
    )
    .await;

    assert_eq!(iam.ok("ListRoles", &[]).await.fields("RoleName"), ["build"]);
    assert_eq!(iam.ok("ListInstanceProfilesForRole", &[name]).await.field("IsTruncated"), "false");
    iam.ok("DeleteRole", &[name]).await;
    iam.is_refused("DeleteRole", &[name], 404, "NoSuchEntity", "build").await;
}

#[tokio::test]
async fn lists_have_pages() {
    let iam = Iam::start().await;
    for name in ["c", "A", "b"] {
        iam.user(name).await;
    }
    let first = iam.ok("ListUsers", &[("MaxItems", "2")]).await;
    assert_eq!(
        (first.fields("UserName"), first.field("IsTruncated").as_str()),
        (vec!["A".to_owned(), "b".into()], "true")
    );
    let rest = iam.ok("ListUsers", &[("MaxItems", "2"), ("Marker", &first.field("Marker"))]).await;
    assert_eq!(
        (rest.fields("UserName"), rest.field("IsTruncated").as_str()),
        (vec!["c".to_owned()], "false")
    );
    iam.is_refused("ListUsers", &[("Marker", "**")], 400, "ValidationError", "Invalid Marker").await;
    let summary = iam.ok("GetAccountSummary", &[]).await;
    assert!(summary.text().contains("<entry><key>Users</key><value>3</value></entry>"));
    assert_eq!(iam.ok("ListAccountAliases", &[]).await.field("IsTruncated"), "false");
}

#[tokio::test]
async fn there_are_so_many_users_and_roles_at_most() {
    let iam = Iam::start().await;
    iam.user("first").await;
    iam.role("first").await;
    // Making thousands one by one takes long.
    let fill = |account: &mut hearth_identity::Account| {
        let (user, role) = (account.user("first").unwrap().clone(), account.role("first").unwrap().clone());
        for n in 1..5000 {
            account.put_user(hearth_identity::User { name: format!("u{n}"), ..user.clone() });
        }
        for n in 1..1000 {
            account.put_role(hearth_identity::Role { name: format!("r{n}"), ..role.clone() });
        }
        Ok::<(), ()>(())
    };
    iam.0
        .identities
        .change(&hearth_api::AccountId::from_stored(ACCOUNT), fill)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    iam.is_refused("CreateUser", &[("UserName", "one-more")], 409, "LimitExceeded", "UsersPerAccount: 5000")
        .await;
    let role = [("RoleName", "one-more"), ("AssumeRolePolicyDocument", TRUST)];
    iam.is_refused("CreateRole", &role, 409, "LimitExceeded", "RolesPerAccount: 1000").await;
}

#[tokio::test]
async fn what_is_not_served_says_so() {
    let iam = Iam::start().await;
    iam.is_refused(
        "CreateGroup",
        &[("GroupName", "g")],
        400,
        "InvalidAction",
        "CreateGroup of IAM is not served here",
    )
    .await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for (body, code) in [
        ("Action=GetUser&Version=2011-06-15", "InvalidAction"),
        ("Action=GetUser", "InvalidAction"),
        ("Version=2010-05-08", "MissingAction"),
        ("Action=GetUser&Action=GetRole&Version=2010-05-08", "MalformedQueryString"),
    ] {
        let request = iam.1.sign("iam", "POST", "/", &form, body.as_bytes());
        assert_eq!(iam.0.send(request).await.field("Code"), code, "{body}");
    }
    // A call may also come as a query string.
    let request = iam.1.sign("iam", "GET", "/?Action=ListUsers&Version=2010-05-08", &[], b"");
    assert_eq!(iam.0.send(request).await.ok().field("IsTruncated"), "false");
}

#[tokio::test]
async fn accounts_do_not_see_each_other() {
    let iam = Iam::start().await;
    iam.user("ann").await;
    let arn = iam.policy("p").await;
    let other = Iam(iam.0, Keys::other_root());
    assert!(other.ok("ListUsers", &[]).await.fields("UserName").is_empty());
    other.is_refused("GetUser", &[("UserName", "ann")], 404, "NoSuchEntity", "ann").await;
    other.is_refused("GetPolicy", &[("PolicyArn", &arn)], 403, "AccessDenied", "not authorized").await;
    other.user("ann").await;
    let attach = [("UserName", "ann"), ("PolicyArn", arn.as_str())];
    other.is_refused("AttachUserPolicy", &attach, 404, "NoSuchEntity", "not attachable").await;
}

/// A root user's IAM with the user ann.
pub(crate) struct Rights {
    pub(crate) iam: Iam,
    pub(crate) ann: Keys,
}

impl Rights {
    pub(crate) async fn start() -> Self {
        let iam = Iam::start().await;
        iam.user("ann").await;
        let ann = iam.ok("CreateAccessKey", &[("UserName", "ann")]).await.keys();
        Self { iam, ann }
    }

    /// Gives ann one statement, and no other.
    pub(crate) async fn give(&self, statement: &str) {
        let document = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
        let put = [("UserName", "ann"), ("PolicyName", "p"), ("PolicyDocument", document.as_str())];
        self.iam.ok("PutUserPolicy", &put).await;
    }
}
