//! Access keys of users.

use hearth_api::Timestamp;
use hearth_identity::{AccessKey, Account, User, secret, unique_id};
use hearth_service::Error;
use hearth_service::Operation;
use hearth_service::Xml;
use hearth_service::shape::{Member, Shape, required};

use super::entity::user_name;
use super::page::Page;
use super::users::{MARKER_MEMBER, MAX_ITEMS, USER_OR_CALLER, find};
use super::{Call, Iam, On, Outcome, Run, operation, quota};
use crate::errors::{INVALID_INPUT, NO_SUCH_ENTITY};
use crate::texts::ACCESS_KEY_ID;

const KEY: Member = required("AccessKeyId", &ACCESS_KEY_ID);

pub(super) const OPERATIONS: &[Operation<Iam>] = &[
    operation("CreateAccessKey", On::User, &[USER_OR_CALLER], Run::Change(create)),
    operation("ListAccessKeys", On::User, &[USER_OR_CALLER, MARKER_MEMBER, MAX_ITEMS], Run::Read(list)),
    operation(
        "UpdateAccessKey",
        On::User,
        &[USER_OR_CALLER, KEY, required("Status", &Shape::Enumeration(&["Active", "Inactive", "Expired"]))],
        Run::Change(update),
    ),
    operation("DeleteAccessKey", On::User, &[USER_OR_CALLER, KEY], Run::Change(delete)),
];

/// Characters of an access key's id.
const ID_LENGTH: usize = 20;

fn create(account: &mut Account, call: &Call<'_>) -> Outcome {
    let mut user = find(account, user_name(call)?)?.clone();
    quota("AccessKeysPerUser", 2, user.access_keys.len() + 1)?;
    let mut id = unique_id("AKIA");
    id.truncate(ID_LENGTH);
    let key = AccessKey { id, secret: secret(), active: true, created_at: Timestamp::now() };
    let xml = Xml::default()
        .text("UserName", &user.name)
        .text("AccessKeyId", &key.id)
        .text("Status", status(&key))
        .text("SecretAccessKey", &key.secret)
        .time("CreateDate", key.created_at);
    user.access_keys.push(key);
    account.put_user(user);
    Ok(Some(Xml::default().element("AccessKey", xml)))
}

fn status(key: &AccessKey) -> &'static str {
    if key.active { "Active" } else { "Inactive" }
}

fn list(account: &Account, call: &Call<'_>) -> Outcome {
    let user = find(account, user_name(call)?)?;
    let page = Page::of(&user.access_keys, |key| key.id.clone(), call)?;
    let item = |key: &&AccessKey| {
        Xml::default()
            .text("UserName", &user.name)
            .text("AccessKeyId", &key.id)
            .text("Status", status(key))
            .time("CreateDate", key.created_at)
    };
    Ok(Some(page.end(Xml::default().list("AccessKeyMetadata", page.items.iter().map(item)))))
}

/// A copy of the user, and where in it the key is.
fn with_key(account: &Account, call: &Call<'_>) -> Result<(User, usize), Error> {
    let user = find(account, user_name(call)?)?.clone();
    let id = call.input().required("AccessKeyId");
    let index = user.access_keys.iter().position(|key| key.id == id);
    let message = || format!("The Access Key with id {id} cannot be found.");
    let index = index.ok_or_else(|| Error::new(NO_SUCH_ENTITY, message()))?;
    Ok((user, index))
}

fn update(account: &mut Account, call: &Call<'_>) -> Outcome {
    let (mut user, index) = with_key(account, call)?;
    user.access_keys[index].active = match call.input().required("Status") {
        "Active" => true,
        "Inactive" => false,
        other => {
            let message = format!("The status of an access key cannot be set to {other}.");
            return Err(Error::new(INVALID_INPUT, message));
        }
    };
    account.put_user(user);
    Ok(None)
}

fn delete(account: &mut Account, call: &Call<'_>) -> Outcome {
    let (mut user, index) = with_key(account, call)?;
    user.access_keys.remove(index);
    account.put_user(user);
    Ok(None)
}
