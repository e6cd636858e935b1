//! Whether the caller may: on which resource an operation is authorised, and the condition
//! keys that go with it.

use hearth_iam::Request;
use hearth_identity::Account;
use hearth_identity::entities::Tags;
use hearth_service::Error;
use hearth_service::{Asked, Operation, Permit};

use super::entity::{Entity, Kind, user_name};
use super::{Iam, On};

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
pub(super) fn authorize(
    operation: &Operation<Iam>,
    account: &Account,
    api: &Iam,
    asked: &Asked,
) -> Result<Permit, Error> {
    let target = target(operation.access.on, account, asked)?;
    // To make something with tags is also to tag it.
    let made = operation.name.strip_prefix("Create").filter(|_| asked.input().has("Tags"));
    let mut permit = None;
    for arn in &target.arns {
        permit = Some(ask(operation, operation.action, arn, &target, api, asked)?);
        if let Some(made) = made {
            permit = Some(ask(operation, &format!("Tag{made}"), arn, &target, api, asked)?);
        }
    }
    Ok(permit.expect("invariant: there is something to ask about"))
}

fn ask(
    operation: &Operation<Iam>,
    action: &str,
    arn: &str,
    target: &Target,
    api: &Iam,
    asked: &Asked,
) -> Result<Permit, Error> {
    let request = asked.caller().request(format!("iam:{action}"), arn);
    asked.ask(&api.identities, &conditions(operation, request, target, asked))
}

fn conditions(operation: &Operation<Iam>, mut request: Request, target: &Target, asked: &Asked) -> Request {
    let input = asked.input();
    for (key, value) in &target.tags {
        for prefix in ["aws", "iam"] {
            request = request.with(&format!("{prefix}:ResourceTag/{key}"), [value.clone()]);
        }
    }
    let new_tags = input.pairs("Tags", "Key", "Value");
    request = request.with_request_tags(new_tags.iter().copied());
    request = request.with("aws:TagKeys", new_tags.iter().map(|(key, _)| *key).chain(input.list("TagKeys")));
    if let Some(policy) =
        input.get("PolicyArn").filter(|_| matches!(operation.access.on, On::User | On::Role))
    {
        request = request.with("iam:PolicyARN", [policy]);
    }
    let current = target.boundary.as_deref().filter(|_| WATCHED.contains(&operation.name));
    request.with("iam:PermissionsBoundary", input.get("PermissionsBoundary").or(current))
}

fn target(on: On, account: &Account, asked: &Asked) -> Result<Target, Error> {
    let input = asked.input();
    let made = |kind: &str, name: &str| {
        let path = input.get("Path").unwrap_or("/");
        let arn = format!("arn:aws:iam::{}:{kind}{path}{}", account.id(), input.required(name));
        Target { arns: vec![arn], ..Target::default() }
    };
    Ok(match on {
        On::Everything => Target { arns: vec!["*".to_owned()], ..Target::default() },
        On::User if input.get("UserName").is_none() && asked.caller().is_root() => {
            Target { arns: vec![asked.caller().principal.arn()], ..Target::default() }
        }
        On::User => existing(account, Kind::User, user_name(asked)?),
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
