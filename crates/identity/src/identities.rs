//! All accounts, and whose signature a request bears.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use hearth_api::{AccountId, Timestamp};
use hearth_auth::sigv4::{Denial, SignedRequest, SigningKeys, check_head, verify};
use hearth_auth::{Credential, Lookup};
use hearth_iam::Principal;
use hearth_store::{IdentityKind, IdentityRow, IdentityWrite, Store};
use http::header::{REFERER, USER_AGENT};

use crate::account::{Account, to_json};
use crate::caller::Caller;
use crate::entities::{Role, Tags, User};
use crate::intake::Intake;
use crate::session::{Origin, Session, SessionOf};

/// Key of an account's root user.
#[derive(Clone, PartialEq, Eq)]
pub struct RootKey {
    /// Account.
    pub account: AccountId,
    /// Access key.
    pub access_key: String,
    /// Secret access key.
    pub secret: String,
}

impl std::fmt::Debug for RootKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootKey").field("account", &self.account).finish_non_exhaustive()
    }
}

/// The identities could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] hearth_store::Error),
    /// A stored value does not fit its type.
    #[error("the database holds an unreadable {kind:?} {name}")]
    Unreadable {
        /// What it should be.
        kind: IdentityKind,
        /// Its key.
        name: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A session was to be made for, or by, a user or role that was deleted meanwhile.
    #[error("the user or role of the session was deleted")]
    Gone,
}

/// Whose an access key is.
#[derive(Debug, Clone)]
enum KeyOf {
    Root(RootKey),
    User { account: AccountId, name: String },
    Session(Arc<Session>),
}

#[derive(Debug, Default)]
pub(crate) struct Directory {
    accounts: BTreeMap<AccountId, Arc<Account>>,
    keys: HashMap<String, KeyOf>,
}

/// All accounts with their users, roles, policies, keys and sessions.
#[derive(Debug)]
pub struct Identities {
    store: Store,
    directory: RwLock<Directory>,
    /// Changes come one after the other.
    changing: tokio::sync::Mutex<()>,
    signing_keys: SigningKeys,
    /// Region that requests are for.
    region: Arc<str>,
    pub(crate) intake: Arc<Intake>,
}

impl Identities {
    /// Reads what is stored. There are the accounts of `roots` and no others; what others once had stays stored and
    /// counts for nothing.
    pub async fn open(store: Store, roots: Vec<RootKey>) -> Result<Self, IdentityError> {
        let mut directory = Directory::default();
        let mut accounts: BTreeMap<AccountId, Account> = BTreeMap::new();
        for root in roots {
            accounts.insert(root.account.clone(), Account::new(root.account.clone()));
            directory.keys.insert(root.access_key.clone(), KeyOf::Root(root));
        }
        for row in store.identities().await? {
            let Some(account) = accounts.get_mut(&row.account) else { continue };
            let unreadable =
                |source| IdentityError::Unreadable { kind: row.kind, name: row.name.clone(), source };
            account.load(&row).map_err(unreadable)?;
            if row.kind == IdentityKind::Session {
                let session: Session = serde_json::from_str(&row.value).map_err(unreadable)?;
                directory.keys.insert(row.name.clone(), KeyOf::Session(Arc::new(session)));
            }
        }
        for (_, account) in accounts {
            directory.put(account);
        }
        let changing = tokio::sync::Mutex::default();
        let signing_keys = SigningKeys::default();
        let (directory, region) = (RwLock::new(directory), "us-east-1".into());
        Ok(Self { store, directory, changing, signing_keys, region, intake: Arc::default() })
    }

    /// The same in another Region than `us-east-1`.
    #[must_use]
    pub fn in_region(self, region: &str) -> Self {
        Self { region: region.into(), ..self }
    }

    /// Region that requests are for.
    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// The budget of bodies whose signatures are still to be checked.
    pub fn intake(&self) -> &Arc<Intake> {
        &self.intake
    }

    /// An account as it is now.
    pub fn account(&self, id: &AccountId) -> Option<Arc<Account>> {
        self.read().accounts.get(id).cloned()
    }

    /// Changes an account: all that `change` did is stored and then visible; nothing when it refuses. `None` when there
    /// is no such account.
    pub async fn change<T, E>(
        &self,
        id: &AccountId,
        change: impl FnOnce(&mut Account) -> Result<T, E>,
    ) -> Result<Option<Result<T, E>>, IdentityError> {
        let _changing = self.changing.lock().await;
        let Some(account) = self.account(id) else { return Ok(None) };
        let mut account = Account::clone(&account);
        let answer = match change(&mut account) {
            Ok(answer) => answer,
            Err(refused) => return Ok(Some(Err(refused))),
        };
        self.store.write_identities(&account.take_writes()).await?;
        self.directory.write().unwrap_or_else(PoisonError::into_inner).put(account);
        Ok(Some(Ok(answer)))
    }

    /// Puts temporary credentials in force, and forgets those that have expired or whose owner was deleted.
    pub async fn add_session(&self, session: Session) -> Result<(), IdentityError> {
        let _changing = self.changing.lock().await;
        if !self.read().stands(&session) {
            return Err(IdentityError::Gone);
        }
        let now = Timestamp::now();
        let expired: Vec<Arc<Session>> = {
            let directory = self.read();
            let over = |session: &&Arc<Session>| session.expires_at < now || !directory.stands(session);
            directory.sessions().filter(over).cloned().collect()
        };
        let mut writes = vec![IdentityWrite::Put(IdentityRow {
            account: session.account.clone(),
            kind: IdentityKind::Session,
            name: session.access_key.clone(),
            value: to_json(&session),
        })];
        writes.extend(expired.iter().map(|session| IdentityWrite::Delete {
            account: session.account.clone(),
            kind: IdentityKind::Session,
            name: session.access_key.clone(),
        }));
        self.store.write_identities(&writes).await?;
        let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
        for session in expired {
            directory.keys.remove(&session.access_key);
        }
        directory.keys.insert(session.access_key.clone(), KeyOf::Session(Arc::new(session)));
        Ok(())
    }

    /// The secret of an access key, and the session token that has to come with it.
    pub fn credential(&self, access_key: &str) -> Lookup {
        self.read().credential(access_key)
    }

    /// Who calls with an access key whose signature was verified; `None` when it is nobody's by now.
    pub fn caller(
        &self,
        access_key: &str,
        parts: &http::request::Parts,
        at: jiff::Timestamp,
    ) -> Option<Caller> {
        self.caller_with(access_key, &parts.headers, parts.extensions.get().copied(), at)
    }

    /// As [`Self::caller`], for who has the parts of the request one by one.
    pub fn caller_with(
        &self,
        access_key: &str,
        headers: &http::HeaderMap,
        source: Option<SourceAddress>,
        at: jiff::Timestamp,
    ) -> Option<Caller> {
        let directory = self.read();
        let key = directory.keys.get(access_key)?;
        let (account, principal) = directory.principal(key)?;
        let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let mut tags = directory.tags_of(&principal);
        if let KeyOf::Session(session) = key {
            tags.extend(session.tags.clone());
        }
        Some(Caller {
            access_key: access_key.to_owned(),
            account,
            principal,
            session: match key {
                KeyOf::Session(session) => Some(session.clone()),
                _ => None,
            },
            source_ip: source.map(SourceAddress::ip),
            secure: source.is_some_and(|source| source.secure),
            user_agent: text(USER_AGENT),
            referer: text(REFERER),
            region: self.region.clone(),
            tags,
            at,
        })
    }

    /// Checks what the headers say of a signature before anything of the body is read: a key in force, at about `now`,
    /// for `service`.
    pub fn check_head(
        &self,
        parts: &http::request::Parts,
        service: &str,
        now: jiff::Timestamp,
    ) -> Result<(), Denial> {
        let headers = headers(parts);
        let request = signed_request(parts, &headers, &[]);
        check_head(&request, service, now, |key| self.credential(key))
    }

    /// Verifies that a known key signed this request for `service` at about `now`. `body` is the whole body.
    pub fn authenticate(
        &self,
        parts: &http::request::Parts,
        body: &[u8],
        service: &str,
        now: jiff::Timestamp,
    ) -> Result<Caller, Denial> {
        let headers = headers(parts);
        let request = signed_request(parts, &headers, body);
        let identity = verify(&request, service, now, &self.signing_keys, |key| self.credential(key))?;
        self.caller(&identity.access_key, parts, now).ok_or(Denial::UnknownAccessKey)
    }

    pub(crate) fn read(&self) -> std::sync::RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn headers(parts: &http::request::Parts) -> Vec<(&str, &[u8])> {
    parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

/// The request as signatures see it.
fn signed_request<'a>(
    parts: &'a http::request::Parts,
    headers: &'a [(&'a str, &'a [u8])],
    body: &'a [u8],
) -> SignedRequest<'a> {
    SignedRequest {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or(""),
        headers,
        body,
    }
}

/// Where a request came from; the server puts it into the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceAddress {
    /// Address of the client.
    pub address: IpAddr,
    /// Whether it came over TLS, to a proxy of ours.
    pub secure: bool,
}

impl SourceAddress {
    /// A client that came without TLS.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address: address.ip(), secure: false }
    }

    /// The address without its port.
    pub fn ip(self) -> IpAddr {
        self.address
    }
}

impl Directory {
    /// Puts an account in force, with the keys of its users instead of those it had.
    fn put(&mut self, account: Account) {
        let id = account.id().clone();
        self.keys.retain(|_, of| !matches!(of, KeyOf::User { account, .. } if *account == id));
        for user in account.users() {
            for key in &user.access_keys {
                let of = KeyOf::User { account: id.clone(), name: user.name.clone() };
                self.keys.insert(key.id.clone(), of);
            }
        }
        self.accounts.insert(id, Arc::new(account));
    }

    pub(crate) fn account(&self, id: &AccountId) -> Option<&Account> {
        self.accounts.get(id).map(|account| &**account)
    }

    fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.keys.values().filter_map(|of| match of {
            KeyOf::Session(session) => Some(session),
            _ => None,
        })
    }

    fn credential(&self, access_key: &str) -> Lookup {
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
    fn principal(&self, of: &KeyOf) -> Option<(AccountId, Principal)> {
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
        let tags = match principal {
            Principal::User { account, name, id, .. } => self.user(account, name, id).map(|user| &user.tags),
            Principal::AssumedRole { account, role, id, .. } => {
                self.role_with_id(account, role, id).map(|role| &role.tags)
            }
            Principal::Root { .. } | Principal::Service { .. } => None,
        };
        tags.cloned().unwrap_or_default()
    }

    /// The user of this name, unless it is another one by now.
    pub(crate) fn user(&self, account: &AccountId, name: &str, id: &str) -> Option<&User> {
        self.account(account)?.user(name).filter(|user| user.id == id)
    }

    /// The role of this name, unless it is another one by now.
    pub(crate) fn role_with_id(&self, account: &AccountId, name: &str, id: &str) -> Option<&Role> {
        self.account(account)?.role(name).filter(|role| role.id == id)
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
