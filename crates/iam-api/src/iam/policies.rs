//! Managed policies.

use std::collections::HashMap;

use hearth_api::Timestamp;
use hearth_iam::DocumentKind;
use hearth_identity::{Account, ManagedPolicy, Policy, PolicyVersion, unique_id};
use hearth_service::Error;
use hearth_service::Operation;
use hearth_service::Xml;
use hearth_service::shape::{Member, Shape, optional, required};

use super::page::Page;
use super::users::{MARKER_MEMBER, MAX_ITEMS};
use super::views::{self, Detail, Usage};
use super::{Call, Iam, On, Outcome, Run, documents, operation, quota, tags};
use crate::errors::{ACCESS_DENIED, DELETE_CONFLICT, ENTITY_ALREADY_EXISTS, INVALID_INPUT, NO_SUCH_ENTITY};
use crate::texts::{ARN, DOCUMENT, LONG_NAME, POLICY_DESCRIPTION, POLICY_PATH, TAGS};

/// `PolicyArn`.
pub(super) const POLICY: Member = required("PolicyArn", &ARN);
/// `PathPrefix` of policies.
pub(super) const PATH_PREFIX: Member = optional("PathPrefix", &POLICY_PATH);
/// `PolicyUsageFilter`.
pub(super) const USAGE_FILTER: Member =
    optional("PolicyUsageFilter", &Shape::Enumeration(&["PermissionsPolicy", "PermissionsBoundary"]));

pub(super) const OPERATIONS: &[Operation<Iam>] = &[
    operation(
        "CreatePolicy",
        On::NewPolicy,
        &[
            required("PolicyName", &LONG_NAME),
            optional("Path", &POLICY_PATH),
            required("PolicyDocument", &DOCUMENT),
            optional("Description", &POLICY_DESCRIPTION),
            optional("Tags", &TAGS),
        ],
        Run::Change(create),
    ),
    operation("GetPolicy", On::Policy, &[POLICY], Run::Read(get)),
    operation(
        "ListPolicies",
        On::Everything,
        &[
            optional("Scope", &Shape::Enumeration(&["All", "AWS", "Local"])),
            optional("OnlyAttached", &Shape::Boolean),
            PATH_PREFIX,
            USAGE_FILTER,
            MARKER_MEMBER,
            MAX_ITEMS,
        ],
        Run::Read(list),
    ),
    operation("DeletePolicy", On::Policy, &[POLICY], Run::Change(delete)),
];

/// Reads a document for a managed policy.
pub(super) fn document(text: &str) -> Result<Policy, Error> {
    documents::read(text, DocumentKind::Identity, "PolicySize", 6144)
}

fn create(account: &mut Account, call: &Call<'_>) -> Outcome {
    let input = call.input();
    let name = input.required("PolicyName");
    let policy = document(input.required("PolicyDocument"))?;
    if account.policies().any(|policy| policy.name.eq_ignore_ascii_case(name)) {
        let message = format!("A policy called {name} already exists. Duplicate names are not allowed.");
        return Err(Error::new(ENTITY_ALREADY_EXISTS, message));
    }
    quota("PoliciesPerAccount", 1500, account.policies().count() + 1)?;
    let now = Timestamp::now();
    let made = ManagedPolicy {
        account: account.id().clone(),
        path: input.get("Path").unwrap_or("/").to_owned(),
        name: name.to_owned(),
        id: unique_id("ANPA"),
        created_at: now,
        updated_at: now,
        description: input.get("Description").map(str::to_owned),
        versions: vec![PolicyVersion { number: 1, policy, created_at: now }],
        default_version: 1,
        last_version: 1,
        tags: tags::given(input)?,
    };
    let xml = views::policy(&made, Usage::default(), Detail::Full);
    account.put_policy(made);
    Ok(Some(Xml::default().element("Policy", xml)))
}

/// The policy that `PolicyArn` names, be it the account's or the service's.
pub(super) fn find<'a>(account: &'a Account, call: &Call<'_>) -> Result<&'a ManagedPolicy, Error> {
    let arn = call.input().required("PolicyArn");
    refuse_other_arns(arn)?;
    let message = || format!("Policy {arn} was not found.");
    account.policy(arn).ok_or_else(|| Error::new(NO_SUCH_ENTITY, message()))
}

/// The same as a copy to be changed; the service's own do not change.
pub(super) fn find_own(account: &Account, call: &Call<'_>) -> Result<ManagedPolicy, Error> {
    let policy = find(account, call)?;
    if policy.account != *account.id() {
        let message = format!("The policy {} belongs to the service and cannot be changed.", policy.arn());
        return Err(Error::new(ACCESS_DENIED, message));
    }
    Ok(policy.clone())
}

/// Refuses what is no ARN of a policy.
pub(super) fn refuse_other_arns(arn: &str) -> Result<(), Error> {
    let is_policy = match arn.splitn(6, ':').collect::<Vec<_>>()[..] {
        ["arn", _, "iam", "", _, resource] => resource.starts_with("policy/"),
        _ => false,
    };
    if is_policy { Ok(()) } else { Err(Error::new(INVALID_INPUT, format!("ARN {arn} is not valid."))) }
}

/// How often each managed policy is used.
fn usage(account: &Account) -> HashMap<&str, Usage> {
    let mut all: HashMap<&str, Usage> = HashMap::new();
    let users = account.users().map(|user| &user.policies);
    for policies in users.chain(account.roles().map(|role| &role.policies)) {
        for arn in &policies.managed {
            all.entry(arn).or_default().attachments += 1;
        }
        if let Some(arn) = &policies.boundary {
            all.entry(arn).or_default().boundaries += 1;
        }
    }
    all
}

/// How often this policy is used.
fn usage_of(account: &Account, arn: &str) -> Usage {
    usage(account).get(arn).copied().unwrap_or_default()
}

fn get(account: &Account, call: &Call<'_>) -> Outcome {
    let policy = find(account, call)?;
    let xml = views::policy(policy, usage_of(account, &policy.arn()), Detail::Full);
    Ok(Some(Xml::default().element("Policy", xml)))
}

fn list(account: &Account, call: &Call<'_>) -> Outcome {
    let input = call.input();
    let usage = usage(account);
    let used = |policy: &ManagedPolicy| usage.get(policy.arn().as_str()).copied().unwrap_or_default();
    let scope = input.get("Scope").unwrap_or("All");
    let own = account.policies().filter(|_| scope != "AWS");
    let theirs = account.policies_from_the_start().iter().filter(|_| scope != "Local");
    let filter = input.get("PolicyUsageFilter");
    let only_attached = input.flag("OnlyAttached");
    let wanted = own.chain(theirs).map(|policy| (policy, used(policy))).filter(|(policy, used)| {
        let in_use = match filter {
            Some("PermissionsPolicy") => used.attachments > 0,
            Some(_) => used.boundaries > 0,
            None => !only_attached || used.attachments > 0,
        };
        in_use && policy.path.starts_with(input.get("PathPrefix").unwrap_or("/"))
    });
    let page = Page::of(wanted, |(policy, _)| key(policy), call)?;
    let items = page.items.iter().map(|(policy, used)| views::policy(policy, *used, Detail::Listed));
    Ok(Some(page.end(Xml::default().list("Policies", items))))
}

/// Orders policies by name; one of the account may have the name of one of the service's.
pub(super) fn key(policy: &ManagedPolicy) -> String {
    format!("{} {}", policy.name.to_lowercase(), policy.account)
}

fn delete(account: &mut Account, call: &Call<'_>) -> Outcome {
    let policy = find_own(account, call)?;
    let conflict = |message: &str| Err(Error::new(DELETE_CONFLICT, message));
    if usage_of(account, &policy.arn()) != Usage::default() {
        return conflict("Cannot delete a policy attached to entities.");
    }
    if policy.versions.len() > 1 {
        return conflict(
            "This policy has more than one version. Before you delete a policy, you must delete the policy's \
             versions. The default version is deleted with the policy.",
        );
    }
    account.remove_policy(&policy.name);
    Ok(None)
}
