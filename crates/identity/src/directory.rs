//! All principals at one moment, and the owners of access keys.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hearth_api::{AccountId, Timestamp};
use hearth_auth::sigv4::Denial;
use hearth_auth::{Credential, Lookup};
use hearth_iam::Principal;
use hearth_records::{IdentityKind, IdentityRow, IdentityWrite};

use crate::account::Account;
use crate::entities::{Role, Tags, User};
use crate::identities::RootKey;
use crate::session::{Origin, Session, SessionOf};
use crate::sessions::Sessions;

/// Whose an access key is.
#[derive(Debug, Clone)]
pub(crate) enum KeyOf {
    Root(RootKey),
    User { account: AccountId, name: String },
    Session(Arc<Session>),
}

/// What is known of everybody at a moment.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) accounts: BTreeMap<AccountId, Arc<Account>>,
    pub(crate) keys: HashMap<String, KeyOf>,
    sessions: Sessions,
    /// Of the records of which this was made.
    pub(crate) version: u64,
}

impl Directory {
    /// Puts a new account in force.
    pub(crate) fn insert(&mut self, id: AccountId, account: Account) {
        for user in account.users() {
            self.insert_keys(&id, user);
        }
        self.accounts.insert(id, Arc::new(account));
    }

    /// Puts an account in force instead of what it was before `writes`. Only the keys of users that
    /// they are about are looked at: there may be thousands, and everybody who calls waits for it.
    pub(crate) fn replace(&mut self, account: Account, writes: &[IdentityWrite]) {
        let id = account.id().clone();
        let users = || {
            writes.iter().filter_map(|write| match write {
                IdentityWrite::Put(IdentityRow { kind: IdentityKind::User, name, .. })
                | IdentityWrite::Delete { kind: IdentityKind::User, name, .. } => Some(name),
                _ => None,
            })
        };
        let before = self.accounts.insert(id.clone(), Arc::new(account));
        for user in users().filter_map(|name| before.as_ref()?.user(name)) {
            for key in &user.access_keys {
                self.keys.remove(&key.id);
            }
        }
        let Some(account) = self.accounts.get(&id).cloned() else { return };
        for user in users().filter_map(|name| account.user(name)) {
            self.insert_keys(&id, user);
        }
    }

    /// The keys of the accounts' root users, which are not recorded.
    pub(crate) fn roots(&self) -> Vec<RootKey> {
        let roots = self.keys.values().filter_map(|key| match key {
            KeyOf::Root(root) => Some(root.clone()),
            KeyOf::User { .. } | KeyOf::Session(_) => None,
        });
        roots.collect()
    }

    fn insert_keys(&mut self, account: &AccountId, user: &User) {
        for key in &user.access_keys {
            let of = KeyOf::User { account: account.clone(), name: user.name.clone() };
            self.keys.insert(key.id.clone(), of);
        }
    }

    /// Some sessions that ended before `now`.
    pub(crate) fn expired(&self, now: Timestamp) -> Vec<Arc<Session>> {
        self.sessions.expired(now).filter_map(|key| self.session(key)).collect()
    }

    /// Those that have to end so that there is room for `session`, whose row has this many bytes.
    pub(crate) fn giving_way(&self, session: &Session, bytes: usize) -> Vec<Arc<Session>> {
        let keys = self.sessions.giving_way(session, bytes);
        keys.into_iter().filter_map(|key| self.session(key)).collect()
    }

    fn session(&self, key: &str) -> Option<Arc<Session>> {
        match self.keys.get(key)? {
            KeyOf::Session(session) => Some(session.clone()),
            KeyOf::Root(_) | KeyOf::User { .. } => None,
        }
    }

    /// Puts a session in force whose row has this many bytes.
    pub(crate) fn insert_session(&mut self, session: Session, bytes: usize) {
        self.sessions.insert(&session, bytes);
        self.keys.insert(session.access_key.clone(), KeyOf::Session(Arc::new(session)));
    }

    /// Ends a session.
    pub(crate) fn remove_session(&mut self, session: &Session) {
        self.sessions.remove(session);
        self.keys.remove(&session.access_key);
    }

    pub(crate) fn account(&self, id: &AccountId) -> Option<&Account> {
        self.accounts.get(id).map(|account| &**account)
    }

    pub(crate) fn credential(&self, access_key: &str) -> Lookup {
        let unknown = || Denial::UnknownAccessKey;
        match self.keys.get(access_key).ok_or_else(unknown)? {
            KeyOf::Root(root) => Ok(Credential {
                secret: root.secret.clone(),
                account: root.account.clone(),
                session_token: None,
            }),
            KeyOf::User { account, name } => {
                let user =
                    self.account(account).and_then(|account| account.user(name)).ok_or_else(unknown)?;
                let key = user.access_keys.iter().find(|key| key.id == access_key && key.active);
                let secret = key.ok_or_else(unknown)?.secret.clone();
                Ok(Credential { secret, account: account.clone(), session_token: None })
            }
            KeyOf::Session(session) if session.expires_at < Timestamp::now() => Err(Denial::ExpiredToken),
            KeyOf::Session(session) if !self.stands(session) => Err(unknown()),
            KeyOf::Session(session) => Ok(Credential {
                secret: session.secret.clone(),
                account: session.account.clone(),
                session_token: Some(session.token.clone()),
            }),
        }
    }

    /// Account and principal behind a key; none for a session whose owner is gone.
    pub(crate) fn principal(&self, of: &KeyOf) -> Option<(AccountId, Principal)> {
        let (account, principal) = match of {
            KeyOf::Root(RootKey { account, .. }) => (account, Principal::Root { account: account.clone() }),
            KeyOf::User { account, name } => (account, self.account(account)?.user(name)?.principal()),
            KeyOf::Session(session) => (&session.account, self.session_principal(session)?),
        };
        Some((account.clone(), principal))
    }

    fn session_principal(&self, session: &Session) -> Option<Principal> {
        if !self.stands(session) {
            return None;
        }
        let account = session.account.clone();
        Some(match &session.of {
            SessionOf::Root => Principal::Root { account },
            SessionOf::User { name, id } => self.user(&account, name, id)?.principal(),
            SessionOf::Role { name, id, session } => self.role_with_id(&account, name, id)?.session(session),
        })
    }

    /// Tags of a user, or of a session's role.
    pub(crate) fn tags_of(&self, principal: &Principal) -> Tags {
        let account = principal.account().and_then(|account| self.account(account));
        account.map(|account| account.tags_of(principal)).unwrap_or_default()
    }

    /// The user of this name, unless it is another one by now.
    pub(crate) fn user(&self, account: &AccountId, name: &str, id: &str) -> Option<&User> {
        self.account(account)?.user_with_id(name, id)
    }

    /// The role of this name, unless it is another one by now.
    pub(crate) fn role_with_id(&self, account: &AccountId, name: &str, id: &str) -> Option<&Role> {
        self.account(account)?.role_with_id(name, id)
    }

    /// Whether everybody is still there whose rights a session has, or who asked for it.
    pub(crate) fn stands(&self, session: &Session) -> bool {
        let account = &session.account;
        let owner = match &session.of {
            SessionOf::Root => self.account(account).is_some(),
            SessionOf::User { name, id } => self.user(account, name, id).is_some(),
            SessionOf::Role { name, id, .. } => self.role_with_id(account, name, id).is_some(),
        };
        owner && session.origins.iter().all(|origin| self.has(origin))
    }

    fn has(&self, origin: &Origin) -> bool {
        match origin {
            Origin::RootKey(key) => matches!(self.keys.get(key), Some(KeyOf::Root(_))),
            Origin::User { account, name, id } => self.user(account, name, id).is_some(),
            Origin::Role { account, name, id } => self.role_with_id(account, name, id).is_some(),
        }
    }

    /// Whether a principal is still there.
    pub(crate) fn knows(&self, principal: &Principal) -> bool {
        match principal {
            Principal::Root { account } => self.account(account).is_some(),
            Principal::User { account, name, id, .. } => self.user(account, name, id).is_some(),
            Principal::AssumedRole { account, role, id, .. } => {
                self.role_with_id(account, role, id).is_some()
            }
            Principal::Service { .. } => true,
        }
    }
}
