//! What callers may do after the identities changed, and after they were read again.

use std::collections::BTreeMap;

use hearth_api::{AccountId, Timestamp};
use hearth_auth::sigv4::Denial;
use hearth_iam::{DocumentKind, Principal};
use hearth_records::{LogActions, LogDestination, LogRights as _, WrittenFor};
use hearth_store_sqlite::Store;

mod bounds;
mod sessions;
mod shared;

use crate::entities::{Attachments, Tags};
use crate::service_role::ServiceRole;
use crate::{
    AccessKey, Caller, Identities, IdentityError, OnBehalf, Policy, PolicyLogRights, Role, RootKey, Session,
    SessionOf, User,
};

const ACCOUNT: &str = "111122223333";
const RUN: &str = "lambda:RunMicrovm";
const IMAGE: &str = "arn:aws:lambda:us-east-1:111122223333:microvm-image:app";
const ROLE: &str = "arn:aws:iam::111122223333:role/build";

fn account() -> AccountId {
    AccountId::from_stored(ACCOUNT)
}

async fn open(store: &Store) -> Identities {
    let root = RootKey { account: account(), access_key: "AKIAROOT".into(), secret: "root".into() };
    Identities::open(std::sync::Arc::new(store.clone()), vec![root]).await.unwrap()
}

fn policy(text: &str) -> Policy {
    Policy::parse(text, DocumentKind::Identity, 6144).unwrap()
}

fn may_run() -> Attachments {
    let text =
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"lambda:Run*","Resource":"*"}}"#;
    Attachments { inline: [("run".to_owned(), policy(text))].into(), ..Attachments::default() }
}

fn user(id: &str, policies: Attachments) -> User {
    let key = AccessKey {
        id: "AKIAUSER".into(),
        secret: "user".into(),
        active: true,
        created_at: Timestamp::now(),
    };
    User {
        account: account(),
        path: "/".into(),
        name: "Ann".into(),
        id: id.into(),
        created_at: Timestamp::now(),
        policies,
        access_keys: vec![key],
        tags: Tags::new(),
    }
}

fn role(service: &str, policies: Attachments) -> Role {
    let trust = format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{{"Service":"{service}"}}}}}}"#
    );
    Role {
        account: account(),
        path: "/".into(),
        name: "build".into(),
        id: "AROA1".into(),
        created_at: Timestamp::now(),
        trust: Policy::parse(&trust, DocumentKind::Trust, 2048).unwrap(),
        policies,
        description: None,
        maximum_session_seconds: 3600,
        tags: Tags::new(),
    }
}

fn use_of(role: &str) -> OnBehalf<'_> {
    static ACCOUNT_ID: std::sync::LazyLock<AccountId> = std::sync::LazyLock::new(account);
    OnBehalf { role, session: "s", account: &ACCOUNT_ID, source: IMAGE }
}

async fn put(identities: &Identities, put: impl FnOnce(&mut crate::Account)) {
    let change = |account: &mut crate::Account| {
        put(account);
        Ok::<(), ()>(())
    };
    assert_eq!(identities.change(&account(), change).await.unwrap(), Some(Ok(())));
}

fn caller(identities: &Identities, access_key: &str) -> Caller {
    let (parts, ()) = http::Request::new(()).into_parts();
    identities.caller(access_key, &parts, jiff::Timestamp::now()).unwrap()
}

fn refusal(identities: &Identities, caller: &Caller) -> Option<String> {
    identities.authorize(caller, &caller.request(RUN, IMAGE)).err().map(|error| error.message)
}

#[tokio::test]
async fn a_user_may_do_what_its_policies_say_also_after_a_restart() {
    let store = Store::temporary().await.unwrap();
    let identities = open(&store).await;
    assert_eq!(refusal(&identities, &caller(&identities, "AKIAROOT")), None);
    put(&identities, |account| account.put_user(user("AIDA1", Attachments::default()))).await;
    let ann = caller(&identities, "AKIAUSER");
    let denial = format!(
        "User: arn:aws:iam::{ACCOUNT}:user/Ann is not authorized to perform: {RUN} on resource: {IMAGE} because no \
         identity-based policy allows the {RUN} action"
    );
    assert_eq!(refusal(&identities, &ann), Some(denial));

    put(&identities, |account| account.put_user(user("AIDA1", may_run()))).await;
    assert_eq!(refusal(&identities, &ann), None, "a policy counts at once");
    let again = open(&store).await;
    assert_eq!(refusal(&again, &caller(&again, "AKIAUSER")), None);
    assert_eq!(again.credential("AKIAUSER").unwrap().secret, "user");
}

#[tokio::test]
async fn managed_policies_and_boundaries_count() {
    let identities = open(&Store::temporary().await.unwrap()).await;
    let everything = "arn:aws:iam::aws:policy/AdministratorAccess".to_owned();
    let mut policies = Attachments { managed: [everything.clone()].into(), ..Attachments::default() };
    put(&identities, |account| account.put_user(user("AIDA1", policies.clone()))).await;
    let ann = caller(&identities, "AKIAUSER");
    assert_eq!(refusal(&identities, &ann), None);
    for (boundary, allowed) in [
        (everything, true),
        ("arn:aws:iam::aws:policy/AmazonS3FullAccess".to_owned(), false),
        (format!("arn:aws:iam::{ACCOUNT}:policy/gone"), false),
    ] {
        policies.boundary = Some(boundary.clone());
        put(&identities, |account| account.put_user(user("AIDA1", policies.clone()))).await;
        assert_eq!(refusal(&identities, &ann).is_none(), allowed, "{boundary}");
    }
}

#[tokio::test]
async fn output_is_written_on_behalf_of_whoever_may_at_the_time() {
    let identities = std::sync::Arc::new(open(&Store::temporary().await.unwrap()).await);
    let rights = PolicyLogRights { identities: identities.clone(), region: "us-east-1".into() };
    let all = LogActions { create_group: true, create_stream: true };
    let tags = std::cell::RefCell::new(BTreeMap::new());
    let may = |written_for: WrittenFor, actions: LogActions| {
        let own = LogDestination::own(account(), "/audit".into(), "s".into());
        rights.may_write(&LogDestination { written_for, ..own }, actions, &tags.borrow()).is_ok()
    };
    let logs = |actions: &str| {
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":{actions},"Resource":"arn:aws:logs:*:{ACCOUNT}:log-group:/audit:*"}}}}"#
        );
        Attachments { inline: [("logs".to_owned(), policy(&text))].into(), ..Attachments::default() }
    };
    let root = || WrittenFor::Author(caller(&identities, "AKIAROOT").author());
    let by_role = || WrittenFor::Role(ROLE.into());
    assert!(may(root(), all) && may(by_role(), all), "a role that was never made stands for the account");
    assert!(!may(WrittenFor::Nobody, all));
    assert!(!may(WrittenFor::Role(ROLE.replace(ACCOUNT, "999999999999")), all));

    let put_actions = r#""logs:PutLogEvents""#;
    put(&identities, |account| account.put_role(role("lambda.amazonaws.com", logs(put_actions)))).await;
    assert!(may(by_role(), LogActions { create_group: false, create_stream: false }));
    assert!(!may(by_role(), LogActions { create_group: false, create_stream: true }));
    put(&identities, |account| account.put_role(role("lambda.amazonaws.com", logs(r#""logs:*""#)))).await;
    assert!(may(by_role(), all));
    put(&identities, |account| account.put_role(role("ec2.amazonaws.com", logs(r#""logs:*""#)))).await;
    assert!(!may(by_role(), all), "it does not trust the service any more");

    put(&identities, |account| account.put_user(user("AIDA1", may_run()))).await;
    let ann = caller(&identities, "AKIAUSER").author();
    assert!(!may(WrittenFor::Author(ann.clone()), all));
    put(&identities, |account| account.put_user(user("AIDA1", logs(r#""logs:*""#)))).await;
    assert!(may(WrittenFor::Author(ann.clone()), all));
    put(&identities, |account| account.put_user(user("AIDA2", logs(r#""logs:*""#)))).await;
    assert!(!may(WrittenFor::Author(ann), all), "another one of the name");

    // A group may say by its tags who writes to it.
    let tagged = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"logs:*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"a"}}}}"#;
    let inline = [("logs".to_owned(), policy(tagged))];
    let tagged = Attachments { inline: inline.into(), ..Attachments::default() };
    put(&identities, |account| account.put_user(user("AIDA3", tagged.clone()))).await;
    put(&identities, |account| account.put_role(role("lambda.amazonaws.com", tagged))).await;
    let ann = || WrittenFor::Author(caller(&identities, "AKIAUSER").author());
    assert!(!may(ann(), all) && !may(by_role(), all));
    tags.borrow_mut().insert("team".to_owned(), "a".to_owned());
    assert!(may(ann(), all) && may(by_role(), all));
}

#[tokio::test]
async fn a_role_serves_the_service_only_if_it_trusts_it() {
    let store = Store::temporary().await.unwrap();
    let identities = open(&store).await;
    let may =
        |identities: &Identities| identities.service_role_may(&use_of(ROLE), RUN, IMAGE, &BTreeMap::new());
    assert_eq!(identities.service_role(&use_of(ROLE)), ServiceRole::NeverMade);
    assert!(may(&identities));
    put(&identities, |account| account.put_role(role("ec2.amazonaws.com", may_run()))).await;
    assert_eq!(identities.service_role(&use_of(ROLE)), ServiceRole::Refused);
    put(&identities, |account| account.put_role(role("lambda.amazonaws.com", Attachments::default()))).await;
    assert_eq!(identities.service_role(&use_of(ROLE)), ServiceRole::Assumable);
    assert!(!may(&identities));
    put(&identities, |account| account.put_role(role("lambda.amazonaws.com", may_run()))).await;
    assert!(may(&identities));
    assert_eq!(identities.service_role(&use_of(&ROLE.replace("role/", "role/x/"))), ServiceRole::Refused);

    put(&identities, |account| account.remove_role("Build")).await;
    for identities in [&identities, &open(&store).await] {
        assert_eq!(
            identities.service_role(&use_of(ROLE)),
            ServiceRole::Refused,
            "what was deleted is not free for all"
        );
        assert!(!may(identities));
    }
    for other in ["arn:aws:iam::999999999999:role/build", "build", "arn:aws:iam::111122223333:user/build"] {
        assert_eq!(identities.service_role(&use_of(other)), ServiceRole::Refused, "{other}");
    }
}

#[tokio::test]
async fn only_an_unlimited_root_user_rules_and_only_over_its_own() {
    let identities = open(&Store::temporary().await.unwrap()).await;
    put(&identities, |account| account.put_user(user("AIDA1", may_run()))).await;
    let session = Session::new(account(), SessionOf::Root, Some(vec![]), 900);
    let key = session.access_key.clone();
    identities.add_session(session).await.unwrap();
    let root = caller(&identities, "AKIAROOT");
    for resource in [IMAGE, "*", "arn:aws:s3:::bucket"] {
        assert!(root.rules(resource), "{resource}");
        assert!(identities.authorize(&root, &root.request(RUN, resource)).is_ok());
        assert!(
            !caller(&identities, "AKIAUSER").rules(resource) && !caller(&identities, &key).rules(resource)
        );
    }
    assert!(!root.rules(&IMAGE.replace(ACCOUNT, "999999999999")));
}

/// Values of a key for whoever makes the request; every key of the table for everybody.
#[tokio::test]
async fn global_condition_keys_are_present_as_the_table_says() {
    use crate::conditions::{By, GLOBAL_KEYS, Present};
    let identities = open(&Store::temporary().await.unwrap()).await.in_region("eu-west-1");
    let tags: Tags = [("team".to_owned(), "a".to_owned())].into();
    put(&identities, |account| {
        account.put_user(User { tags: tags.clone(), ..user("AIDA1", may_run()) });
        account.put_role(Role { tags: tags.clone(), ..role("lambda.amazonaws.com", may_run()) });
    })
    .await;
    let start = async |of: SessionOf| {
        let mut session = Session::new(account(), of, None, 900);
        session.tags = [("stage".to_owned(), "test".to_owned())].into();
        let key = session.access_key.clone();
        identities.add_session(session).await.unwrap();
        key
    };
    let of_user = start(SessionOf::User { name: "Ann".into(), id: "AIDA1".into() }).await;
    let of_role =
        start(SessionOf::Role { name: "build".into(), id: "AROA1".into(), session: "s".into() }).await;
    let request = |key: &str| {
        let (mut parts, ()) = http::Request::builder()
            .header("user-agent", "test")
            .header("referer", "http://test")
            .body(())
            .unwrap()
            .into_parts();
        parts.extensions.insert(crate::SourceAddress::plain(([192, 0, 2, 1], 1).into()));
        let caller = identities.caller(key, &parts, jiff::Timestamp::now()).unwrap();
        // What the operations add where there is some.
        caller
            .request(RUN, IMAGE)
            .with("aws:TagKeys", ["k"])
            .with("aws:RequestTag/k", ["v"])
            .with("aws:ResourceTag/k", ["v"])
    };
    let service = {
        let directory = identities.read();
        let role = directory.role_with_id(&account(), "build", "AROA1").unwrap();
        use_of(ROLE).question(role, "eu-west-1")
    };
    let service_role = identities.role_request(&use_of(ROLE), RUN, IMAGE).unwrap();
    let service_role = service_role.with_resource_tags(&Tags::from([("k".to_owned(), "v".to_owned())]));
    for (by, request) in [
        (By::Root, request("AKIAROOT")),
        (By::User, request("AKIAUSER")),
        (By::UserSession, request(&of_user)),
        (By::RoleSession, request(&of_role)),
        (By::ServiceRole, service_role),
        (By::Service, service),
    ] {
        for (key, present) in GLOBAL_KEYS {
            let name = match *key {
                "aws:PrincipalTag/…" => "aws:PrincipalTag/team".to_owned(),
                key => key.replace('…', "k"),
            };
            let expected = matches!(present, Present::By(all, _) if all.contains(&by));
            assert_eq!(!request.values(&name).is_empty(), expected, "{key} of {by:?}");
        }
        assert_eq!(request.values("aws:RequestedRegion"), ["eu-west-1"]);
        assert_eq!(request.values("aws:ResourceAccount"), [ACCOUNT], "{by:?}");
    }
    let session = request(&of_role);
    assert_eq!(session.values("aws:PrincipalTag/stage"), ["test"]);
    assert_eq!(session.values("aws:MultiFactorAuthPresent"), ["false"]);
    let ann = caller(&identities, "AKIAUSER");
    assert_eq!(ann.request("iam:GetUser", "*").values("aws:RequestedRegion"), ["us-east-1"]);
    assert_eq!(ann.request("s3:ListAllMyBuckets", "*").values("aws:ResourceAccount"), [ACCOUNT]);
    let managed = "arn:aws:lambda:eu-west-1:aws:network-connector:aws-network-connector:ALL_INGRESS";
    assert!(ann.request("lambda:PassNetworkConnector", managed).values("aws:ResourceAccount").is_empty());
}

#[tokio::test]
async fn a_trust_policy_may_ask_for_account_and_resource_that_the_role_is_for() {
    let identities = open(&Store::temporary().await.unwrap()).await;
    for (condition, trusted) in [
        (format!(r#""StringEquals":{{"aws:SourceAccount":"{ACCOUNT}"}}"#), true),
        (r#""StringEquals":{"aws:SourceAccount":"999999999999"}"#.to_owned(), false),
        (format!(r#""ArnLike":{{"aws:SourceArn":"arn:aws:lambda:*:{ACCOUNT}:microvm-image:*"}}"#), true),
        (format!(r#""ArnLike":{{"aws:SourceArn":"arn:aws:lambda:*:{ACCOUNT}:microvm-image:other"}}"#), false),
        (r#""Null":{"aws:SourceOrgID":"true"},"Bool":{"aws:SecureTransport":"true"}"#.to_owned(), true),
    ] {
        let trust = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{{"Service":"lambda.amazonaws.com"}},"Condition":{{{condition}}}}}}}"#
        );
        let trust = Policy::parse(&trust, DocumentKind::Trust, 2048).unwrap();
        put(&identities, |account| account.put_role(Role { trust, ..role("x.example", may_run()) })).await;
        let expected = if trusted { ServiceRole::Assumable } else { ServiceRole::Refused };
        assert_eq!(identities.service_role(&use_of(ROLE)), expected, "{condition}");
        assert_eq!(
            identities.service_role_may(&use_of(ROLE), RUN, IMAGE, &BTreeMap::new()),
            trusted,
            "{condition}"
        );
    }
}
