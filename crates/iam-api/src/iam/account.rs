//! The account as a whole.

use hearth_identity::Account;
use hearth_service::Operation;
use hearth_service::Xml;

use super::users::{MARKER_MEMBER, MAX_ITEMS};
use super::{Call, Iam, On, Outcome, Run, operation};

pub(super) const OPERATIONS: &[Operation<Iam>] = &[
    operation("GetAccountSummary", On::Everything, &[], Run::Read(summary)),
    operation("ListAccountAliases", On::Everything, &[MARKER_MEMBER, MAX_ITEMS], Run::Read(aliases)),
];

/// What there is and may be of each kind, as far as there are such things here.
#[expect(clippy::unnecessary_wraps, reason = "the type of every operation")]
fn summary(account: &Account, _: &Call<'_>) -> Outcome {
    let versions = account.policies().map(|policy| policy.versions.len()).sum();
    let entries = [
        ("Users", account.users().count()),
        ("UsersQuota", 5000),
        ("Roles", account.roles().count()),
        ("RolesQuota", 1000),
        ("Policies", account.policies().count()),
        ("PoliciesQuota", 1500),
        ("PolicyVersionsInUse", versions),
        ("PolicySizeQuota", 6144),
        ("VersionsPerPolicyQuota", 5),
        ("AccessKeysPerUserQuota", 2),
        ("AttachedPoliciesPerUserQuota", 10),
        ("AttachedPoliciesPerRoleQuota", 10),
        ("UserPolicySizeQuota", 2048),
        ("RolePolicySizeQuota", 10_240),
        ("AssumeRolePolicySizeQuota", 2048),
        ("Groups", 0),
        ("InstanceProfiles", 0),
        ("AccountAccessKeysPresent", 1),
        ("AccountMFAEnabled", 0),
    ];
    let entry = |(key, value): (&str, usize)| Xml::default().text("key", key).text("value", value);
    let map = entries.into_iter().fold(Xml::default(), |map, pair| map.element("entry", entry(pair)));
    Ok(Some(Xml::default().element("SummaryMap", map)))
}

/// Accounts have no aliases.
#[expect(clippy::unnecessary_wraps, reason = "the type of every operation")]
fn aliases(_: &Account, _: &Call<'_>) -> Outcome {
    Ok(Some(Xml::default().list("AccountAliases", []).text("IsTruncated", false)))
}
