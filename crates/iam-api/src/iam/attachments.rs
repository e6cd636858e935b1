//! Managed policies attached to users and roles.

use hearth_identity::{Account, ManagedPolicy};
use hearth_service::Error;
use hearth_service::Operation;
use hearth_service::Xml;
use hearth_service::shape::{Member, Shape, optional, required};

use super::entity::{Entity, Kind};
use super::page::Page;
use super::policies::{PATH_PREFIX, POLICY, USAGE_FILTER, find, key, refuse_other_arns};
use super::roles::ROLE;
use super::users::{MARKER_MEMBER, MAX_ITEMS};
use super::{Call, Iam, On, Outcome, Run, operation, quota};
use crate::errors::NO_SUCH_ENTITY;
use crate::texts::{NAME, PATH};

/// Here the model has the shorter name for users, too.
pub(super) const USER: Member = required("UserName", &NAME);

pub(super) const OPERATIONS: &[Operation<Iam>] = &[
    operation("AttachUserPolicy", On::User, &[USER, POLICY], Run::Change(|a, c| attach(a, c, Kind::User))),
    operation("AttachRolePolicy", On::Role, &[ROLE, POLICY], Run::Change(|a, c| attach(a, c, Kind::Role))),
    operation("DetachUserPolicy", On::User, &[USER, POLICY], Run::Change(|a, c| detach(a, c, Kind::User))),
    operation("DetachRolePolicy", On::Role, &[ROLE, POLICY], Run::Change(|a, c| detach(a, c, Kind::Role))),
    operation(
        "ListAttachedUserPolicies",
        On::User,
        &[USER, PATH_PREFIX, MARKER_MEMBER, MAX_ITEMS],
        Run::Read(|a, c| list(a, c, Kind::User)),
    ),
    operation(
        "ListAttachedRolePolicies",
        On::Role,
        &[ROLE, PATH_PREFIX, MARKER_MEMBER, MAX_ITEMS],
        Run::Read(|a, c| list(a, c, Kind::Role)),
    ),
    operation(
        "ListEntitiesForPolicy",
        On::Policy,
        &[
            POLICY,
            optional(
                "EntityFilter",
                &Shape::Enumeration(&["User", "Role", "Group", "LocalManagedPolicy", "AWSManagedPolicy"]),
            ),
            optional("PathPrefix", &PATH),
            USAGE_FILTER,
            MARKER_MEMBER,
            MAX_ITEMS,
        ],
        Run::Read(list_entities),
    ),
];

fn attach(account: &mut Account, call: &Call<'_>, kind: Kind) -> Outcome {
    let arn = call.input().required("PolicyArn");
    refuse_other_arns(arn)?;
    let mut entity = Entity::named(account, call, kind)?;
    if account.policy(arn).is_none() {
        let message = format!("Policy {arn} does not exist or is not attachable.");
        return Err(Error::new(NO_SUCH_ENTITY, message));
    }
    let attached = &mut entity.policies_mut().managed;
    attached.insert(arn.to_owned());
    quota(&format!("PoliciesPer{}", kind.title()), 10, attached.len())?;
    entity.put(account);
    Ok(None)
}

fn detach(account: &mut Account, call: &Call<'_>, kind: Kind) -> Outcome {
    let arn = call.input().required("PolicyArn");
    refuse_other_arns(arn)?;
    let mut entity = Entity::named(account, call, kind)?;
    if !entity.policies_mut().managed.remove(arn) {
        return Err(Error::new(NO_SUCH_ENTITY, format!("Policy {arn} was not found.")));
    }
    entity.put(account);
    Ok(None)
}

fn list(account: &Account, call: &Call<'_>, kind: Kind) -> Outcome {
    let entity = Entity::named(account, call, kind)?;
    let prefix = call.input().get("PathPrefix").unwrap_or("/");
    let attached = entity.policies().managed.iter().filter_map(|arn| account.policy(arn));
    let page =
        Page::of(attached.filter(|policy| policy.path.starts_with(prefix)), |policy| key(policy), call)?;
    let item = |policy: &&ManagedPolicy| {
        Xml::default().text("PolicyName", &policy.name).text("PolicyArn", policy.arn())
    };
    Ok(Some(page.end(Xml::default().list("AttachedPolicies", page.items.iter().map(item)))))
}

fn list_entities(account: &Account, call: &Call<'_>) -> Outcome {
    let input = call.input();
    let arn = find(account, call)?.arn();
    let wanted = |entity: &Entity| {
        let policies = entity.policies();
        let (attached, bounds) =
            (policies.managed.contains(&arn), policies.boundary.as_deref() == Some(&arn));
        let used = match input.get("PolicyUsageFilter") {
            None => attached || bounds,
            Some("PermissionsPolicy") => attached,
            Some(_) => bounds,
        };
        let of_kind = input.get("EntityFilter").is_none_or(|filter| filter == entity.kind().title());
        used && of_kind && entity.path().starts_with(input.get("PathPrefix").unwrap_or("/"))
    };
    let users = account.users().cloned().map(Entity::User);
    let entities = users.chain(account.roles().cloned().map(Entity::Role)).filter(wanted);
    let order = |entity: &Entity| format!("{} {}", entity.kind().noun(), entity.name().to_lowercase());
    let page = Page::of(entities, order, call)?;
    let items = |kind: Kind| {
        page.items.iter().filter(move |entity| entity.kind() == kind).map(|entity| {
            let title = entity.kind().title();
            Xml::default()
                .text(&format!("{title}Name"), entity.name())
                .text(&format!("{title}Id"), entity.id())
        })
    };
    let xml = Xml::default()
        .list("PolicyGroups", [])
        .list("PolicyUsers", items(Kind::User))
        .list("PolicyRoles", items(Kind::Role));
    Ok(Some(page.end(xml)))
}
