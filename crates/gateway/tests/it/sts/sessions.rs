//! How long sessions last and what they may do.

use super::*;

#[tokio::test]
async fn session_policies_limit_a_session() {
    let sts = Sts::start().await;
    sts.may("UserName", "ann", r#""sts:AssumeRole""#).await;
    sts.may("RoleName", "work", r#""iam:*""#).await;
    let policy = r#"{"Statement":{"Effect":"Allow","Action":"iam:ListRoles","Resource":"*"}}"#;
    let keys = sts.assume(&sts.ann, &[("Policy", policy)]).await.ok().keys();
    sts.neighbours.query(&keys, "iam", "ListRoles", &[]).await.ok();
    let (_, _, message) = sts.neighbours.query(&keys, "iam", "ListUsers", &[]).await.refusal();
    assert!(message.contains("no session policy allows"), "{message}");

    let managed = ("PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/IAMFullAccess");
    let keys = sts.assume(&sts.ann, &[("Policy", policy), managed]).await.ok().keys();
    sts.neighbours.query(&keys, "iam", "ListUsers", &[]).await.ok();
    assert_eq!(
        sts.neighbours
            .query(&keys, "sts", "GetAccessKeyInfo", &[("AccessKeyId", &keys.id)])
            .await
            .refusal()
            .0,
        403
    );

    let gone = [("PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/Gone")];
    sts.assume_is_refused(&sts.ann, &gone, 400, "ValidationError", "Gone").await;
    sts.assume_is_refused(&sts.ann, &[("Policy", "{")], 400, "MalformedPolicyDocument", "JSON").await;
    let long = policy.replace("ListRoles", &"x".repeat(2048));
    sts.assume_is_refused(&sts.ann, &[("Policy", &long)], 400, "PackedPolicyTooLarge", "2048").await;
    let names: Vec<String> = (1..=11).map(|n| format!("PolicyArns.member.{n}.arn")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), managed.1)).collect();
    sts.assume_is_refused(&sts.ann, &many, 400, "ValidationError", "not 11").await;
}

#[tokio::test]
async fn a_session_lasts_as_long_as_the_role_allows() {
    let sts = Sts::start().await;
    sts.may("UserName", "ann", r#""sts:AssumeRole""#).await;
    sts.may("RoleName", "work", r#""sts:AssumeRole""#).await;
    let lasts = async |keys: &Keys, seconds: &str| {
        let before = jiff::Timestamp::now();
        let end = sts.assume(keys, &[("DurationSeconds", seconds)]).await.ok().field("Expiration");
        end.parse::<jiff::Timestamp>().unwrap().as_second() - before.as_second()
    };
    assert!((899..=910).contains(&lasts(&sts.ann, "900").await));
    sts.assume_is_refused(&sts.ann, &[("DurationSeconds", "899")], 400, "ValidationError", "equal to 900")
        .await;
    sts.assume_is_refused(
        &sts.ann,
        &[("DurationSeconds", "3601")],
        400,
        "ValidationError",
        "exceeds the MaxSession",
    )
    .await;
    sts.iam("UpdateRole", &[("RoleName", "work"), ("MaxSessionDuration", "7200")]).await;
    assert!((7199..=7210).contains(&lasts(&sts.ann, "7200").await));
    let chained = sts.assume(&sts.ann, &[]).await.ok().keys();
    assert!((3599..=3610).contains(&lasts(&chained, "3600").await));
    sts.assume_is_refused(&chained, &[("DurationSeconds", "3601")], 400, "ValidationError", "role chaining")
        .await;
}

#[tokio::test]
async fn what_a_session_cannot_remember_is_refused() {
    let sts = Sts::start().await;
    sts.may("UserName", "ann", r#""sts:AssumeRole""#).await;
    for more in [
        [("SourceIdentity", "ann")],
        [("TransitiveTagKeys.member.1", "team")],
        [("ProvidedContexts.member.1.ContextAssertion", "abcd")],
    ] {
        sts.assume_is_refused(&sts.ann, &more, 400, "ValidationError", "is not supported here").await;
    }
    sts.assume_is_refused(&sts.ann, &[("TokenCode", "123456")], 403, "AccessDenied", "MultiFactor").await;
    let (_, code, message) =
        sts.call(&sts.ann, "AssumeRole", &[("RoleArn", "x"), ("RoleSessionName", "a b")]).await.refusal();
    assert_eq!(code, "ValidationError");
    assert!(message.starts_with("2 validation errors detected: Value 'x' at 'roleArn' failed"), "{message}");
}

#[tokio::test]
async fn session_tokens_have_the_rights_of_their_user_but_not_to_iam() {
    let sts = Sts::start().await;
    sts.may("UserName", "ann", r#"["iam:*","sts:*"]"#).await;
    let session = sts.call(&sts.ann, "GetSessionToken", &[]).await.ok();
    let keys = session.keys();
    let who = sts.call(&keys, "GetCallerIdentity", &[]).await.ok();
    assert_eq!(who.field("Arn"), format!("arn:aws:iam::{ACCOUNT}:user/ann"));
    assert_eq!(
        sts.neighbours.query(&keys, "iam", "ListUsers", &[]).await.refusal().1,
        "InvalidClientTokenId"
    );
    for (action, members) in
        [("GetSessionToken", vec![]), ("GetAccessKeyInfo", vec![("AccessKeyId", keys.id.as_str())])]
    {
        let (status, code, message) = sts.call(&keys, action, &members).await.refusal();
        assert_eq!((status, code.as_str()), (403, "AccessDenied"));
        assert_eq!(message, format!("Cannot call {action} with session credentials"));
    }
    let role = sts.assume(&keys, &[]).await.ok().keys();
    assert_eq!(sts.call(&role, "GetSessionToken", &[]).await.refusal().1, "AccessDenied");

    // The root user's lasts an hour at most.
    let root = sts.call(&Keys::root(), "GetSessionToken", &[("DurationSeconds", "7200")]).await.ok();
    let end: jiff::Timestamp = root.field("Expiration").parse().unwrap();
    assert!(end.as_second() - jiff::Timestamp::now().as_second() <= 3600);
    assert_eq!(sts.neighbours.query(&root.keys(), "iam", "ListUsers", &[]).await.refusal().0, 403);
    let (_, code, _) = sts
        .call(&root.keys(), "AssumeRole", &[("RoleArn", &sts.role), ("RoleSessionName", "s1")])
        .await
        .refusal();
    assert_eq!(code, "AccessDenied");
    let mfa = [("SerialNumber", "arn:aws:iam::1:mfa/x"), ("TokenCode", "123456")];
    assert_eq!(sts.call(&sts.ann, "GetSessionToken", &mfa).await.refusal().1, "AccessDenied");
}

#[tokio::test]
async fn a_session_that_has_expired_says_so() {
    let sts = Sts::start().await;
    let account = hearth_api::AccountId::from_stored(ACCOUNT);
    let mut session = hearth_identity::Session::new(account, hearth_identity::SessionOf::Root, None, 900);
    session.expires_at = hearth_api::Timestamp::from_millis(jiff::Timestamp::now().as_millisecond() - 1);
    let keys = Keys {
        id: session.access_key.clone(),
        secret: session.secret.clone(),
        token: Some(session.token.clone()),
    };
    sts.neighbours.identities.add_session(session).await.unwrap();
    let (status, code, _) = sts.call(&keys, "GetCallerIdentity", &[]).await.refusal();
    assert_eq!((status, code.as_str()), (403, "ExpiredToken"));
}
