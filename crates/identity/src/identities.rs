//! All accounts, and whose signature a request bears.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use hearth_api::{AccountId, Timestamp};
use hearth_auth::Lookup;
use hearth_auth::sigv4::{Denial, SignedRequest, SigningKeys, check_head, check_scope, verify};
use hearth_records::{Identities as IdentityRecords, IdentityKind, IdentityRow, IdentityWrite, Versioned};
use http::header::{REFERER, USER_AGENT};

use crate::account::{Account, to_json};
use crate::caller::Caller;
use crate::directory::{Directory, KeyOf};
use crate::intake::Intake;
use crate::seldom::Seldom;
use crate::session::{MAXIMUM_ORIGINS, Session, distinct};
use crate::source::SourceAddress;

/// Rows that are removed in one transaction at the start.
const WRITTEN_AT_ONCE: usize = 1_000;

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
    Store(#[from] hearth_records::Error),
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
    /// Another process changed something at the same moment; nothing was written.
    #[error("the identities were changed by another process at the same moment")]
    Outdated,
    /// A session was to be made by way of more users and roles than are remembered.
    #[error("the session would depend on more than {MAXIMUM_ORIGINS} users and roles")]
    TooManyOrigins,
}

/// All accounts with their users, roles, policies, keys and sessions.
#[derive(Debug)]
pub struct Identities {
    store: Arc<dyn IdentityRecords>,
    pub(crate) directory: RwLock<Directory>,
    /// Changes come one after the other.
    changing: tokio::sync::Mutex<()>,
    signing_keys: SigningKeys,
    /// Region that requests are for.
    region: Arc<str>,
    pub(crate) intake: Arc<Intake>,
}

impl Identities {
    /// Reads what is stored. There are the accounts of `roots` and no others; what others once had
    /// stays stored and counts for nothing. Sessions that expired meanwhile are removed.
    pub async fn open(store: Arc<dyn IdentityRecords>, roots: Vec<RootKey>) -> Result<Self, IdentityError> {
        let (mut directory, expired) = load(&*store, roots).await?;
        for some in expired.chunks(WRITTEN_AT_ONCE) {
            // Another process that removes some meanwhile leaves the others to the next start.
            let Some(version) = store.write_identities(directory.version, some).await? else { break };
            directory.version = version;
        }
        let changing = tokio::sync::Mutex::default();
        let signing_keys = SigningKeys::default();
        let (directory, region) = (RwLock::new(directory), "us-east-1".into());
        Ok(Self { store, directory, changing, signing_keys, region, intake: Arc::default() })
    }

    /// Reads everything again if this is not the `version` of what is in memory: another process
    /// has changed something.
    pub async fn refresh(&self, version: u64) -> Result<(), IdentityError> {
        if self.read().version == version {
            return Ok(());
        }
        let _changing = self.changing.lock().await;
        self.read_again(version).await
    }

    /// With the right to make changes.
    async fn read_again(&self, version: u64) -> Result<(), IdentityError> {
        let roots = {
            let directory = self.read();
            // A change of our own that was made while the lock was waited for.
            if directory.version >= version {
                return Ok(());
            }
            directory.roots()
        };
        // What has expired or has to give way is removed by who made it so, or at the next start.
        let (directory, _) = load(&*self.store, roots).await?;
        *self.directory.write().unwrap_or_else(PoisonError::into_inner) = directory;
        Ok(())
    }

    /// Writes what was made of the state in memory; the new version.
    async fn write(&self, writes: &[IdentityWrite]) -> Result<u64, IdentityError> {
        let was = self.read().version;
        self.store.write_identities(was, writes).await?.ok_or(IdentityError::Outdated)
    }

    /// Makes these the identities of another Region than `us-east-1`.
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

    /// An account as it is now. Policies are evaluated on such a copy and never under the lock,
    /// because a writer that waits for the lock blocks all new readers.
    pub fn account(&self, id: &AccountId) -> Option<Arc<Account>> {
        self.read().accounts.get(id).cloned()
    }

    /// Changes an account: all that `change` did is stored and then visible; nothing when it
    /// refuses. `None` when there is no such account.
    pub async fn change<T, E>(
        &self,
        id: &AccountId,
        change: impl FnOnce(&mut Account) -> Result<T, E>,
    ) -> Result<Option<Result<T, E>>, IdentityError> {
        let _changing = self.changing.lock().await;
        self.read_again(self.store.identities_version().await?).await?;
        let Some(account) = self.account(id) else { return Ok(None) };
        let mut account = Account::clone(&account);
        let answer = match change(&mut account) {
            Ok(answer) => answer,
            Err(refused) => return Ok(Some(Err(refused))),
        };
        let writes = account.take_writes();
        let version = self.write(&writes).await?;
        let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
        directory.replace(account, &writes);
        directory.version = version;
        Ok(Some(Ok(answer)))
    }

    /// Puts temporary credentials in force. Some that have expired are forgotten. A holder with too
    /// many loses the oldest.
    pub async fn add_session(&self, session: Session) -> Result<(), IdentityError> {
        static TOLD: Seldom = Seldom::new();
        if session.origins.len() > MAXIMUM_ORIGINS {
            return Err(IdentityError::TooManyOrigins);
        }
        let row = IdentityRow {
            account: session.account.clone(),
            kind: IdentityKind::Session,
            name: session.access_key.clone(),
            value: to_json(&session),
        };
        let bytes = row.value.len();
        let _changing = self.changing.lock().await;
        self.read_again(self.store.identities_version().await?).await?;
        let ended = loop {
            let (expired, giving_way) = {
                let directory = self.read();
                if !directory.stands(&session) {
                    return Err(IdentityError::Gone);
                }
                (directory.expired(Timestamp::now()), directory.giving_way(&session, bytes))
            };
            if giving_way.is_empty() {
                break expired;
            }
            if expired.is_empty() {
                if TOLD.is_due() {
                    let (account, first) = (&session.account, session.origins.first());
                    tracing::warn!(%account, ?first, "there are too many temporary credentials; the oldest end");
                }
                break giving_way;
            }
            // None that is in force ends for one that is not.
            self.forget(&expired).await?;
        };
        let mut writes = vec![IdentityWrite::Put(row)];
        writes.extend(ended.iter().map(|session| removal(session)));
        let version = self.write(&writes).await?;
        let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
        directory.version = version;
        for session in ended {
            directory.remove_session(&session);
        }
        directory.insert_session(session, bytes);
        Ok(())
    }

    async fn forget(&self, sessions: &[Arc<Session>]) -> Result<(), IdentityError> {
        let removals: Vec<_> = sessions.iter().map(|session| removal(session)).collect();
        let version = self.write(&removals).await?;
        let mut directory = self.directory.write().unwrap_or_else(PoisonError::into_inner);
        directory.version = version;
        for session in sessions {
            directory.remove_session(session);
        }
        Ok(())
    }

    /// The secret of an access key, and the session token that has to come with it.
    pub fn credential(&self, access_key: &str) -> Lookup {
        self.read().credential(access_key)
    }

    /// Who calls with an access key whose signature was verified; `None` when it is
    /// nobody's by now.
    pub fn caller(
        &self,
        access_key: &str,
        parts: &http::request::Parts,
        at: jiff::Timestamp,
    ) -> Option<Caller> {
        self.caller_with(access_key, &parts.headers, parts.extensions.get(), at)
    }

    /// As [`Self::caller`], for who has the parts of the request one by one.
    pub fn caller_with(
        &self,
        access_key: &str,
        headers: &http::HeaderMap,
        source: Option<&SourceAddress>,
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

    /// Checks what the headers say of a signature before anything of the body is read: a key in
    /// force, at about `now`, for `service`.
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

    /// Checks no more than what is left for who verifies signatures of his own: that the headers,
    /// or the URL, are signed for `service`, at about `now`.
    pub fn check_scope(
        parts: &http::request::Parts,
        service: &str,
        now: jiff::Timestamp,
    ) -> Result<(), Denial> {
        let headers = headers(parts);
        check_scope(&signed_request(parts, &headers, &[]), service, now)
    }

    /// Verifies that a known key signed this request for `service` at about `now`.
    /// `body` is the whole body.
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

/// What is stored, and what of it is to be removed, as it has expired or there is no room for it.
async fn load(
    store: &dyn IdentityRecords,
    roots: Vec<RootKey>,
) -> Result<(Directory, Vec<IdentityWrite>), IdentityError> {
    let Versioned { version, value: rows } = store.identities().await?;
    let mut directory = Directory::default();
    directory.version = version;
    let mut accounts: BTreeMap<AccountId, Account> = BTreeMap::new();
    for root in roots {
        accounts.insert(root.account.clone(), Account::new(root.account.clone()));
        directory.keys.insert(root.access_key.clone(), KeyOf::Root(root));
    }
    let now = Timestamp::now();
    let mut sessions: Vec<(Session, usize)> = Vec::new();
    let mut expired: Vec<IdentityWrite> = Vec::new();
    for row in rows {
        let Some(account) = accounts.get_mut(&row.account) else { continue };
        let unreadable =
            |source| IdentityError::Unreadable { kind: row.kind, name: row.name.clone(), source };
        account.load(&row).map_err(unreadable)?;
        if row.kind == IdentityKind::Session {
            let mut session: Session = serde_json::from_str(&row.value).map_err(unreadable)?;
            session.origins = distinct(session.origins);
            if session.expires_at < now || session.origins.len() > MAXIMUM_ORIGINS {
                expired.push(removal(&session));
            } else {
                sessions.push((session, row.value.len()));
            }
        }
    }
    for (id, account) in accounts {
        directory.insert(id, account);
    }
    sessions.sort_by_key(|(session, _)| session.issued_at);
    for (session, bytes) in sessions {
        for ended in directory.giving_way(&session, bytes) {
            directory.remove_session(&ended);
            expired.push(removal(&ended));
        }
        directory.insert_session(session, bytes);
    }
    Ok((directory, expired))
}

/// Removes the row of a session.
fn removal(session: &Session) -> IdentityWrite {
    IdentityWrite::Delete {
        account: session.account.clone(),
        kind: IdentityKind::Session,
        name: session.access_key.clone(),
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
