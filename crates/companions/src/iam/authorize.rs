//! Whether the caller may: on which resource an operation is authorised, and the condition
//! keys that go with it.

use hearth_iam::Request;
use hearth_identity::Account;
use hearth_identity::entities::Tags;

use super::entity::{Entity, Kind};
use super::{Call, On, Operation};
use crate::query::Refusal;

/// Actions that know `iam:PermissionsBoundary` of what they change (service authorization
/// reference). Where one is a parameter, the key has that.
const WATCHED: [&str; 10] = [
    "AttachRolePolicy",
    "AttachUserPolicy",
    "DeleteRolePermissionsBoundary",
    "DeleteRolePolicy",
    "DeleteUserPermissionsBoundary",
    "DeleteUserPolicy",
    "DetachRolePolicy",
    "DetachUserPolicy",
    "PutRolePolicy",
    "PutUserPolicy",
];

/// What an operation is about to touch.
#[derive(Debug, Default)]
struct Target {
    arns: Vec<String>,
    tags: Tags,
    boundary: Option<String>,
}

/// Refuses what the caller may not do, with AccessDenied.
pub(super) fn authorize(operation: &Operation, account: &Account, call: &Call<'_>) -> Result<(), Refusal> {
    let target = target(operation.on, account, call)?;
    for arn in &target.arns {
        ask(operation, operation.name, arn, &target, call)?;
        // To make something with tags is also to tag it.
        if let Some(made) =
            operation.name.strip_prefix("Create").filter(|_| call.input.entries("Tags").is_some())
        {
            ask(operation, &format!("Tag{made}"), arn, &target, call)?;
        }
    }
    Ok(())
}

fn ask(
    operation: &Operation,
    action: &str,
    arn: &str,
    target: &Target,
    call: &Call<'_>,
) -> Result<(), Refusal> {
    let request = call.caller.request(format!("iam:{action}"), arn);
    let request = conditions(operation, request, target, call);
    Ok(call.identities.authorize(call.caller, &request)?)
}

fn conditions(operation: &Operation, mut request: Request, target: &Target, call: &Call<'_>) -> Request {
    let input = &call.input;
    for (key, value) in &target.tags {
        for prefix in ["aws", "iam"] {
            request = request.with(&format!("{prefix}:ResourceTag/{key}"), [value.clone()]);
        }
    }
    let new_tags = input.pairs("Tags", "Key", "Value");
    request = request.with_request_tags(new_tags.iter().copied());
    request = request.with("aws:TagKeys", new_tags.iter().map(|(key, _)| *key).chain(input.list("TagKeys")));
    if let Some(policy) = input.get("PolicyArn").filter(|_| matches!(operation.on, On::User | On::Role)) {
        request = request.with("iam:PolicyARN", [policy]);
    }
    let current = target.boundary.as_deref().filter(|_| WATCHED.contains(&operation.name));
    request.with("iam:PermissionsBoundary", input.get("PermissionsBoundary").or(current))
}

fn target(on: On, account: &Account, call: &Call<'_>) -> Result<Target, Refusal> {
    let input = &call.input;
    let made = |kind: &str, name: &str| {
        let path = input.get("Path").unwrap_or("/");
        let arn = format!("arn:aws:iam::{}:{kind}{path}{}", account.id(), input.required(name));
        Target { arns: vec![arn], ..Target::default() }
    };
    Ok(match on {
        On::Everything => Target { arns: vec!["*".to_owned()], ..Target::default() },
        On::User if input.get("UserName").is_none() && call.caller.is_root() => {
            Target { arns: vec![call.caller.principal.arn()], ..Target::default() }
        }
        On::User => existing(account, Kind::User, call.user_name()?),
        On::Role => existing(account, Kind::Role, input.required("RoleName")),
        On::NewUser => made("user", "UserName"),
        On::NewRole => made("role", "RoleName"),
        On::NewPolicy => made("policy", "PolicyName"),
        On::MovedUser => {
            let name = input.required("UserName");
            let mut target = existing(account, Kind::User, name);
            let path = account.user(name).map_or("/", |user| &user.path);
            let path = input.get("NewPath").unwrap_or(path);
            let name = input.get("NewUserName").unwrap_or(name);
            target.arns.push(format!("arn:aws:iam::{}:user{path}{name}", account.id()));
            target
        }
        On::Policy => {
            let arn = input.required("PolicyArn");
            let tags = account.policy(arn).map(|policy| policy.tags.clone()).unwrap_or_default();
            Target { arns: vec![arn.to_owned()], tags, boundary: None }
        }
    })
}

/// A user or role. If there is none, the question is about the one that would be
/// there without a path.
fn existing(account: &Account, kind: Kind, name: &str) -> Target {
    if let Ok(entity) = Entity::find(account, kind, name) {
        Target {
            arns: vec![entity.arn()],
            tags: entity.tags().clone(),
            boundary: entity.policies().boundary.clone(),
        }
    } else {
        let arn = format!("arn:aws:iam::{}:{}/{name}", account.id(), kind.noun());
        Target { arns: vec![arn], ..Target::default() }
    }
}
