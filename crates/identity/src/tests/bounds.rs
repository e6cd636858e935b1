//! What an account may take of what is there for all.

use hearth_records::{Identities as _, IdentityKind, IdentityRow, IdentityWrite};

use super::*;
use crate::account::to_json;
use crate::session::{MAXIMUM_ORIGINS, Origin};
use crate::sessions::MAXIMUM_OF_HOLDER;

async fn session_rows(store: &Store) -> usize {
    store.identities().await.unwrap().value.iter().filter(|row| row.kind == IdentityKind::Session).count()
}

/// The kind: sessions without number.
#[tokio::test]
async fn sessions_are_bounded_at_the_start_and_later_and_the_expired_are_removed() {
    let store = Store::temporary().await.unwrap();
    let now = Timestamp::now().as_millis();
    let sessions: Vec<Session> = (0..2_200)
        .map(|n| {
            let mut session = Session::new(account(), SessionOf::Root, None, 900);
            session.origins = vec![Origin::RootKey("AKIAROOT".into())];
            session.issued_at = Timestamp::from_millis(now - n);
            if n < 100 {
                session.expires_at = Timestamp::from_millis(1);
            }
            session
        })
        .collect();
    let row = |session: &Session| {
        IdentityWrite::Put(IdentityRow {
            account: account(),
            kind: IdentityKind::Session,
            name: session.access_key.clone(),
            value: to_json(session),
        })
    };
    store.write_identities(0, &sessions.iter().map(row).collect::<Vec<_>>()).await.unwrap();
    let identities = open(&store).await;
    let works = |n: usize| identities.credential(&sessions[n].access_key).is_ok();
    assert!(!works(0) && !works(99), "expired");
    assert!(works(100) && works(2_099), "the latest");
    assert!(!works(2_100) && !works(2_199), "the oldest");
    assert_eq!(session_rows(&store).await, MAXIMUM_OF_HOLDER);

    let root = caller(&identities, "AKIAROOT");
    let another = Session::new(account(), SessionOf::Root, None, 900).made_by(&root);
    let key = another.access_key.clone();
    identities.add_session(another).await.unwrap();
    assert!(identities.credential(&key).is_ok());
    assert!(!works(2_099) && works(2_098), "one gives way to one");
    assert_eq!(session_rows(&store).await, MAXIMUM_OF_HOLDER);
}

/// One that is in force does not end for those that are not any more.
#[tokio::test]
async fn the_expired_give_way_before_the_oldest() {
    let identities = open(&Store::temporary().await.unwrap()).await;
    let root = caller(&identities, "AKIAROOT");
    let session = |seconds| Session::new(account(), SessionOf::Root, None, seconds).made_by(&root);
    let mut oldest = session(43_200);
    oldest.issued_at = Timestamp::from_millis(1);
    let key = oldest.access_key.clone();
    identities.add_session(oldest).await.unwrap();
    for _ in 1..MAXIMUM_OF_HOLDER {
        let mut expired = session(900);
        expired.expires_at = Timestamp::from_millis(2);
        identities.directory.write().unwrap().insert_session(expired, 100);
    }
    identities.add_session(session(900)).await.unwrap();
    assert!(identities.credential(&key).is_ok());
}

/// The kind: what grows with each hop of a chain.
#[tokio::test]
async fn a_chain_of_one_role_stays_short_and_one_of_many_ends() {
    let identities = open(&Store::temporary().await.unwrap()).await;
    put(&identities, |account| {
        account.put_user(user("AIDA1", may_run()));
        for n in 0..20 {
            let role = role("lambda.amazonaws.com", may_run());
            account.put_role(Role { name: format!("r{n}"), id: format!("AROA{n}"), ..role });
        }
    })
    .await;
    let of =
        |n: usize| SessionOf::Role { name: format!("r{n}"), id: format!("AROA{n}"), session: "s".into() };
    let mut asking = caller(&identities, "AKIAUSER");
    for _ in 0..100 {
        let session = Session::new(account(), of(0), None, 900).made_by(&asking);
        assert!(session.origins.len() <= 2, "{:?}", session.origins);
        let key = session.access_key.clone();
        identities.add_session(session).await.unwrap();
        asking = caller(&identities, &key);
    }
    for n in 1..20 {
        let session = Session::new(account(), of(n), None, 900).made_by(&asking);
        let (count, key) = (session.origins.len(), session.access_key.clone());
        match identities.add_session(session).await {
            Ok(()) => asking = caller(&identities, &key),
            Err(refused) => {
                assert!(matches!(refused, IdentityError::TooManyOrigins), "{refused}");
                assert_eq!(count, MAXIMUM_ORIGINS + 1);
                return;
            }
        }
    }
    panic!("a chain without end");
}

/// The kind: names that are kept for ever.
#[tokio::test]
async fn names_of_deleted_roles_are_bounded_and_none_is_forgotten() {
    let store = Store::temporary().await.unwrap();
    let identities = open(&store).await;
    let stands = |identities: &Identities, name: &str| {
        let arn = format!("arn:aws:iam::{ACCOUNT}:role/{name}");
        identities.service_role(&use_of(&arn))
    };
    put(&identities, |account| (0..5_000).for_each(|n| account.remove_role(&format!("r{n}")))).await;
    assert_eq!(stands(&identities, "r0"), ServiceRole::Refused);
    assert_eq!(stands(&identities, "never"), ServiceRole::NeverMade);
    put(&identities, |account| (5_000..6_000).for_each(|n| account.remove_role(&format!("r{n}")))).await;
    let rows = store.identities().await.unwrap().value.len();
    assert_eq!(rows, 5_001, "a row for each name, and one for all others");
    for identities in [&identities, &open(&store).await] {
        for name in ["r0", "r5999", "never"] {
            assert_eq!(stands(identities, name), ServiceRole::Refused, "{name}");
        }
    }
    put(&identities, |account| account.put_role(role("lambda.amazonaws.com", may_run()))).await;
    assert_eq!(stands(&identities, "build"), ServiceRole::Assumable, "a new role is a role");
}

/// The kind: one decision that keeps a thread for minutes.
#[tokio::test]
async fn what_takes_too_long_is_denied_in_a_sentence() {
    let identities = open(&Store::temporary().await.unwrap()).await;
    let pattern = format!("*{}b", "a".repeat(5_000));
    let text = format!(
        r#"{{"Statement":{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{{"StringNotLike":{{"aws:UserAgent":"{pattern}"}}}}}}}}"#
    );
    let policies = Attachments { inline: [("p".to_owned(), policy(&text))].into(), ..Attachments::default() };
    put(&identities, |account| account.put_user(user("AIDA1", policies))).await;
    let mut ann = caller(&identities, "AKIAUSER");
    ann.user_agent = Some("curl".to_owned());
    assert_eq!(refusal(&identities, &ann), None);
    ann.user_agent = Some("a".repeat(60_000));
    assert!(refusal(&identities, &ann).unwrap().contains("take too long to evaluate"));
}

#[tokio::test]
async fn keys_follow_the_users_that_a_change_is_about() {
    let identities = open(&Store::temporary().await.unwrap()).await;
    let with_key = |name: &str, id: &str, key: &str| {
        let mut user = user(id, may_run());
        user.name = name.into();
        user.access_keys[0].id = key.into();
        user
    };
    put(&identities, |account| {
        account.put_user(with_key("Ann", "AIDA1", "AKIA1"));
        account.put_user(with_key("Bob", "AIDA2", "AKIA2"));
    })
    .await;
    let works = |keys: [&str; 3]| keys.map(|key| identities.credential(key).is_ok());
    put(&identities, |account| account.put_user(with_key("ANN", "AIDA1", "AKIA3"))).await;
    assert_eq!(works(["AKIA1", "AKIA2", "AKIA3"]), [false, true, true], "another key");
    put(&identities, |account| {
        account.put_user(with_key("Eve", "AIDA1", "AKIA3"));
        account.remove_user("Ann");
    })
    .await;
    assert_eq!(works(["AKIA1", "AKIA2", "AKIA3"]), [false, true, true], "another name");
    put(&identities, |account| {
        account.remove_user("Eve");
        account.remove_user("Bob");
    })
    .await;
    assert_eq!(works(["AKIA1", "AKIA2", "AKIA3"]), [false; 3]);
}
