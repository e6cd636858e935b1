//! What follows from several policies (user guide, "Policy evaluation logic").

use crate::decision::{Decision, PolicyType};
use crate::document::{Document, DocumentKind};
use crate::principal::Principal;
use crate::principal_element::{Grant, is_account};
use crate::request::Request;
use crate::statement::Effect;

/// The policies that have a say in a request.
#[derive(Debug, Clone, Default)]
pub struct Policies<'a> {
    /// Inline and managed policies of the user or role.
    pub identity: Vec<&'a Document>,
    /// Permissions boundary of the user or role: it allows nothing, but what it does not allow is denied.
    pub boundary: Option<&'a Document>,
    /// Inline and managed policies that were passed to AssumeRole; they limit like a boundary. `None` when none were
    /// passed; an empty list allows nothing.
    pub session: Option<Vec<&'a Document>>,
    /// Policy of the resource; the trust policy when a role is to be assumed.
    pub resource: Option<&'a Document>,
}

/// Decides about a request.
///
/// An explicit deny anywhere wins. Else the identity policies, the boundary and the session policies must each allow
/// it, except where a resource policy of the same account grants it to the caller itself. On a resource of another
/// account both sides must allow it. A role trusts nobody unless its trust policy says so.
pub fn evaluate(policies: &Policies<'_>, request: &Request) -> Decision {
    // An identity policy names nobody; it must not pass for one that lets in everybody.
    let resource_policy = policies.resource.filter(|document| document.kind() != DocumentKind::Identity);
    let resource_type = match resource_policy.map(Document::kind) {
        Some(DocumentKind::Trust) => PolicyType::Trust,
        _ => PolicyType::Resource,
    };
    let resource = consider(resource_policy, request);
    let identity = consider(policies.identity.iter().copied(), request);
    let boundary = policies.boundary.map(|document| consider([document], request));
    let session = policies.session.as_ref().map(|documents| consider(documents.iter().copied(), request));

    for (outcome, policy_type) in [
        (Some(resource), resource_type),
        (Some(identity), PolicyType::Identity),
        (boundary, PolicyType::Boundary),
        (session, PolicyType::Session),
    ] {
        if outcome == Some(Outcome::Denied) {
            return Decision::ExplicitlyDenied(policy_type);
        }
    }

    let foreign = is_foreign(request);
    let is_service = matches!(request.principal(), Principal::Service { .. });
    let must_be_granted = foreign || is_service || resource_type == PolicyType::Trust;
    let grant = resource.grant();
    if must_be_granted && grant.is_none() {
        return Decision::ImplicitlyDenied(resource_type);
    }
    // Another account's policy cannot spare the caller the consent of its own.
    let grant = grant.filter(|_| !foreign);
    let is_root = matches!(request.principal(), Principal::Root { .. });
    if grant < Some(Grant::Limited) && !is_root && identity.grant().is_none() {
        return Decision::ImplicitlyDenied(PolicyType::Identity);
    }
    let limits = |outcome: Option<Outcome>| outcome == Some(Outcome::Silent) && grant < Some(Grant::Full);
    if limits(boundary) {
        return Decision::ImplicitlyDenied(PolicyType::Boundary);
    }
    if limits(session) {
        return Decision::ImplicitlyDenied(PolicyType::Session);
    }
    Decision::Allowed
}

/// What a role's trust policy alone says to a request for `sts:AssumeRole` on the role.
///
/// That is all there is to ask for a service. Others may need the consent of their identity policies too: see
/// [`evaluate`] with [`Policies::resource`].
pub fn evaluate_trust(trust: &Document, request: &Request) -> Decision {
    match consider([trust], request) {
        Outcome::Denied => Decision::ExplicitlyDenied(PolicyType::Trust),
        Outcome::Silent => Decision::ImplicitlyDenied(PolicyType::Trust),
        Outcome::Granted(_) => Decision::Allowed,
    }
}

/// What policies of one type say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Denied,
    Silent,
    Granted(Grant),
}

impl Outcome {
    fn grant(self) -> Option<Grant> {
        match self {
            Self::Granted(grant) => Some(grant),
            Self::Denied | Self::Silent => None,
        }
    }
}

fn consider<'a>(documents: impl IntoIterator<Item = &'a Document>, request: &Request) -> Outcome {
    let mut outcome = Outcome::Silent;
    for statement in documents.into_iter().flat_map(Document::statements) {
        let Some(grant) = statement.applies(request) else { continue };
        outcome = match (statement.effect(), outcome) {
            (Effect::Deny, _) => return Outcome::Denied,
            (Effect::Allow, Outcome::Granted(earlier)) => Outcome::Granted(grant.max(earlier)),
            (Effect::Allow, _) => Outcome::Granted(grant),
        };
    }
    outcome
}

/// Whether the resource is of another account than the caller. Where its ARN names none, as in S3, `aws:ResourceAccount`
/// does; with the `aws` of managed resources it is not.
fn is_foreign(request: &Request) -> bool {
    let owner = request.resource().split(':').nth(4).unwrap_or_default();
    let known = if owner.is_empty() { request.context().values("aws:ResourceAccount") } else { &[] };
    let owner = known.first().map_or(owner, String::as_str);
    let owner = Some(owner).filter(|owner| is_account(owner));
    match (owner, request.principal().account()) {
        (Some(owner), Some(own)) => owner != own.as_str(),
        _ => false,
    }
}
