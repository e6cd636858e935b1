//! Users.

use hearth_api::Timestamp;
use hearth_identity::entities::Attachments;
use hearth_identity::{Account, User, unique_id};
use hearth_service::Error;
use hearth_service::Operation;
use hearth_service::Xml;
use hearth_service::shape::{Member, Shape, optional, required};

use super::entity::{refuse_occupied, user_name};
use super::page::Page;
use super::views::{self, Detail};
use super::{Call, Iam, On, Outcome, Run, boundaries, operation, quota, tags};
use crate::errors::{ENTITY_ALREADY_EXISTS, NO_SUCH_ENTITY};
use crate::texts::{ARN, LONG_NAME, MARKER, NAME, PATH, PATH_PREFIX, TAGS};

/// `UserName` of a user that exists.
pub(super) const USER: Member = required("UserName", &LONG_NAME);
/// The same where it may be left out.
pub(super) const USER_OR_CALLER: Member = optional("UserName", &LONG_NAME);
/// What paginated operations have in common.
pub(super) const MARKER_MEMBER: Member = optional("Marker", &MARKER);
/// The other half of that.
pub(super) const MAX_ITEMS: Member = optional("MaxItems", &Shape::Integer(1, 1000));

pub(super) const OPERATIONS: &[Operation<Iam>] = &[
    operation(
        "CreateUser",
        On::NewUser,
        &[
            optional("Path", &PATH),
            required("UserName", &NAME),
            optional("PermissionsBoundary", &ARN),
            optional("Tags", &TAGS),
        ],
        Run::Change(create),
    ),
    operation("GetUser", On::User, &[USER_OR_CALLER], Run::Read(get)),
    operation(
        "ListUsers",
        On::Everything,
        &[optional("PathPrefix", &PATH_PREFIX), MARKER_MEMBER, MAX_ITEMS],
        Run::Read(list),
    ),
    operation(
        "UpdateUser",
        On::MovedUser,
        &[USER, optional("NewPath", &PATH), optional("NewUserName", &NAME)],
        Run::Change(update),
    ),
    operation("DeleteUser", On::User, &[USER], Run::Change(delete)),
    operation("ListGroupsForUser", On::User, &[USER, MARKER_MEMBER, MAX_ITEMS], Run::Read(list_groups)),
];

fn create(account: &mut Account, call: &Call<'_>) -> Outcome {
    let input = call.input();
    let name = input.required("UserName");
    refuse_taken(account, name)?;
    quota("UsersPerAccount", 5000, account.users().count() + 1)?;
    let boundary = boundaries::requested(account, call)?;
    let user = User {
        account: account.id().clone(),
        path: input.get("Path").unwrap_or("/").to_owned(),
        name: name.to_owned(),
        id: unique_id("AIDA"),
        created_at: Timestamp::now(),
        policies: Attachments { boundary, ..Attachments::default() },
        access_keys: Vec::new(),
        tags: tags::given(input)?,
    };
    let xml = views::user(&user, Detail::Full);
    account.put_user(user);
    Ok(Some(Xml::default().element("User", xml)))
}

fn refuse_taken(account: &Account, name: &str) -> Result<(), Error> {
    match account.user(name) {
        None => Ok(()),
        Some(_) => Err(Error::new(ENTITY_ALREADY_EXISTS, format!("User with name {name} already exists."))),
    }
}

/// The user of this name.
pub(super) fn find<'a>(account: &'a Account, name: &str) -> Result<&'a User, Error> {
    let message = || format!("The user with name {name} cannot be found.");
    account.user(name).ok_or_else(|| Error::new(NO_SUCH_ENTITY, message()))
}

fn get(account: &Account, call: &Call<'_>) -> Outcome {
    let xml = if call.input().get("UserName").is_none() && call.caller().is_root() {
        // The root user has neither a name nor a date here, as it is no user of IAM.
        Xml::default()
            .text("Path", "/")
            .text("UserId", account.id())
            .text("Arn", call.caller().principal.arn())
            .time("CreateDate", Timestamp::from_millis(0))
    } else {
        views::user(find(account, user_name(call)?)?, Detail::Full)
    };
    Ok(Some(Xml::default().element("User", xml)))
}

fn list(account: &Account, call: &Call<'_>) -> Outcome {
    let prefix = call.input().get("PathPrefix").unwrap_or("/");
    let users = account.users().filter(|user| user.path.starts_with(prefix));
    let page = Page::of(users, |user| user.name.to_lowercase(), call)?;
    let xml = Xml::default().list("Users", page.items.iter().map(|user| views::user(user, Detail::Listed)));
    Ok(Some(page.end(xml)))
}

fn update(account: &mut Account, call: &Call<'_>) -> Outcome {
    let input = call.input();
    let mut user = find(account, input.required("UserName"))?.clone();
    if let Some(name) = input.get("NewUserName") {
        if !name.eq_ignore_ascii_case(&user.name) {
            refuse_taken(account, name)?;
            account.remove_user(&user.name);
        }
        name.clone_into(&mut user.name);
    }
    if let Some(path) = input.get("NewPath") {
        path.clone_into(&mut user.path);
    }
    account.put_user(user);
    Ok(None)
}

fn delete(account: &mut Account, call: &Call<'_>) -> Outcome {
    let user = find(account, call.input().required("UserName"))?;
    refuse_occupied(&user.policies, (!user.access_keys.is_empty()).then_some("delete access keys"))?;
    let name = user.name.clone();
    account.remove_user(&name);
    Ok(None)
}

/// There are no groups, so nobody is in one.
fn list_groups(account: &Account, call: &Call<'_>) -> Outcome {
    find(account, call.input().required("UserName"))?;
    Ok(Some(Xml::default().list("Groups", []).text("IsTruncated", false)))
}
