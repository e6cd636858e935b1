//! Tags of users, roles and managed policies.

use hearth_identity::Account;
use hearth_identity::entities::Tags;
use hearth_service::Operation;
use hearth_service::Xml;
use hearth_service::shape::{Member, Shape, required};
use hearth_service::{Error, Input};

use super::entity::{Entity, Kind};
use super::page::Page;
use super::policies::{POLICY, find, find_own};
use super::roles::ROLE;
use super::users::{MARKER_MEMBER, MAX_ITEMS, USER};
use super::{Call, Iam, On, Outcome, Run, operation, quota, views};
use crate::errors::INVALID_INPUT;
use crate::texts::{TAG_KEY, TAGS};

const NEW_TAGS: Member = required("Tags", &TAGS);
const KEYS: Member = required("TagKeys", &Shape::List(&TAG_KEY, 0, MAXIMUM_TAGS));
const MAXIMUM_TAGS: usize = 50;

pub(super) const OPERATIONS: &[Operation<Iam>] = &[
    operation("TagUser", On::User, &[USER, NEW_TAGS], Run::Change(|a, c| change(a, c, Kind::User, tag))),
    operation("TagRole", On::Role, &[ROLE, NEW_TAGS], Run::Change(|a, c| change(a, c, Kind::Role, tag))),
    operation("TagPolicy", On::Policy, &[POLICY, NEW_TAGS], Run::Change(|a, c| change_policy(a, c, tag))),
    operation("UntagUser", On::User, &[USER, KEYS], Run::Change(|a, c| change(a, c, Kind::User, untag))),
    operation("UntagRole", On::Role, &[ROLE, KEYS], Run::Change(|a, c| change(a, c, Kind::Role, untag))),
    operation("UntagPolicy", On::Policy, &[POLICY, KEYS], Run::Change(|a, c| change_policy(a, c, untag))),
    operation(
        "ListUserTags",
        On::User,
        &[USER, MARKER_MEMBER, MAX_ITEMS],
        Run::Read(|a, c| list(Entity::named(a, c, Kind::User)?.tags(), c)),
    ),
    operation(
        "ListRoleTags",
        On::Role,
        &[ROLE, MARKER_MEMBER, MAX_ITEMS],
        Run::Read(|a, c| list(Entity::named(a, c, Kind::Role)?.tags(), c)),
    ),
    operation(
        "ListPolicyTags",
        On::Policy,
        &[POLICY, MARKER_MEMBER, MAX_ITEMS],
        Run::Read(|a, c| list(&find(a, c)?.tags, c)),
    ),
];

type Change = fn(&mut Tags, &Input) -> Result<(), Error>;

/// The tags that something is to be made with.
pub(super) fn given(input: &Input) -> Result<Tags, Error> {
    let mut tags = Tags::new();
    for (key, value) in input.pairs("Tags", "Key", "Value") {
        if tags.keys().any(|other| same(other, key)) {
            let message = "Duplicate tag keys found. Please note that Tag keys are case insensitive.";
            return Err(Error::new(INVALID_INPUT, message));
        }
        if key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:")) {
            let message = format!("The tag key {key} must not begin with aws:, which is reserved.");
            return Err(Error::new(INVALID_INPUT, message));
        }
        tags.insert(key.to_owned(), value.to_owned());
    }
    Ok(tags)
}

/// Upper and lower case of tag keys are equal in IAM, but are kept (IAM user guide, "Tags
/// for IAM resources").
fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

fn tag(tags: &mut Tags, input: &Input) -> Result<(), Error> {
    for (key, value) in given(input)? {
        tags.retain(|other, _| !same(other, &key));
        tags.insert(key, value);
    }
    quota("TagsPerResource", MAXIMUM_TAGS, tags.len())
}

#[expect(clippy::unnecessary_wraps, reason = "the same type as `tag`")]
fn untag(tags: &mut Tags, input: &Input) -> Result<(), Error> {
    for key in input.list("TagKeys") {
        tags.retain(|other, _| !same(other, key));
    }
    Ok(())
}

fn change(account: &mut Account, call: &Call<'_>, kind: Kind, change: Change) -> Outcome {
    let mut entity = Entity::named(account, call, kind)?;
    change(entity.tags_mut(), call.input())?;
    entity.put(account);
    Ok(None)
}

fn change_policy(account: &mut Account, call: &Call<'_>, change: Change) -> Outcome {
    let mut policy = find_own(account, call)?;
    change(&mut policy.tags, call.input())?;
    account.put_policy(policy);
    Ok(None)
}

/// Tags by number: keys are too long for a marker, and there are at most fifty.
fn list(tags: &Tags, call: &Call<'_>) -> Outcome {
    let page = Page::of(tags.iter().enumerate(), |(number, _)| format!("{number:02}"), call)?;
    let items = page.items.iter().map(|(_, (key, value))| views::tag(key, value));
    Ok(Some(page.end(Xml::default().list("Tags", items))))
}
