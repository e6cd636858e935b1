//! IAM: inline and managed policies, boundaries and tags, each operation with its refusals.

use crate::iam::{ALLOW, Iam};
use crate::support::ACCOUNT;

#[tokio::test]
async fn inline_policies_of_users_and_roles() {
    let iam = Iam::start().await;
    iam.user("ann").await;
    iam.role("build").await;
    for (kind, member, name, limit) in
        [("User", "UserName", "ann", 2048), ("Role", "RoleName", "build", 10_240)]
    {
        let owner = (member, name);
        let policy = ("PolicyName", "p");
        let put = format!("Put{kind}Policy");
        let get = format!("Get{kind}Policy");
        iam.is_refused(&get, &[owner, policy], 404, "NoSuchEntity", "policy with name p cannot be found")
            .await;
        iam.ok(&put, &[owner, policy, ("PolicyDocument", ALLOW)]).await;
        iam.ok(&put, &[owner, policy, ("PolicyDocument", ALLOW)]).await;
        let read = iam.ok(&get, &[owner, policy]).await;
        assert_eq!((read.field(member).as_str(), read.field("PolicyName").as_str()), (name, "p"));
        assert!(read.field("PolicyDocument").starts_with("%7B"));
        assert_eq!(iam.ok(&format!("List{kind}Policies"), &[owner]).await.fields("member"), ["p"]);

        // All together must not be too long; white space does not count.
        let pad = limit - ALLOW.len() - r#"{"Id":"","Statement":}"#.len() - 74;
        let padded = |pad: usize| {
            let statement = r#"{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::b"}  "#;
            format!(r#"{{"Id":"{}","Statement":{statement}}}"#, "x".repeat(pad))
        };
        let fits = |text: &str| text.chars().filter(|c| !c.is_whitespace()).count() + ALLOW.len() <= limit;
        let most = (pad..pad + 100).take_while(|pad| fits(&padded(*pad))).last().unwrap();
        let other = ("PolicyName", "q");
        let says =
            format!("Maximum policy size of {limit} bytes exceeded for {} {name}", kind.to_lowercase());
        let over = padded(most + 1);
        iam.is_refused(&put, &[owner, other, ("PolicyDocument", &over)], 409, "LimitExceeded", &says).await;
        iam.ok(&put, &[owner, other, ("PolicyDocument", &padded(most))]).await;

        iam.is_refused(
            &put,
            &[owner, policy, ("PolicyDocument", "{")],
            400,
            "MalformedPolicyDocument",
            "JSON",
        )
        .await;
        iam.is_refused(
            &format!("Delete{kind}"),
            &[owner],
            409,
            "DeleteConflict",
            "must delete policies first",
        )
        .await;
        let delete = format!("Delete{kind}Policy");
        iam.ok(&delete, &[owner, policy]).await;
        iam.is_refused(&delete, &[owner, policy], 404, "NoSuchEntity", "policy with name p").await;
        iam.ok(&delete, &[owner, other]).await;
        iam.ok(&format!("Delete{kind}"), &[owner]).await;
    }
}

#[tokio::test]
async fn a_managed_policy_has_up_to_five_versions() {
    let iam = Iam::start().await;
    let arn = iam.policy("Reader").await;
    assert_eq!(arn, format!("arn:aws:iam::{ACCOUNT}:policy/Reader"));
    let again = [("PolicyName", "reader"), ("PolicyDocument", ALLOW)];
    iam.is_refused(
        "CreatePolicy",
        &again,
        409,
        "EntityAlreadyExists",
        "A policy called reader already exists",
    )
    .await;
    let long = ALLOW.replace("s3:*", &format!("s3:{}", "x".repeat(6144)));
    let long = [("PolicyName", "long"), ("PolicyDocument", long.as_str())];
    iam.is_refused("CreatePolicy", &long, 409, "LimitExceeded", "PolicySize: 6144").await;

    let policy = ("PolicyArn", arn.as_str());
    let version = [policy, ("PolicyDocument", ALLOW)];
    assert_eq!(iam.ok("CreatePolicyVersion", &version).await.field("VersionId"), "v2");
    let third = [policy, ("PolicyDocument", ALLOW), ("SetAsDefault", "true")];
    assert_eq!(iam.ok("CreatePolicyVersion", &third).await.field("IsDefaultVersion"), "true");
    assert_eq!(iam.ok("GetPolicy", &[policy]).await.field("DefaultVersionId"), "v3");
    iam.ok("CreatePolicyVersion", &version).await;
    iam.ok("CreatePolicyVersion", &version).await;
    iam.is_refused("CreatePolicyVersion", &version, 409, "LimitExceeded", "up to 5 versions").await;
    let listed = iam.ok("ListPolicyVersions", &[policy, ("MaxItems", "3")]).await;
    assert_eq!(listed.fields("VersionId"), ["v5", "v4", "v3"]);
    let rest = iam.ok("ListPolicyVersions", &[policy, ("Marker", &listed.field("Marker"))]).await;
    assert_eq!(rest.fields("VersionId"), ["v2", "v1"]);

    let v = |id| [policy, ("VersionId", id)];
    assert!(iam.ok("GetPolicyVersion", &v("v1")).await.field("Document").starts_with("%7B"));
    iam.is_refused("DeletePolicyVersion", &v("v3"), 409, "DeleteConflict", "default version").await;
    iam.is_refused("GetPolicyVersion", &v("v9"), 404, "NoSuchEntity", "version v9 does not exist").await;
    iam.ok("SetDefaultPolicyVersion", &v("v1")).await;
    iam.is_refused("DeletePolicy", &[policy], 409, "DeleteConflict", "more than one version").await;
    for id in ["v2", "v3", "v4", "v5"] {
        iam.ok("DeletePolicyVersion", &v(id)).await;
    }
    // A number is never given again.
    assert_eq!(iam.ok("CreatePolicyVersion", &version).await.field("VersionId"), "v6");
    iam.ok("DeletePolicyVersion", &v("v6")).await;
    iam.ok("DeletePolicy", &[policy]).await;
    iam.is_refused("GetPolicy", &[policy], 404, "NoSuchEntity", "was not found").await;
    iam.is_refused(
        "GetPolicy",
        &[("PolicyArn", "no-arn-but-long-enough")],
        400,
        "InvalidInput",
        "is not valid",
    )
    .await;
}

#[tokio::test]
async fn policies_of_the_service_are_listed_and_cannot_be_changed() {
    let iam = Iam::start().await;
    iam.policy("Own").await;
    let names = async |scope| iam.ok("ListPolicies", &[("Scope", scope)]).await.fields("PolicyName");
    assert_eq!(names("Local").await, ["Own"]);
    let theirs = names("AWS").await;
    assert!(theirs.contains(&"AdministratorAccess".to_owned()));
    assert_eq!(names("All").await.len(), theirs.len() + 1);
    assert!(iam.ok("ListPolicies", &[("OnlyAttached", "true")]).await.fields("PolicyName").is_empty());
    let administrator = ("PolicyArn", "arn:aws:iam::aws:policy/AdministratorAccess");
    assert_eq!(iam.ok("GetPolicy", &[administrator]).await.field("PolicyName"), "AdministratorAccess");
    for (action, more) in [
        ("DeletePolicy", vec![]),
        ("CreatePolicyVersion", vec![("PolicyDocument", ALLOW)]),
        ("TagPolicy", vec![("Tags.member.1.Key", "k"), ("Tags.member.1.Value", "v")]),
    ] {
        let members: Vec<_> = [administrator].into_iter().chain(more).collect();
        iam.is_refused(action, &members, 403, "AccessDenied", "belongs to the service").await;
    }
}

#[tokio::test]
async fn managed_policies_are_attached_ten_at_most() {
    let iam = Iam::start().await;
    iam.user("ann").await;
    iam.role("build").await;
    let arn = iam.policy("shared").await;
    for (kind, owner) in [("User", ("UserName", "ann")), ("Role", ("RoleName", "build"))] {
        let attach = format!("Attach{kind}Policy");
        let detach = format!("Detach{kind}Policy");
        iam.ok(&attach, &[owner, ("PolicyArn", &arn)]).await;
        iam.ok(&attach, &[owner, ("PolicyArn", &arn)]).await;
        let listed = iam.ok(&format!("ListAttached{kind}Policies"), &[owner]).await;
        assert_eq!(
            (listed.fields("PolicyName"), listed.fields("PolicyArn")),
            (vec!["shared".to_owned()], vec![arn.clone()])
        );
        for n in 0..9 {
            let more = iam.policy(&format!("{kind}{n}")).await;
            iam.ok(&attach, &[owner, ("PolicyArn", &more)]).await;
        }
        let eleventh = iam.policy(&format!("{kind}-more")).await;
        let says = format!("PoliciesPer{kind}: 10");
        iam.is_refused(&attach, &[owner, ("PolicyArn", &eleventh)], 409, "LimitExceeded", &says).await;
        let gone = format!("{arn}-gone");
        iam.is_refused(&attach, &[owner, ("PolicyArn", &gone)], 404, "NoSuchEntity", "not attachable").await;
        iam.is_refused(&detach, &[owner, ("PolicyArn", &gone)], 404, "NoSuchEntity", "was not found").await;
        iam.is_refused(&format!("Delete{kind}"), &[owner], 409, "DeleteConflict", "must detach all policies")
            .await;
    }
    let policy = ("PolicyArn", arn.as_str());
    assert_eq!(iam.ok("GetPolicy", &[policy]).await.field("AttachmentCount"), "2");
    let entities = iam.ok("ListEntitiesForPolicy", &[policy]).await;
    assert_eq!(
        (entities.fields("UserName"), entities.fields("RoleName")),
        (vec!["ann".into()], vec!["build".into()])
    );
    let roles = iam.ok("ListEntitiesForPolicy", &[policy, ("EntityFilter", "Role")]).await;
    assert_eq!((roles.fields("UserName").len(), roles.fields("RoleName").len()), (0, 1));
    iam.is_refused("DeletePolicy", &[policy], 409, "DeleteConflict", "attached to entities").await;
    iam.ok("DetachUserPolicy", &[("UserName", "ann"), policy]).await;
    iam.ok("DetachRolePolicy", &[("RoleName", "build"), policy]).await;
    iam.ok("DeletePolicy", &[policy]).await;
}

#[tokio::test]
async fn boundaries_are_put_shown_and_keep_their_policy() {
    let iam = Iam::start().await;
    let arn = iam.policy("limit").await;
    let boundary = ("PermissionsBoundary", arn.as_str());
    iam.ok("CreateUser", &[("UserName", "ann"), boundary]).await;
    iam.role("build").await;
    for (kind, owner) in [("User", ("UserName", "ann")), ("Role", ("RoleName", "build"))] {
        let (put, delete) =
            (format!("Put{kind}PermissionsBoundary"), format!("Delete{kind}PermissionsBoundary"));
        iam.ok(&put, &[owner, boundary]).await;
        assert_eq!(iam.ok(&format!("Get{kind}"), &[owner]).await.field("PermissionsBoundaryArn"), arn);
        iam.is_refused("DeletePolicy", &[("PolicyArn", &arn)], 409, "DeleteConflict", "attached").await;
        let usage = [("PolicyArn", arn.as_str()), ("PolicyUsageFilter", "PermissionsBoundary")];
        assert_eq!(iam.ok("ListEntitiesForPolicy", &usage).await.fields(owner.0), [owner.1]);
        iam.ok(&delete, &[owner]).await;
        iam.is_refused(&delete, &[owner], 404, "NoSuchEntity", "has no permissions boundary").await;
        let gone = format!("{arn}-gone");
        iam.is_refused(&put, &[owner, ("PermissionsBoundary", &gone)], 404, "NoSuchEntity", "does not exist")
            .await;
    }
    iam.ok("DeletePolicy", &[("PolicyArn", &arn)]).await;
    iam.is_refused("CreateUser", &[("UserName", "bob"), boundary], 404, "NoSuchEntity", "Scope ARN").await;
}

#[tokio::test]
async fn tags_are_equal_without_regard_to_case() {
    let iam = Iam::start().await;
    iam.ok("CreateUser", &[("UserName", "ann"), ("Tags.member.1.Key", "Team"), ("Tags.member.1.Value", "a")])
        .await;
    iam.role("build").await;
    let arn = iam.policy("p").await;
    for (kind, owner) in [
        ("User", ("UserName", "ann")),
        ("Role", ("RoleName", "build")),
        ("Policy", ("PolicyArn", arn.as_str())),
    ] {
        let (tag, untag, list) = (format!("Tag{kind}"), format!("Untag{kind}"), format!("List{kind}Tags"));
        let new = [
            ("Tags.member.1.Key", "TEAM"),
            ("Tags.member.1.Value", "b"),
            ("Tags.member.2.Key", "x"),
            ("Tags.member.2.Value", ""),
        ];
        let members: Vec<_> = [owner].into_iter().chain(new).collect();
        iam.ok(&tag, &members).await;
        let listed = iam.ok(&list, &[owner]).await;
        assert_eq!(
            (listed.fields("Key"), listed.fields("Value")),
            (vec!["TEAM".to_owned(), "x".into()], vec!["b".to_owned(), String::new()])
        );
        let first = iam.ok(&list, &[owner, ("MaxItems", "1")]).await;
        let second = iam.ok(&list, &[owner, ("Marker", &first.field("Marker"))]).await;
        assert_eq!(
            (first.fields("Key"), second.fields("Key")),
            (vec!["TEAM".to_owned()], vec!["x".to_owned()])
        );
        assert_eq!(iam.ok(&format!("Get{kind}"), &[owner]).await.fields("Key").len(), 2);
        iam.ok(&untag, &[owner, ("TagKeys.member.1", "team")]).await;
        assert_eq!(iam.ok(&list, &[owner]).await.fields("Key"), ["x"]);
        let twice = [
            owner,
            ("Tags.member.1.Key", "k"),
            ("Tags.member.1.Value", ""),
            ("Tags.member.2.Key", "K"),
            ("Tags.member.2.Value", ""),
        ];
        iam.is_refused(&tag, &twice, 400, "InvalidInput", "Duplicate tag keys").await;
        let reserved = [owner, ("Tags.member.1.Key", "aws:k"), ("Tags.member.1.Value", "")];
        iam.is_refused(&tag, &reserved, 400, "InvalidInput", "reserved").await;
        let keys: Vec<String> = (1..=50).map(|n| format!("Tags.member.{n}.Key")).collect();
        let values: Vec<String> = keys.iter().map(|key| key.replace("Key", "Value")).collect();
        let many = keys
            .iter()
            .zip(&values)
            .flat_map(|(key, value)| [(key.as_str(), key.as_str()), (value.as_str(), "")]);
        let many: Vec<_> = [owner].into_iter().chain(many).collect();
        iam.is_refused(&tag, &many, 409, "LimitExceeded", "50").await;
    }
}
