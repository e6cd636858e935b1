//! Roles.

use hearth_api::Timestamp;
use hearth_iam::DocumentKind;
use hearth_identity::entities::Attachments;
use hearth_identity::{Account, Policy, Role, unique_id};
use hearth_service::Error;
use hearth_service::Operation;
use hearth_service::Xml;
use hearth_service::shape::{Member, Shape, optional, required};

use super::entity::refuse_occupied;
use super::page::Page;
use super::users::{MARKER_MEMBER, MAX_ITEMS};
use super::views::{self, Detail};
use super::{Call, Iam, On, Outcome, Run, boundaries, documents, operation, quota, tags};
use crate::errors::{ENTITY_ALREADY_EXISTS, NO_SUCH_ENTITY};
use crate::texts::{ARN, DOCUMENT, NAME, PATH, PATH_PREFIX, ROLE_DESCRIPTION, TAGS};

/// `RoleName`.
pub(super) const ROLE: Member = required("RoleName", &NAME);
const DURATION: Member = optional("MaxSessionDuration", &Shape::Integer(3600, 43_200));
/// Of sign-ins to AWS's console, which is not here: checked, and of no effect.
const SIGNIN_DURATION: Member = optional("MaxSigninSessionDuration", &Shape::Integer(3600, 7_776_000));

pub(super) const OPERATIONS: &[Operation<Iam>] = &[
    operation(
        "CreateRole",
        On::NewRole,
        &[
            optional("Path", &PATH),
            ROLE,
            required("AssumeRolePolicyDocument", &DOCUMENT),
            optional("Description", &ROLE_DESCRIPTION),
            DURATION,
            SIGNIN_DURATION,
            optional("PermissionsBoundary", &ARN),
            optional("Tags", &TAGS),
        ],
        Run::Change(create),
    ),
    operation("GetRole", On::Role, &[ROLE], Run::Read(get)),
    operation(
        "ListRoles",
        On::Everything,
        &[optional("PathPrefix", &PATH_PREFIX), MARKER_MEMBER, MAX_ITEMS],
        Run::Read(list),
    ),
    operation(
        "UpdateRole",
        On::Role,
        &[
            ROLE,
            optional("Description", &ROLE_DESCRIPTION),
            DURATION,
            SIGNIN_DURATION,
            optional("ResetMaxSigninSessionDuration", &Shape::Boolean),
        ],
        Run::Change(|account, call| {
            update(account, call)?;
            Ok(Some(Xml::default()))
        }),
    ),
    operation(
        "UpdateRoleDescription",
        On::Role,
        &[ROLE, required("Description", &ROLE_DESCRIPTION)],
        Run::Change(|account, call| {
            let role = update(account, call)?;
            Ok(Some(Xml::default().element("Role", views::role(&role, Detail::Full))))
        }),
    ),
    operation(
        "UpdateAssumeRolePolicy",
        On::Role,
        &[ROLE, required("PolicyDocument", &DOCUMENT)],
        Run::Change(update_trust),
    ),
    operation("DeleteRole", On::Role, &[ROLE], Run::Change(delete)),
    operation(
        "ListInstanceProfilesForRole",
        On::Role,
        &[ROLE, MARKER_MEMBER, MAX_ITEMS],
        Run::Read(list_profiles),
    ),
];

fn create(account: &mut Account, call: &Call<'_>) -> Outcome {
    let input = call.input();
    let name = input.required("RoleName");
    let trust = trust(call, input.required("AssumeRolePolicyDocument"))?;
    if account.role(name).is_some() {
        let message = format!("Role with name {name} already exists.");
        return Err(Error::new(ENTITY_ALREADY_EXISTS, message));
    }
    quota("RolesPerAccount", 1000, account.roles().count() + 1)?;
    let boundary = boundaries::requested(account, call)?;
    let role = Role {
        account: account.id().clone(),
        path: input.get("Path").unwrap_or("/").to_owned(),
        name: name.to_owned(),
        id: unique_id("AROA"),
        created_at: Timestamp::now(),
        trust,
        policies: Attachments { boundary, ..Attachments::default() },
        description: input.get("Description").map(str::to_owned),
        maximum_session_seconds: input.number("MaxSessionDuration").unwrap_or(3600),
        tags: tags::given(input)?,
    };
    let xml = views::role(&role, Detail::Full);
    account.put_role(role);
    Ok(Some(Xml::default().element("Role", xml)))
}

fn trust(call: &Call<'_>, text: &str) -> Result<Policy, Error> {
    let trust = documents::read(text, DocumentKind::Trust, "ACLSizePerRole", 2048)?;
    Ok(trust.bound(|arn| call.api.identities.unique_id_of(arn)))
}

fn find<'a>(account: &'a Account, call: &Call<'_>) -> Result<&'a Role, Error> {
    let name = call.input().required("RoleName");
    let message = || format!("The role with name {name} cannot be found.");
    account.role(name).ok_or_else(|| Error::new(NO_SUCH_ENTITY, message()))
}

fn get(account: &Account, call: &Call<'_>) -> Outcome {
    let xml = views::role(find(account, call)?, Detail::Full);
    Ok(Some(Xml::default().element("Role", xml)))
}

fn list(account: &Account, call: &Call<'_>) -> Outcome {
    let prefix = call.input().get("PathPrefix").unwrap_or("/");
    let roles = account.roles().filter(|role| role.path.starts_with(prefix));
    let key = |role: &&Role| role.name.to_lowercase();
    // Trust policies are the one thing in any list that can be long.
    let page = Page::of_weighed(roles, key, |role| documents::encoded_bytes(&role.trust), call)?;
    let xml = Xml::default().list("Roles", page.items.iter().map(|role| views::role(role, Detail::Listed)));
    Ok(Some(page.end(xml)))
}

/// Changes what is given; the rest stays as it is.
fn update(account: &mut Account, call: &Call<'_>) -> Result<Role, Error> {
    let mut role = find(account, call)?.clone();
    if let Some(description) = call.input().get("Description") {
        role.description = Some(description.to_owned());
    }
    if let Some(seconds) = call.input().number("MaxSessionDuration") {
        role.maximum_session_seconds = seconds;
    }
    account.put_role(role.clone());
    Ok(role)
}

fn update_trust(account: &mut Account, call: &Call<'_>) -> Outcome {
    let mut role = find(account, call)?.clone();
    role.trust = trust(call, call.input().required("PolicyDocument"))?;
    account.put_role(role);
    Ok(None)
}

fn delete(account: &mut Account, call: &Call<'_>) -> Outcome {
    let role = find(account, call)?;
    refuse_occupied(&role.policies, None)?;
    let name = role.name.clone();
    account.remove_role(&name);
    Ok(None)
}

/// There are no instance profiles, so no role is in one.
fn list_profiles(account: &Account, call: &Call<'_>) -> Outcome {
    find(account, call)?;
    Ok(Some(Xml::default().list("InstanceProfiles", []).text("IsTruncated", false)))
}
