//! Two processes on the same records.

use hearth_records::Identities as _;

use super::*;

/// As the server does it a few times a second.
async fn look(store: &Store, identities: &Identities) {
    identities.refresh(store.identities_version().await.unwrap()).await.unwrap();
}

fn named(name: &str) -> User {
    let mut user = User { name: name.to_owned(), ..user(&format!("AIDA{name}"), Attachments::default()) };
    user.access_keys[0].id = format!("AKIA{name}");
    user
}

#[tokio::test]
async fn what_one_takes_away_the_other_refuses() {
    let store = Store::temporary().await.unwrap();
    let (one, other) = (open(&store).await, open(&store).await);
    put(&one, |account| account.put_user(named("ann"))).await;
    assert!(other.credential("AKIAann").is_err(), "it has not looked yet");
    let session = Session::new(account(), SessionOf::Root, None, 900).made_by(&caller(&other, "AKIAROOT"));
    let session_key = session.access_key.clone();
    other.add_session(session).await.unwrap();
    assert!(other.credential("AKIAann").is_ok(), "a change is made of what is recorded");
    look(&store, &one).await;
    assert!(one.credential(&session_key).is_ok());

    let mut inactive = named("ann");
    inactive.access_keys[0].active = false;
    put(&one, |account| account.put_user(inactive)).await;
    look(&store, &other).await;
    assert_eq!(other.credential("AKIAann").err(), Some(Denial::UnknownAccessKey));

    put(&other, |account| account.remove_user("ann")).await;
    look(&store, &one).await;
    assert!(one.account(&account()).unwrap().user("ann").is_none());
    assert!(one.credential("AKIAROOT").is_ok(), "root users stay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_changes_at_once_both_are_made_or_one_is_told() {
    let store = Store::temporary().await.unwrap();
    let (one, other) = (open(&store).await, open(&store).await);
    for round in 0..20 {
        let name = |of: &str| format!("{of}{round}");
        let put = async |identities: &Identities, of: &str| {
            let change = |account: &mut crate::Account| {
                account.put_user(named(&name(of)));
                Ok::<(), ()>(())
            };
            match identities.change(&account(), change).await {
                Ok(made) => made.unwrap().is_ok(),
                Err(IdentityError::Outdated) => false,
                Err(error) => panic!("{error}"),
            }
        };
        let made = futures::join!(put(&one, "one"), put(&other, "other"));
        assert!(made.0 || made.1);
        for identities in [&one, &other] {
            look(&store, identities).await;
            let account = identities.account(&account()).unwrap();
            let has = |of: &str| account.user(&name(of)).is_some();
            assert_eq!((has("one"), has("other")), made, "round {round}");
        }
    }
}
