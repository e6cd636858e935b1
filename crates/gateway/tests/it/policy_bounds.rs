//! What policies may take in memory and in the database, apart from the characters that count.

use crate::iam::Iam;
use crate::sts::Sts;
use crate::support::ACCOUNT;

/// The kind: white space counts for nothing, so it must be bounded apart; and so must
/// what many policies take.
#[tokio::test]
async fn the_text_of_policies_is_bounded_with_its_white_space() {
    let iam = Iam::start().await;
    iam.user("ann").await;
    iam.role("build").await;
    let spaced = |bytes: usize| {
        let text = r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::"}}"#;
        text.replace(":::", &format!(":::{}", " ".repeat(bytes - text.len())))
    };
    let (user, role) = (("UserName", "ann"), ("RoleName", "build"));
    let (name, managed) = (("PolicyName", "p"), ("PolicyArn", format!("arn:aws:iam::{ACCOUNT}:policy/p")));
    let managed = (managed.0, managed.1.as_str());
    for (action, owner, limit) in [
        ("PutUserPolicy", vec![user, name], 2_048),
        ("PutRolePolicy", vec![role, name], 10_240),
        ("CreatePolicy", vec![name], 6_144),
        ("CreatePolicyVersion", vec![managed], 6_144),
    ] {
        let with = |text: &str| iam_members(&owner, text);
        let call = async |bytes: usize| {
            let members = with(&spaced(bytes));
            let members: Vec<_> = members.iter().map(|(name, text)| (*name, text.as_str())).collect();
            iam.call(action, &members).await
        };
        let (status, code, message) = call(4 * limit + 1).await.refusal();
        assert_eq!((status, code.as_str()), (409, "LimitExceeded"), "{action} {message}");
        assert!(message.contains(&format!("at most {} are allowed", 4 * limit)), "{message}");
        call(4 * limit).await.ok();
    }
    let trust = r#"{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Principal":"*"}}"#;
    let trust = trust.replace(":{", &format!(":{}{{", " ".repeat(8_192)));
    let members = [role, ("PolicyDocument", trust.as_str())];
    iam.is_refused("UpdateAssumeRolePolicy", &members, 409, "LimitExceeded", "at most 8192 are allowed")
        .await;

    // Each within its own limit, and too many together.
    let account = hearth_api::AccountId::from_stored(ACCOUNT);
    let fill = |account: &mut hearth_identity::Account| {
        let one = account.policy(managed.1).unwrap().clone();
        for n in 0..170 {
            account.put_policy(hearth_identity::ManagedPolicy { name: format!("q{n}"), ..one.clone() });
        }
        Ok::<(), ()>(())
    };
    iam.0.identities.change(&account, fill).await.unwrap().unwrap().unwrap();
    let more = spaced(20_000);
    let members = [("PolicyName", "r"), ("PolicyDocument", more.as_str())];
    let says = "at most 8388608 are allowed";
    iam.is_refused("CreatePolicy", &members, 409, "LimitExceeded", says).await;
    let members = [user, ("Tags.member.1.Key", "k"), ("Tags.member.1.Value", "v")];
    iam.is_refused("TagUser", &members, 409, "LimitExceeded", says).await;
    iam.ok("DeleteUserPolicy", &[user, name]).await;
}

fn iam_members<'a>(owner: &[(&'a str, &str)], text: &str) -> Vec<(&'a str, String)> {
    let owner = owner.iter().map(|(name, value)| (*name, (*value).to_owned()));
    owner.chain([("PolicyDocument", text.to_owned())]).collect()
}

/// The kind: a session keeps a copy of what is passed to it.
#[tokio::test]
async fn the_text_of_session_policies_is_bounded_with_its_white_space() {
    let sts = Sts::start().await;
    sts.may("UserName", "ann", r#""sts:AssumeRole""#).await;
    let text = r#"{"Statement":{"Effect":"Allow","Action":"iam:ListRoles","Resource":"arn:aws:iam:::"}}"#;
    let spaced = |bytes: usize| text.replace(":::", &format!(":::{}", " ".repeat(bytes - text.len())));
    let refused = async |members: &[(&str, &str)], says: &str| {
        sts.assume_is_refused(&sts.ann, members, 400, "PackedPolicyTooLarge", says).await;
    };
    sts.assume(&sts.ann, &[("Policy", &spaced(8_192))]).await.ok();
    refused(&[("Policy", &spaced(8_193))], "8192 bytes").await;
    refused(&[("Policy", &spaced(900_000))], "8192 bytes").await;

    let mut members = Vec::new();
    for n in 1..=3 {
        let name = format!("long{n}");
        sts.iam("CreatePolicy", &[("PolicyName", &name), ("PolicyDocument", &spaced(24_000))]).await;
        let arn = format!("arn:aws:iam::{ACCOUNT}:policy/{name}");
        members.push((format!("PolicyArns.member.{n}.arn"), arn));
    }
    let members: Vec<_> = members.iter().map(|(name, arn)| (name.as_str(), arn.as_str())).collect();
    sts.assume(&sts.ann, &members[..2]).await.ok();
    refused(&members, "65536 bytes").await;
}

/// The kind: what grows with each hop of a chain.
#[tokio::test]
async fn a_role_that_assumes_itself_again_and_again_stays_one() {
    let sts = Sts::start().await;
    sts.may("UserName", "ann", r#""sts:AssumeRole""#).await;
    sts.may("RoleName", "work", r#""sts:AssumeRole""#).await;
    let mut keys = sts.ann.clone();
    for _ in 0..20 {
        keys = sts.assume(&keys, &[]).await.ok().keys();
    }
    let (parts, ()) = http::Request::new(()).into_parts();
    let caller = sts.neighbours.identities.caller(&keys.id, &parts, jiff::Timestamp::now()).unwrap();
    assert_eq!(caller.session.unwrap().origins.len(), 2, "ann and the role");
}
