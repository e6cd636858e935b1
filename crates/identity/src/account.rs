//! An account: what is in it, and how that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hearth_api::AccountId;
use hearth_store::{IdentityKind, IdentityRow, IdentityWrite};
use serde::Serialize;

use crate::entities::{ManagedPolicy, Role, User};
use crate::managed;

/// What is in an account. Names are unique without regard to case, so maps have them in lower case.
///
/// A change is made on a copy, which remembers what has to be written; see [`crate::Identities::change`].
#[derive(Debug, Clone)]
pub struct Account {
    id: AccountId,
    users: BTreeMap<String, Arc<User>>,
    roles: BTreeMap<String, Arc<Role>>,
    /// Names of roles that were deleted and not made again.
    gone_roles: BTreeSet<String>,
    policies: BTreeMap<String, Arc<ManagedPolicy>>,
    writes: Vec<IdentityWrite>,
}

impl Account {
    pub(crate) fn new(id: AccountId) -> Self {
        Self {
            id,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            gone_roles: BTreeSet::new(),
            policies: BTreeMap::new(),
            writes: Vec::new(),
        }
    }

    /// Takes in a row of the database.
    pub(crate) fn load(&mut self, row: &IdentityRow) -> Result<(), serde_json::Error> {
        let key = row.name.clone();
        match row.kind {
            IdentityKind::User => drop(self.users.insert(key, Arc::new(serde_json::from_str(&row.value)?))),
            IdentityKind::Role => drop(self.roles.insert(key, Arc::new(serde_json::from_str(&row.value)?))),
            IdentityKind::GoneRole => drop(self.gone_roles.insert(key)),
            IdentityKind::Policy => {
                drop(self.policies.insert(key, Arc::new(serde_json::from_str(&row.value)?)));
            }
            IdentityKind::Session => {}
        }
        Ok(())
    }

    /// What has to be written for the changes made so far.
    pub(crate) fn take_writes(&mut self) -> Vec<IdentityWrite> {
        std::mem::take(&mut self.writes)
    }

    /// Its number.
    pub fn id(&self) -> &AccountId {
        &self.id
    }

    /// Users in the order of their names.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values().map(|user| &**user)
    }

    /// A user.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(&name.to_lowercase()).map(|user| &**user)
    }

    /// Makes or replaces a user.
    pub fn put_user(&mut self, user: User) {
        let key = user.name.to_lowercase();
        self.write(IdentityKind::User, &key, &user);
        self.users.insert(key, Arc::new(user));
    }

    /// Removes a user with its access keys and inline policies.
    pub fn remove_user(&mut self, name: &str) {
        let key = name.to_lowercase();
        self.users.remove(&key);
        self.erase(IdentityKind::User, key);
    }

    /// Roles in the order of their names.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values().map(|role| &**role)
    }

    /// A role.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.get(&name.to_lowercase()).map(|role| &**role)
    }

    /// Makes or replaces a role.
    pub fn put_role(&mut self, role: Role) {
        let key = role.name.to_lowercase();
        if self.gone_roles.remove(&key) {
            self.erase(IdentityKind::GoneRole, key.clone());
        }
        self.write(IdentityKind::Role, &key, &role);
        self.roles.insert(key, Arc::new(role));
    }

    /// Removes a role; that it was there is remembered.
    pub fn remove_role(&mut self, name: &str) {
        let key = name.to_lowercase();
        self.roles.remove(&key);
        self.erase(IdentityKind::Role, key.clone());
        self.write(IdentityKind::GoneRole, &key, &());
        self.gone_roles.insert(key);
    }

    /// Whether a role of this name was deleted and not made again.
    pub(crate) fn role_is_gone(&self, name: &str) -> bool {
        self.gone_roles.contains(&name.to_lowercase())
    }

    /// The account's own managed policies in the order of their names.
    pub fn policies(&self) -> impl Iterator<Item = &ManagedPolicy> {
        self.policies.values().map(|policy| &**policy)
    }

    /// A managed policy by its ARN: the account's own, or one of those that are there from the start.
    pub fn policy(&self, arn: &str) -> Option<&ManagedPolicy> {
        if let Some(policy) = managed::policies().iter().find(|policy| policy.arn() == arn) {
            return Some(policy);
        }
        let name = arn.rsplit('/').next()?;
        self.policies.get(&name.to_lowercase()).map(|policy| &**policy).filter(|policy| policy.arn() == arn)
    }

    /// Managed policies that every account has (`arn:aws:iam::aws:policy/…`).
    pub fn policies_from_the_start(&self) -> &'static [ManagedPolicy] {
        managed::policies()
    }

    /// Makes or replaces a managed policy.
    pub fn put_policy(&mut self, policy: ManagedPolicy) {
        let key = policy.name.to_lowercase();
        self.write(IdentityKind::Policy, &key, &policy);
        self.policies.insert(key, Arc::new(policy));
    }

    /// Removes a managed policy. That nothing has it attached is the caller's to check.
    pub fn remove_policy(&mut self, name: &str) {
        let key = name.to_lowercase();
        self.policies.remove(&key);
        self.erase(IdentityKind::Policy, key);
    }

    fn write(&mut self, kind: IdentityKind, name: &str, value: &impl Serialize) {
        let value = to_json(value);
        let row = IdentityRow { account: self.id.clone(), kind, name: name.to_owned(), value };
        self.writes.push(IdentityWrite::Put(row));
    }

    fn erase(&mut self, kind: IdentityKind, name: String) {
        self.writes.push(IdentityWrite::Delete { account: self.id.clone(), kind, name });
    }
}

pub(crate) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("invariant: identities have text keys only")
}
