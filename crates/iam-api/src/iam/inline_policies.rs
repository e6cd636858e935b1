//! Inline policies of users and roles.

use hearth_iam::DocumentKind;
use hearth_identity::Account;
use hearth_service::Error;
use hearth_service::Operation;
use hearth_service::Xml;
use hearth_service::shape::{Member, required};

use super::entity::{Entity, Kind};
use super::page::Page;
use super::roles::ROLE;
use super::users::{MARKER_MEMBER, MAX_ITEMS, USER};
use super::{Call, Iam, On, Outcome, Run, documents, operation};
use crate::errors::{LIMIT_EXCEEDED, NO_SUCH_ENTITY};
use crate::texts::{DOCUMENT, LONG_NAME};

const POLICY: Member = required("PolicyName", &LONG_NAME);
const POLICY_DOCUMENT: Member = required("PolicyDocument", &DOCUMENT);

pub(super) const OPERATIONS: &[Operation<Iam>] = &[
    operation(
        "PutUserPolicy",
        On::User,
        &[USER, POLICY, POLICY_DOCUMENT],
        Run::Change(|a, c| put(a, c, Kind::User)),
    ),
    operation(
        "PutRolePolicy",
        On::Role,
        &[ROLE, POLICY, POLICY_DOCUMENT],
        Run::Change(|a, c| put(a, c, Kind::Role)),
    ),
    operation("GetUserPolicy", On::User, &[USER, POLICY], Run::Read(|a, c| get(a, c, Kind::User))),
    operation("GetRolePolicy", On::Role, &[ROLE, POLICY], Run::Read(|a, c| get(a, c, Kind::Role))),
    operation(
        "ListUserPolicies",
        On::User,
        &[USER, MARKER_MEMBER, MAX_ITEMS],
        Run::Read(|a, c| list(a, c, Kind::User)),
    ),
    operation(
        "ListRolePolicies",
        On::Role,
        &[ROLE, MARKER_MEMBER, MAX_ITEMS],
        Run::Read(|a, c| list(a, c, Kind::Role)),
    ),
    operation("DeleteUserPolicy", On::User, &[USER, POLICY], Run::Change(|a, c| delete(a, c, Kind::User))),
    operation("DeleteRolePolicy", On::Role, &[ROLE, POLICY], Run::Change(|a, c| delete(a, c, Kind::Role))),
];

/// Characters of all inline policies together, white space not counted (IAM user guide, "IAM
/// and AWS STS quotas").
fn limit(kind: Kind) -> usize {
    match kind {
        Kind::User => 2048,
        Kind::Role => 10_240,
    }
}

fn put(account: &mut Account, call: &Call<'_>, kind: Kind) -> Outcome {
    let mut entity = Entity::named(account, call, kind)?;
    let name = call.input().required("PolicyName");
    let text = call.input().required("PolicyDocument");
    let others = entity.policies().inline.iter().filter(|(other, _)| *other != name);
    let total =
        documents::length(text) + others.map(|(_, policy)| documents::length(policy.text())).sum::<usize>();
    let limit = limit(kind);
    if total > limit {
        let message =
            format!("Maximum policy size of {limit} bytes exceeded for {} {}", kind.noun(), entity.name());
        return Err(Error::new(LIMIT_EXCEEDED, message));
    }
    let policy = documents::read(text, DocumentKind::Identity, "PolicySize", limit)?;
    entity.policies_mut().inline.insert(name.to_owned(), policy);
    entity.put(account);
    Ok(None)
}

fn missing(call: &Call<'_>, kind: Kind) -> Error {
    let name = call.input().required("PolicyName");
    Error::new(NO_SUCH_ENTITY, format!("The {} policy with name {name} cannot be found.", kind.noun()))
}

fn get(account: &Account, call: &Call<'_>, kind: Kind) -> Outcome {
    let entity = Entity::named(account, call, kind)?;
    let name = call.input().required("PolicyName");
    let policy = entity.policies().inline.get(name).ok_or_else(|| missing(call, kind))?;
    let xml = Xml::default()
        .text(kind.member(), entity.name())
        .text("PolicyName", name)
        .text("PolicyDocument", documents::encoded(policy));
    Ok(Some(xml))
}

fn list(account: &Account, call: &Call<'_>, kind: Kind) -> Outcome {
    let entity = Entity::named(account, call, kind)?;
    let names = entity.policies().inline.keys();
    let page = Page::of(names, |name| (*name).clone(), call)?;
    Ok(Some(page.end(Xml::default().texts("PolicyNames", &page.items))))
}

fn delete(account: &mut Account, call: &Call<'_>, kind: Kind) -> Outcome {
    let mut entity = Entity::named(account, call, kind)?;
    let removed = entity.policies_mut().inline.remove(call.input().required("PolicyName"));
    removed.ok_or_else(|| missing(call, kind))?;
    entity.put(account);
    Ok(None)
}
