//! IAM: condition keys that its operations add, and operations that need more than one permission.

use crate::iam::{ALLOW, Rights, TRUST};
use crate::support::ACCOUNT;

impl Rights {
    /// Gives her these actions under a condition.
    async fn give_if(&self, actions: &str, condition: &str) {
        let statement = r#"{"Effect":"Allow","Resource":"*","Action":"#;
        self.give(&format!(r#"{statement}{actions},"Condition":{condition}}}"#)).await;
    }

    async fn may(&self, action: &str, members: &[(&str, &str)]) {
        self.iam.0.query(&self.ann, "iam", action, members).await.ok();
    }

    async fn may_not(&self, action: &str, members: &[(&str, &str)], says: &str) {
        let (status, code, message) = self.iam.0.query(&self.ann, "iam", action, members).await.refusal();
        assert_eq!((status, code.as_str()), (403, "AccessDenied"), "{action}: {message}");
        assert!(message.contains(says), "{action}: {message}");
    }
}

#[tokio::test]
async fn which_policies_may_be_attached_can_be_limited() {
    let rights = Rights::start().await;
    rights.iam.role("work").await;
    let (good, other) = (rights.iam.policy("good").await, rights.iam.policy("other").await);
    let condition = format!(r#"{{"ArnEquals":{{"iam:PolicyARN":"{good}"}}}}"#);
    rights.give_if(r#""iam:*RolePolicy""#, &condition).await;
    let role = ("RoleName", "work");
    rights.may("AttachRolePolicy", &[role, ("PolicyArn", &good)]).await;
    rights
        .may_not("AttachRolePolicy", &[role, ("PolicyArn", &other)], "iam:AttachRolePolicy on resource")
        .await;
    // To other operations the key is unknown.
    rights
        .may_not("PutRolePolicy", &[role, ("PolicyName", "p"), ("PolicyDocument", ALLOW)], "iam:PutRole")
        .await;
}

#[tokio::test]
async fn users_can_be_made_to_have_a_boundary() {
    let rights = Rights::start().await;
    let boundary = rights.iam.policy("boundary").await;
    let other = rights.iam.policy("other").await;
    let condition = format!(r#"{{"StringEquals":{{"iam:PermissionsBoundary":"{boundary}"}}}}"#);
    rights.give_if(r#""iam:*User*""#, &condition).await;
    let bob = ("UserName", "bob");
    rights.may_not("CreateUser", &[bob], "user/bob").await;
    rights.may_not("CreateUser", &[bob, ("PermissionsBoundary", &other)], "user/bob").await;
    rights.may("CreateUser", &[bob, ("PermissionsBoundary", &boundary)]).await;
    let document = [("PolicyName", "p"), ("PolicyDocument", ALLOW)];
    rights.may("PutUserPolicy", &[&[bob], &document[..]].concat()).await;
    rights.may_not("PutUserPolicy", &[&[("UserName", "ann")], &document[..]].concat(), "user/ann").await;
    rights.may_not("PutUserPermissionsBoundary", &[bob, ("PermissionsBoundary", &other)], "user/bob").await;
    rights.may_not("GetUser", &[bob], "iam:GetUser").await;
}

#[tokio::test]
async fn tags_of_the_request_and_of_the_resource_are_seen() {
    let rights = Rights::start().await;
    rights.iam.role("work").await;
    let role = ("RoleName", "work");
    let tag = |value| [role, ("Tags.member.1.Key", "team"), ("Tags.member.1.Value", value)];
    rights.give_if(r#""iam:TagRole""#, r#"{"StringEquals":{"aws:RequestTag/team":"red"}}"#).await;
    rights.may_not("TagRole", &tag("blue"), "iam:TagRole").await;
    rights.may("TagRole", &tag("red")).await;
    for prefix in ["aws", "iam"] {
        let condition = |value| format!(r#"{{"StringEquals":{{"{prefix}:ResourceTag/team":"{value}"}}}}"#);
        rights.give_if(r#""iam:GetRole""#, &condition("blue")).await;
        rights.may_not("GetRole", &[role], "iam:GetRole").await;
        rights.give_if(r#""iam:GetRole""#, &condition("red")).await;
        rights.may("GetRole", &[role]).await;
    }
    rights.give_if(r#""iam:UntagRole""#, r#"{"ForAnyValue:StringEquals":{"aws:TagKeys":["x"]}}"#).await;
    rights.may_not("UntagRole", &[role, ("TagKeys.member.1", "team")], "iam:UntagRole").await;
    rights.may("UntagRole", &[role, ("TagKeys.member.1", "x")]).await;
}

#[tokio::test]
async fn to_make_something_with_tags_is_to_tag_it() {
    let rights = Rights::start().await;
    let tags = [("Tags.member.1.Key", "k"), ("Tags.member.1.Value", "v")];
    for (kind, members) in [
        ("User", vec![("UserName", "new")]),
        ("Role", vec![("RoleName", "new"), ("AssumeRolePolicyDocument", TRUST)]),
        ("Policy", vec![("PolicyName", "new"), ("PolicyDocument", ALLOW)]),
    ] {
        let with_tags = [&members[..], &tags].concat();
        rights.give_if(&format!(r#""iam:Create{kind}""#), "{}").await;
        rights.may_not(&format!("Create{kind}"), &with_tags, &format!("iam:Tag{kind} on resource")).await;
        rights.give_if(&format!(r#"["iam:Create{kind}","iam:Tag{kind}"]"#), "{}").await;
        rights.may(&format!("Create{kind}"), &with_tags).await;
    }
}

#[tokio::test]
async fn paths_are_part_of_what_is_allowed() {
    let rights = Rights::start().await;
    rights.iam.ok("CreateUser", &[("UserName", "bob"), ("Path", "/team/")]).await;
    let resource = format!(r#""arn:aws:iam::{ACCOUNT}:user/team/*""#);
    rights.give(&format!(r#"{{"Effect":"Allow","Action":"iam:*","Resource":{resource}}}"#)).await;
    rights.may("GetUser", &[("UserName", "bob")]).await;
    rights.may_not("GetUser", &[("UserName", "nobody")], "user/nobody").await;
    rights.may("CreateUser", &[("UserName", "eve"), ("Path", "/team/")]).await;
    rights.may_not("CreateUser", &[("UserName", "max")], "user/max").await;
    // Nobody may be moved to where the caller has no say.
    let bob = ("UserName", "bob");
    rights.may_not("UpdateUser", &[bob, ("NewPath", "/"), ("NewUserName", "admin")], "user/admin").await;
    rights.may("UpdateUser", &[bob, ("NewUserName", "rob")]).await;
}
