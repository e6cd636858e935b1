//! An account: what is in it, and how that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hearth_api::AccountId;
use hearth_iam::Principal;
use hearth_records::{IdentityKind, IdentityRow, IdentityWrite};
use serde::Serialize;

use crate::entities::{Attachments, ManagedPolicy, Role, Tags, User};
use crate::managed;

/// Most bytes of what an account has: policies in all their versions and with their white space,
/// tags, descriptions, names. The quotas of AWS, each used up, would be a hundred times of what
/// anybody has, in memory for everybody on this machine.
pub const MAXIMUM_ACCOUNT_BYTES: usize = 8 << 20;
/// Deleted roles whose names are remembered.
const MAXIMUM_GONE_ROLES: usize = 5_000;
/// In place of a name, which has no such character: more roles were deleted than are remembered.
const ALL_GONE: &str = "*";

/// Names of roles that were deleted and not made again. Such a role must not stand for the account
/// as one does that never was, so nothing may be forgotten here; from some number on no role
/// stands for the account.
#[derive(Debug, Clone)]
enum GoneRoles {
    Some(Arc<BTreeSet<String>>),
    All,
}

/// What is in an account. Names are unique without regard to case, so maps have them in lower case.
///
/// A change is made on a copy, which remembers what has to be written; see
/// [`crate::Identities::change`].
#[derive(Debug, Clone)]
pub struct Account {
    id: AccountId,
    users: BTreeMap<String, Arc<User>>,
    roles: BTreeMap<String, Arc<Role>>,
    gone_roles: GoneRoles,
    policies: BTreeMap<String, Arc<ManagedPolicy>>,
    writes: Vec<IdentityWrite>,
}

impl Account {
    pub(crate) fn new(id: AccountId) -> Self {
        Self {
            id,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            gone_roles: GoneRoles::Some(Arc::default()),
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
            IdentityKind::GoneRole if key == ALL_GONE => self.gone_roles = GoneRoles::All,
            IdentityKind::GoneRole => {
                if let GoneRoles::Some(names) = &mut self.gone_roles {
                    Arc::make_mut(names).insert(key);
                }
            }
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
        if let GoneRoles::Some(names) = &mut self.gone_roles
            && names.contains(&key)
        {
            Arc::make_mut(names).remove(&key);
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
        match &mut self.gone_roles {
            GoneRoles::All => {}
            GoneRoles::Some(names) if names.len() < MAXIMUM_GONE_ROLES => {
                Arc::make_mut(names).insert(key.clone());
                self.write(IdentityKind::GoneRole, &key, &());
            }
            GoneRoles::Some(_) => {
                tracing::warn!(
                    account = %self.id,
                    "more than {MAXIMUM_GONE_ROLES} roles were deleted; roles that were never made are refused from now on"
                );
                self.gone_roles = GoneRoles::All;
                self.write(IdentityKind::GoneRole, ALL_GONE, &());
            }
        }
    }

    /// Whether a role of this name was deleted and not made again, or may have been.
    pub(crate) fn role_is_gone(&self, name: &str) -> bool {
        match &self.gone_roles {
            GoneRoles::Some(names) => names.contains(&name.to_lowercase()),
            GoneRoles::All => true,
        }
    }

    /// The user of this name, unless it is another one by now.
    pub(crate) fn user_with_id(&self, name: &str, id: &str) -> Option<&User> {
        self.user(name).filter(|user| user.id == id)
    }

    /// The role of this name, unless it is another one by now.
    pub(crate) fn role_with_id(&self, name: &str, id: &str) -> Option<&Role> {
        self.role(name).filter(|role| role.id == id)
    }

    /// Tags of a user, or of a session's role.
    pub(crate) fn tags_of(&self, principal: &Principal) -> Tags {
        let tags = match principal {
            Principal::User { name, id, .. } => self.user_with_id(name, id).map(|user| &user.tags),
            Principal::AssumedRole { role, id, .. } => self.role_with_id(role, id).map(|role| &role.tags),
            Principal::Root { .. } | Principal::Service { .. } => None,
        };
        tags.cloned().unwrap_or_default()
    }

    /// Bytes of what tenants decide the length of, against [`MAXIMUM_ACCOUNT_BYTES`].
    pub fn bytes(&self) -> usize {
        let tags = |tags: &Tags| tags.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let named = |name: &str, path: &str, all: &Tags| name.len() + path.len() + tags(all);
        let attached = |policies: &Attachments| {
            let inline = policies.inline.iter().map(|(name, policy)| name.len() + policy.bytes());
            inline.chain(policies.managed.iter().map(String::len)).sum::<usize>()
        };
        let described = |description: &Option<String>| description.as_ref().map_or(0, String::len);
        let users =
            self.users().map(|user| named(&user.name, &user.path, &user.tags) + attached(&user.policies));
        let roles = self.roles().map(|role| {
            named(&role.name, &role.path, &role.tags)
                + attached(&role.policies)
                + described(&role.description)
                + role.trust.bytes()
        });
        let policies = self.policies().map(|policy| {
            let versions = policy.versions.iter().map(|version| version.policy.bytes());
            named(&policy.name, &policy.path, &policy.tags)
                + described(&policy.description)
                + versions.sum::<usize>()
        });
        users.chain(roles).chain(policies).sum()
    }

    /// The account's own managed policies in the order of their names.
    pub fn policies(&self) -> impl Iterator<Item = &ManagedPolicy> {
        self.policies.values().map(|policy| &**policy)
    }

    /// A managed policy by its ARN: the account's own, or one of those that are
    /// there from the start.
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
