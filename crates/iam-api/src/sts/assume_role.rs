//! AssumeRole.

use hearth_iam::{Decision, Document, DocumentKind, PolicyType, Principal, Request};
use hearth_identity::{Account, Policy, Role, Session, SessionOf};
use hearth_service::Error;
use hearth_service::Xml;
use hearth_service::shape::{Member, Shape, optional, required};
use hearth_service::{Asked, Call, Permit};

use super::{Sts, refuse_mfa};
use crate::errors::{ACCESS_DENIED, PACKED_POLICY_TOO_LARGE, VALIDATION_ERROR};
use crate::iam::documents;
use crate::texts::{
    CONTEXT_ASSERTION, EXTERNAL_ID, SERIAL_NUMBER, SESSION_DOCUMENT, SESSION_NAME, SOURCE_IDENTITY, STS_ARN,
    TAG_KEY, TAGS, TOKEN_CODE,
};

pub(super) const MEMBERS: &[Member] = &[
    required("RoleArn", &STS_ARN),
    required("RoleSessionName", &SESSION_NAME),
    optional("PolicyArns", &Shape::List(&Shape::Structure(&[optional("arn", &STS_ARN)]), 0, usize::MAX)),
    optional("Policy", &SESSION_DOCUMENT),
    optional("DurationSeconds", &Shape::Integer(900, 43_200)),
    optional("Tags", &TAGS),
    optional("TransitiveTagKeys", &Shape::List(&TAG_KEY, 0, 50)),
    optional("ExternalId", &EXTERNAL_ID),
    optional("SerialNumber", &SERIAL_NUMBER),
    optional("TokenCode", &TOKEN_CODE),
    optional("SourceIdentity", &SOURCE_IDENTITY),
    optional("ProvidedContexts", &Shape::List(&Shape::Structure(PROVIDED), 1, 5)),
    optional("MinimumSessionTokenSize", &Shape::Integer(0, 4096)),
];
const PROVIDED: &[Member] =
    &[optional("ProviderArn", &STS_ARN), optional("ContextAssertion", &CONTEXT_ASSERTION)];

const DEFAULT_SECONDS: u32 = 3600;
/// Longest session of a role that was assumed with a role's credentials (IAM user
/// guide, "Role chaining").
const CHAINED_SECONDS: u32 = 3600;
/// Session policies that can be named (STS API reference, AssumeRole).
const MAXIMUM_POLICY_ARNS: usize = 10;
/// Characters of the session policy (same page).
const MAXIMUM_POLICY: usize = 2048;

/// Bytes of all session policies together, white space included. The session keeps a copy of each.
const MAXIMUM_POLICY_BYTES: usize = 64 << 10;

/// Refuses whom the role does not trust, or who may not ask. A role that is not there is
/// refused in the same way.
pub(super) fn authorize(sts: &Sts, asked: &Asked) -> Result<Permit, Error> {
    if asked.caller().is_root() {
        return Err(Error::new(ACCESS_DENIED, "Roles may not be assumed by root accounts."));
    }
    let role = role(sts, asked);
    let permit = ask(sts, asked, "sts:AssumeRole", role.as_ref())?;
    if asked.input().has("Tags") {
        return ask(sts, asked, "sts:TagSession", role.as_ref());
    }
    Ok(permit)
}

fn ask(sts: &Sts, asked: &Asked, action: &str, role: Option<&Role>) -> Result<Permit, Error> {
    let request = request(asked, action, role);
    let decision = match role {
        Some(role) => sts.identities.decide(asked.caller(), &request, Some(role.trust.document())),
        None => match sts.identities.decide(asked.caller(), &request, None) {
            denied @ Decision::ExplicitlyDenied(_) => denied,
            _ => Decision::ImplicitlyDenied(PolicyType::Trust),
        },
    };
    asked.decided(&request, decision)
}

fn request(asked: &Asked, action: &str, role: Option<&Role>) -> Request {
    let input = asked.input();
    let mut request = asked
        .caller()
        .request(action, input.required("RoleArn"))
        .with("sts:RoleSessionName", [input.required("RoleSessionName")])
        .with("sts:ExternalId", input.get("ExternalId"));
    let tags = input.pairs("Tags", "Key", "Value");
    request = request.with_request_tags(tags.iter().copied());
    for (key, value) in role.iter().flat_map(|role| &role.tags) {
        for prefix in ["aws", "iam"] {
            request = request.with(&format!("{prefix}:ResourceTag/{key}"), [value.clone()]);
        }
    }
    request
}

/// The role to be assumed, of whichever account.
fn role(sts: &Sts, asked: &Asked) -> Option<Role> {
    sts.identities.role(asked.input().required("RoleArn"))
}

pub(super) async fn assume(sts: &Sts, call: &Call) -> Result<Xml, Error> {
    refuse_mfa(call)?;
    refuse_unsupported(call)?;
    let gone = || Error::new(ACCESS_DENIED, "The role was deleted just now.");
    let role = role(sts, call).ok_or_else(gone)?;
    let seconds = seconds(call, &role)?;
    let account = sts.identities.account(&role.account).ok_or_else(gone)?;
    let policies = session_policies(call, &account)?;
    let tags = call.input().pairs("Tags", "Key", "Value");
    let given_tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let session = call.input().required("RoleSessionName");
    let of = SessionOf::Role { name: role.name.clone(), id: role.id.clone(), session: session.to_owned() };
    let user = Xml::default()
        .text("AssumedRoleId", format_args!("{}:{session}", role.id))
        .text("Arn", role.session(session).arn());
    let result = Xml::default().element("AssumedRoleUser", user);
    let mut session = Session::new(role.account, of, policies, seconds);
    session.tags = given_tags;
    sts.start(call, session, result).await
}

/// What a session would have to remember and does not.
fn refuse_unsupported(call: &Call) -> Result<(), Error> {
    let given = |name: &&str| call.input().has_any(name);
    match ["TransitiveTagKeys", "SourceIdentity", "ProvidedContexts"].iter().find(|name| given(name)) {
        None => Ok(()),
        Some(name) => {
            Err(Error::new(VALIDATION_ERROR, format!("{name} of AssumeRole is not supported here.")))
        }
    }
}

fn seconds(call: &Call, role: &Role) -> Result<u32, Error> {
    let seconds = call.input().number("DurationSeconds").unwrap_or(DEFAULT_SECONDS);
    let chained = matches!(call.caller().principal, Principal::AssumedRole { .. });
    let message = if seconds > role.maximum_session_seconds {
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
    } else if chained && seconds > CHAINED_SECONDS {
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
    } else {
        return Ok(seconds);
    };
    Err(Error::new(VALIDATION_ERROR, message))
}

/// The session's policies as they are now; `None` when none are passed.
fn session_policies(call: &Call, account: &Account) -> Result<Option<Vec<Policy>>, Error> {
    let mut policies = Vec::new();
    if let Some(text) = call.input().get("Policy") {
        if documents::length(text) > MAXIMUM_POLICY {
            return Err(too_large(&format!("has more than {MAXIMUM_POLICY} characters")));
        }
        let longest = Document::longest(MAXIMUM_POLICY);
        if text.len() > longest {
            return Err(too_large(&format!("has more than {longest} bytes with its white space")));
        }
        policies.push(documents::read(text, DocumentKind::Identity, "PolicySize", MAXIMUM_POLICY)?);
    }
    let arns = call.input().pairs("PolicyArns", "arn", "arn");
    if arns.len() > MAXIMUM_POLICY_ARNS {
        let message =
            format!("At most {MAXIMUM_POLICY_ARNS} session policies can be named, not {}.", arns.len());
        return Err(Error::new(VALIDATION_ERROR, message));
    }
    for (arn, _) in arns {
        let version = account.policy(arn).and_then(|policy| policy.default());
        let message = || format!("The session policy {arn} is no managed policy of the role's account.");
        let version = version.ok_or_else(|| Error::new(VALIDATION_ERROR, message()))?;
        policies.push(version.policy.clone());
    }
    let bytes: usize = policies.iter().map(Policy::bytes).sum();
    if bytes > MAXIMUM_POLICY_BYTES {
        return Err(too_large(&format!(
            "has more than {MAXIMUM_POLICY_BYTES} bytes with the managed policies that are passed"
        )));
    }
    Ok((!policies.is_empty()).then_some(policies))
}

fn too_large(how: &str) -> Error {
    Error::new(PACKED_POLICY_TOO_LARGE, format!("The session policy {how}."))
}
