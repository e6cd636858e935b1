//! When sessions end, and what they may do.

use super::*;

#[tokio::test]
async fn sessions_end_and_have_no_more_rights_than_their_user() {
    let store = Store::temporary().await.unwrap();
    let identities = open(&store).await;
    put(&identities, |account| account.put_user(user("AIDA1", may_run()))).await;
    let of = SessionOf::User { name: "Ann".into(), id: "AIDA1".into() };
    let session = Session::new(account(), of.clone(), None, 900);
    let key = session.access_key.clone();
    identities.add_session(session).await.unwrap();
    assert_eq!(refusal(&identities, &caller(&identities, &key)), None);
    assert!(identities.credential(&key).unwrap().session_token.is_some());
    let again = open(&store).await;
    assert_eq!(refusal(&again, &caller(&again, &key)), None, "sessions survive a restart");

    // Another user of the same name does not inherit the session.
    let ann = caller(&identities, &key);
    put(&identities, |account| account.put_user(user("AIDA2", may_run()))).await;
    assert!(refusal(&identities, &ann).is_some(), "not even when it was authenticated before");
    assert_eq!(identities.credential(&key), Err(Denial::UnknownAccessKey));
    put(&identities, |account| account.put_user(user("AIDA1", may_run()))).await;

    let mut over = Session::new(account(), of, Some(vec![]), 900);
    over.expires_at = Timestamp::from_millis(0);
    let over_key = over.access_key.clone();
    identities.add_session(over).await.unwrap();
    assert_eq!(identities.credential(&over_key), Err(Denial::ExpiredToken));
}

/// The kind: rights that outlive their owner.
#[tokio::test]
async fn no_session_outlives_anyone_it_came_from() {
    for (gone, unharmed) in [("ann", "build"), ("build", "ann")] {
        let store = Store::temporary().await.unwrap();
        let identities = open(&store).await;
        put(&identities, |account| account.put_user(user("AIDA1", may_run()))).await;
        put(&identities, |account| account.put_role(role("lambda.amazonaws.com", may_run()))).await;
        let start = async |of: SessionOf, caller: &Caller| {
            let session = Session::new(account(), of, None, 900).made_by(caller);
            let key = session.access_key.clone();
            identities.add_session(session).await.unwrap();
            key
        };
        let of_user = || SessionOf::User { name: "Ann".into(), id: "AIDA1".into() };
        let of_role = || SessionOf::Role { name: "build".into(), id: "AROA1".into(), session: "s".into() };
        let root = start(SessionOf::Root, &caller(&identities, "AKIAROOT")).await;
        let ann = start(of_user(), &caller(&identities, "AKIAUSER")).await;
        let build = start(of_role(), &caller(&identities, "AKIAROOT")).await;
        let chained = start(of_role(), &caller(&identities, &ann)).await;
        let twice = start(of_role(), &caller(&identities, &chained)).await;
        let late = caller(&identities, &twice);
        put(&identities, |account| match gone {
            "ann" => account.remove_user("Ann"),
            _ => account.remove_role("build"),
        })
        .await;
        let again = open(&store).await;
        for identities in [&identities, &again] {
            let works = |key: &str| identities.credential(key).is_ok();
            assert!(works(&root), "the root user is still there");
            assert_eq!((works(&ann), works(&build)), (unharmed == "ann", unharmed == "build"), "{gone}");
            assert!(!works(&chained) && !works(&twice), "chains end with {gone}");
            let (parts, ()) = http::Request::new(()).into_parts();
            assert!(identities.caller(&twice, &parts, jiff::Timestamp::now()).is_none());
        }
        assert!(refusal(&identities, &late).is_some(), "a request under way has no rights either");
        let session = Session::new(account(), of_role(), None, 900).made_by(&late);
        assert!(matches!(identities.add_session(session).await, Err(IdentityError::Gone)));
        // The same names come back with other ids.
        put(&identities, |account| account.put_user(user("AIDA2", may_run()))).await;
        put(&identities, |account| {
            account.put_role(Role { id: "AROA2".into(), ..role("lambda.amazonaws.com", may_run()) });
        })
        .await;
        for key in [&ann, &build, &chained, &twice] {
            assert_eq!(identities.credential(key), Err(Denial::UnknownAccessKey), "{key} after {gone}");
        }
        let other = RootKey { account: account(), access_key: "AKIANEW".into(), secret: "new".into() };
        let replaced = Identities::open(std::sync::Arc::new(store), vec![other]).await.unwrap();
        assert_eq!(replaced.credential(&root), Err(Denial::UnknownAccessKey), "a root key that was replaced");
    }
}

#[tokio::test]
async fn an_empty_list_of_session_policies_allows_nothing() {
    let identities = open(&Store::temporary().await.unwrap()).await;
    put(&identities, |account| account.put_user(user("AIDA1", may_run()))).await;
    let of = SessionOf::User { name: "Ann".into(), id: "AIDA1".into() };
    let session = Session::new(account(), of, Some(vec![]), 900);
    let key = session.access_key.clone();
    identities.add_session(session).await.unwrap();
    assert!(refusal(&identities, &caller(&identities, &key)).unwrap().contains("no session policy allows"));
}

#[test]
fn the_arn_of_a_session_is_that_of_its_role() {
    let principal = Principal::AssumedRole {
        account: account(),
        path: "/".into(),
        role: "build".into(),
        id: "AROA1".into(),
        session: "s".into(),
    };
    assert_eq!(principal.arn(), format!("arn:aws:sts::{ACCOUNT}:assumed-role/build/s"));
}
