//! Versions of managed policies.

use hearth_api::Timestamp;
use hearth_identity::{Account, ManagedPolicy, PolicyVersion};
use hearth_service::Error;
use hearth_service::Operation;
use hearth_service::Xml;
use hearth_service::shape::{Member, Shape, optional, required};

use super::page::Page;
use super::policies::{POLICY, document, find, find_own};
use super::users::{MARKER_MEMBER, MAX_ITEMS};
use super::views::{self, Detail};
use super::{Call, Iam, On, Outcome, Run, operation};
use crate::errors::{DELETE_CONFLICT, LIMIT_EXCEEDED, NO_SUCH_ENTITY};
use crate::texts::{DOCUMENT, VERSION_ID};

const VERSION: Member = required("VersionId", &VERSION_ID);
const MAXIMUM_VERSIONS: usize = 5;

pub(super) const OPERATIONS: &[Operation<Iam>] = &[
    operation(
        "CreatePolicyVersion",
        On::Policy,
        &[POLICY, required("PolicyDocument", &DOCUMENT), optional("SetAsDefault", &Shape::Boolean)],
        Run::Change(create),
    ),
    operation("GetPolicyVersion", On::Policy, &[POLICY, VERSION], Run::Read(get)),
    operation("ListPolicyVersions", On::Policy, &[POLICY, MARKER_MEMBER, MAX_ITEMS], Run::Read(list)),
    operation("DeletePolicyVersion", On::Policy, &[POLICY, VERSION], Run::Change(delete)),
    operation("SetDefaultPolicyVersion", On::Policy, &[POLICY, VERSION], Run::Change(set_default)),
];

fn create(account: &mut Account, call: &Call<'_>) -> Outcome {
    let mut policy = find_own(account, call)?;
    let text = document(call.input().required("PolicyDocument"))?;
    if policy.versions.len() >= MAXIMUM_VERSIONS {
        let message = format!(
            "A managed policy can have up to {MAXIMUM_VERSIONS} versions. Before you create a new version, you must \
             delete an existing version."
        );
        return Err(Error::new(LIMIT_EXCEEDED, message));
    }
    policy.last_version += 1;
    let version = PolicyVersion { number: policy.last_version, policy: text, created_at: Timestamp::now() };
    if call.input().flag("SetAsDefault") {
        policy.default_version = version.number;
        policy.updated_at = version.created_at;
    }
    let xml = views::version(&policy, &version, Detail::Listed);
    policy.versions.push(version);
    account.put_policy(policy);
    Ok(Some(Xml::default().element("PolicyVersion", xml)))
}

/// Number of the version that `VersionId` names, if the policy has it.
fn named(policy: &ManagedPolicy, call: &Call<'_>) -> Result<u32, Error> {
    let id = call.input().required("VersionId");
    let number = id.strip_prefix('v').and_then(|number| number.parse().ok());
    let found = policy.versions.iter().find(|version| Some(version.number) == number);
    let message = || format!("Policy {} version {id} does not exist or is not attachable.", policy.arn());
    found.map(|version| version.number).ok_or_else(|| Error::new(NO_SUCH_ENTITY, message()))
}

fn get(account: &Account, call: &Call<'_>) -> Outcome {
    let policy = find(account, call)?;
    let number = named(policy, call)?;
    let version = policy.versions.iter().find(|version| version.number == number);
    let xml = version.map(|version| views::version(policy, version, Detail::Full)).unwrap_or_default();
    Ok(Some(Xml::default().element("PolicyVersion", xml)))
}

/// Newest first.
fn list(account: &Account, call: &Call<'_>) -> Outcome {
    let policy = find(account, call)?;
    let key = |version: &&PolicyVersion| format!("{:010}", u32::MAX - version.number);
    let page = Page::of(&policy.versions, key, call)?;
    let items = page.items.iter().map(|version| views::version(policy, version, Detail::Listed));
    Ok(Some(page.end(Xml::default().list("Versions", items))))
}

fn delete(account: &mut Account, call: &Call<'_>) -> Outcome {
    let mut policy = find_own(account, call)?;
    let number = named(&policy, call)?;
    if number == policy.default_version {
        let message = "Cannot delete the default version of a policy.";
        return Err(Error::new(DELETE_CONFLICT, message));
    }
    policy.versions.retain(|version| version.number != number);
    account.put_policy(policy);
    Ok(None)
}

fn set_default(account: &mut Account, call: &Call<'_>) -> Outcome {
    let mut policy = find_own(account, call)?;
    policy.default_version = named(&policy, call)?;
    policy.updated_at = Timestamp::now();
    account.put_policy(policy);
    Ok(None)
}
