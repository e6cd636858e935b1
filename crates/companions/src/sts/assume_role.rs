//! AssumeRole.

use hearth_iam::{Decision, Document, DocumentKind, PolicyType, Principal, Request};
use hearth_identity::{Account, Policy, Role, Session, SessionOf};

use super::Call;
use crate::iam::documents;
use crate::query::shape::{
    Kind::{Integer, Structures, Text, Texts},
    Member, TAGS, optional, required,
};
use crate::query::texts::{
    CONTEXT_ASSERTION, EXTERNAL_ID, SERIAL_NUMBER, SESSION_DOCUMENT, SESSION_NAME, SOURCE_IDENTITY, STS_ARN,
    TAG_KEY, TOKEN_CODE,
};
use crate::query::xml::Xml;
use crate::query::{Code, Refusal};

pub(super) const MEMBERS: &[Member] = &[
    required("RoleArn", Text(STS_ARN)),
    required("RoleSessionName", Text(SESSION_NAME)),
    optional("PolicyArns", Structures(&[optional("arn", Text(STS_ARN))], 0, usize::MAX)),
    optional("Policy", Text(SESSION_DOCUMENT)),
    optional("DurationSeconds", Integer(900, 43_200)),
    optional("Tags", TAGS),
    optional("TransitiveTagKeys", Texts(TAG_KEY, 50)),
    optional("ExternalId", Text(EXTERNAL_ID)),
    optional("SerialNumber", Text(SERIAL_NUMBER)),
    optional("TokenCode", Text(TOKEN_CODE)),
    optional("SourceIdentity", Text(SOURCE_IDENTITY)),
    optional("ProvidedContexts", Structures(PROVIDED, 1, 5)),
    optional("MinimumSessionTokenSize", Integer(0, 4096)),
];
const PROVIDED: &[Member] =
    &[optional("ProviderArn", Text(STS_ARN)), optional("ContextAssertion", Text(CONTEXT_ASSERTION))];

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
pub(super) fn authorize(call: &Call<'_>) -> Result<(), Refusal> {
    if call.caller.is_root() {
        return Err(Refusal::new(Code::AccessDenied, "Roles may not be assumed by root accounts."));
    }
    let role = role(call);
    let mut actions = vec!["sts:AssumeRole"];
    if call.input.entries("Tags").is_some() {
        actions.push("sts:TagSession");
    }
    for action in actions {
        let request = request(call, action, role.as_ref());
        let decision = match &role {
            Some(role) => call.identities.decide(call.caller, &request, Some(role.trust.document())),
            None => match call.identities.decide(call.caller, &request, None) {
                denied @ Decision::ExplicitlyDenied(_) => denied,
                _ => Decision::ImplicitlyDenied(PolicyType::Trust),
            },
        };
        if let Some(message) = decision.denial(&request) {
            return Err(Refusal::new(Code::AccessDenied, message));
        }
    }
    Ok(())
}

fn request(call: &Call<'_>, action: &str, role: Option<&Role>) -> Request {
    let input = &call.input;
    let mut request = call
        .caller
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
fn role(call: &Call<'_>) -> Option<Role> {
    call.identities.role(call.input.required("RoleArn"))
}

pub(super) async fn assume(call: &Call<'_>) -> Result<Xml, Refusal> {
    call.refuse_mfa()?;
    refuse_unsupported(call)?;
    let gone = || Refusal::new(Code::AccessDenied, "The role was deleted just now.");
    let role = role(call).ok_or_else(gone)?;
    let seconds = seconds(call, &role)?;
    let account = call.identities.account(&role.account).ok_or_else(gone)?;
    let policies = session_policies(call, &account)?;
    let tags = call.input.pairs("Tags", "Key", "Value");
    let given_tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let session = call.input.required("RoleSessionName");
    let of = SessionOf::Role { name: role.name.clone(), id: role.id.clone(), session: session.to_owned() };
    let user = Xml::default()
        .text("AssumedRoleId", format_args!("{}:{session}", role.id))
        .text("Arn", role.session(session).arn());
    let result = Xml::default().element("AssumedRoleUser", user);
    let mut session = Session::new(role.account, of, policies, seconds);
    session.tags = given_tags;
    call.start(session, result).await
}

/// What a session would have to remember and does not.
fn refuse_unsupported(call: &Call<'_>) -> Result<(), Refusal> {
    let given = |name: &&str| {
        call.input.get(name).is_some() || call.input.entries(name).is_some_and(|all| !all.is_empty())
    };
    match ["TransitiveTagKeys", "SourceIdentity", "ProvidedContexts"].iter().find(|name| given(name)) {
        None => Ok(()),
        Some(name) => {
            Err(Refusal::new(Code::ValidationError, format!("{name} of AssumeRole is not supported here.")))
        }
    }
}

fn seconds(call: &Call<'_>, role: &Role) -> Result<u32, Refusal> {
    let seconds = call.input.number("DurationSeconds").unwrap_or(DEFAULT_SECONDS);
    let chained = matches!(call.caller.principal, Principal::AssumedRole { .. });
    let message = if seconds > role.maximum_session_seconds {
        "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
    } else if chained && seconds > CHAINED_SECONDS {
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
    } else {
        return Ok(seconds);
    };
    Err(Refusal::new(Code::ValidationError, message))
}

/// The session's policies as they are now; `None` when none are passed.
fn session_policies(call: &Call<'_>, account: &Account) -> Result<Option<Vec<Policy>>, Refusal> {
    let mut policies = Vec::new();
    if let Some(text) = call.input.get("Policy") {
        if documents::length(text) > MAXIMUM_POLICY {
            return Err(too_large(&format!("has more than {MAXIMUM_POLICY} characters")));
        }
        let longest = Document::longest(MAXIMUM_POLICY);
        if text.len() > longest {
            return Err(too_large(&format!("has more than {longest} bytes with its white space")));
        }
        policies.push(documents::read(text, DocumentKind::Identity, "PolicySize", MAXIMUM_POLICY)?);
    }
    let arns = call.input.pairs("PolicyArns", "arn", "arn");
    if arns.len() > MAXIMUM_POLICY_ARNS {
        let message =
            format!("At most {MAXIMUM_POLICY_ARNS} session policies can be named, not {}.", arns.len());
        return Err(Refusal::new(Code::ValidationError, message));
    }
    for (arn, _) in arns {
        let version = account.policy(arn).and_then(|policy| policy.default());
        let message = || format!("The session policy {arn} is no managed policy of the role's account.");
        let version = version.ok_or_else(|| Refusal::new(Code::ValidationError, message()))?;
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

fn too_large(how: &str) -> Refusal {
    Refusal::new(Code::PackedPolicyTooLarge, format!("The session policy {how}."))
}
