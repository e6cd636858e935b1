//! What follows from several policies (user guide, "Policy evaluation logic").

use crate::budget::Budget;
use crate::decision::{Decision, PolicyType};
use crate::document::Document;
use crate::principal::Principal;
use crate::principal_element::{Grant, is_account};
use crate::request::Request;
use crate::statement::DocumentKind;
use crate::statement::Effect;

/// The policies that have a say in a request.
#[derive(Debug, Clone, Default)]
pub struct Policies<'a> {
    /// Inline and managed policies of the user or role.
    pub identity: Vec<&'a Document>,
    /// Permissions boundary of the user or role: it allows nothing, but what it does
    /// not allow is denied.
    pub boundary: Option<&'a Document>,
    /// Inline and managed policies that were passed to AssumeRole; they limit like a boundary.
    /// `None` when none were passed; an empty list allows nothing.
    pub session: Option<Vec<&'a Document>>,
    /// Policy of the resource; the trust policy when a role is to be assumed.
    pub resource: Option<&'a Document>,
}

/// Decides about a request.
///
/// An explicit deny anywhere wins. Else the identity policies, the boundary and the session
/// policies must each allow it, except where a resource policy of the same account grants it to the
/// caller itself. On a resource of another account both sides must allow it. A role trusts nobody
/// unless its trust policy says so.
///
/// The work is bounded; what would take more is [`Decision::Undecided`], which is no.
pub fn evaluate(policies: &Policies<'_>, request: &Request) -> Decision {
    within(|budget| decide(policies, request, budget))
}

/// Decides with a budget of steps.
fn within(decide: impl FnOnce(&Budget) -> Decision) -> Decision {
    let budget = Budget::default();
    let decision = decide(&budget);
    if budget.is_spent() { Decision::Undecided } else { decision }
}

fn decide(policies: &Policies<'_>, request: &Request, budget: &Budget) -> Decision {
    // An identity policy names nobody; it must not pass for one that lets in everybody.
    let resource_policy = policies.resource.filter(|document| document.kind() != DocumentKind::Identity);
    let resource_type = match resource_policy.map(Document::kind) {
        Some(DocumentKind::Trust) => PolicyType::Trust,
        _ => PolicyType::Resource,
    };
    let resource = consider(resource_policy, request, budget);
    let identity = consider(policies.identity.iter().copied(), request, budget);
    let boundary = policies.boundary.map(|document| consider([document], request, budget));
    let of_session = |documents: &Vec<&Document>| consider(documents.iter().copied(), request, budget);
    let session = policies.session.as_ref().map(of_session);

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
/// That is all there is to ask for a service. Others may need the consent of their identity
/// policies too: see [`evaluate`] with [`Policies::resource`].
pub fn evaluate_trust(trust: &Document, request: &Request) -> Decision {
    within(|budget| match consider([trust], request, budget) {
        Outcome::Denied => Decision::ExplicitlyDenied(PolicyType::Trust),
        Outcome::Silent => Decision::ImplicitlyDenied(PolicyType::Trust),
        Outcome::Granted(_) => Decision::Allowed,
    })
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

fn consider<'a>(
    documents: impl IntoIterator<Item = &'a Document>,
    request: &Request,
    budget: &Budget,
) -> Outcome {
    let mut outcome = Outcome::Silent;
    for statement in documents.into_iter().flat_map(Document::statements) {
        let Some(grant) = statement.applies(request, budget) else { continue };
        outcome = match (statement.effect(), outcome) {
            (Effect::Deny, _) => return Outcome::Denied,
            (Effect::Allow, Outcome::Granted(earlier)) => Outcome::Granted(grant.max(earlier)),
            (Effect::Allow, _) => Outcome::Granted(grant),
        };
    }
    outcome
}

/// Whether the resource is of another account than the caller. Where its ARN names none, as in S3,
/// `aws:ResourceAccount` does; with the `aws` of managed resources it is not.
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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use hearth_api::AccountId;

    use super::*;

    fn document(text: &str, limit: usize) -> Document {
        Document::parse(text, DocumentKind::Identity, limit).unwrap()
    }

    fn ann(user_agent: &str) -> Request {
        let ann = Principal::User {
            account: AccountId::from_stored("111122223333"),
            path: "/".to_owned(),
            name: "ann".to_owned(),
            id: "AIDA1".to_owned(),
        };
        let key = format!("arn:aws:s3:::bucket/{}", "k".repeat(1_000));
        Request::new(ann, "s3:GetObject", key).with("aws:UserAgent", [user_agent])
    }

    fn one(effect: &str, resource: &str, condition: &str) -> String {
        format!(
            r#"{{"Effect":"{effect}","Action":"s3:*","Resource":"{resource}","Condition":{{{condition}}}}}"#
        )
    }

    fn all(statements: &[String]) -> String {
        format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","))
    }

    /// The kind: one decision that keeps a thread for minutes.
    #[test]
    fn a_decision_has_a_budget_whatever_the_policies_are() {
        let user_agent = "a".repeat(60_000);
        let patterns = vec![format!("\"*{}b\"", "a".repeat(500)); 10].join(",");
        let costly = [
            format!(r#""StringLike":{{"aws:UserAgent":[{patterns}]}}"#),
            format!(r#""StringNotLike":{{"aws:UserAgent":[{patterns}]}}"#),
            format!(r#""ArnLike":{{"aws:UserAgent":["a:a:a:a:a:{}"]}}"#, "${aws:UserAgent}".repeat(100)),
            format!(r#""NumericEquals":{{"aws:UserAgent":[{}]}}"#, vec!["1"; 1_000].join(",")),
            format!(r#""StringEqualsIgnoreCase":{{"aws:UserAgent":["{}"]}}"#, "${aws:UserAgent}".repeat(100)),
        ];
        for (effect, condition) in
            ["Allow", "Deny"].into_iter().flat_map(|e| costly.iter().map(move |c| (e, c)))
        {
            let text = all(&[one("Allow", "*", ""), one(effect, "*", condition)]);
            let policy = document(&text, 60_000);
            let policies = Policies { identity: vec![&policy], ..Policies::default() };
            let request = ann(&user_agent);
            let decision = evaluate(&policies, &request);
            assert_eq!(decision, Decision::Undecided, "{effect} {}", &condition[..40]);
            assert!(!decision.is_allowed());
            assert!(
                decision.denial(&request).is_some_and(|sentence| sentence.contains("too long to evaluate"))
            );
        }
    }

    /// What a client sends must not be cut before it is looked at: its end may be
    /// what is forbidden.
    #[test]
    fn a_long_value_dodges_no_deny() {
        let bots = one("Deny", "*", r#""StringLike":{"aws:UserAgent":["*crawl*","*bot*"]}"#);
        let policy = document(&all(&[one("Allow", "*", ""), bots]), 6_144);
        let policies = Policies { identity: vec![&policy], ..Policies::default() };
        let decide = |user_agent: &str| evaluate(&policies, &ann(user_agent));
        assert_eq!(decide("curl"), Decision::Allowed);
        assert_eq!(decide(&"x".repeat(60_000)), Decision::Allowed);
        let denied = Decision::ExplicitlyDenied(PolicyType::Identity);
        assert_eq!(decide(&format!("{} bot", "x".repeat(60_000))), denied);
    }

    #[test]
    fn the_largest_policies_are_decided() {
        let mut resources = String::new();
        for n in 0..120 {
            write!(resources, r#""arn:aws:s3:::some-bucket-{n:04}/team/*.json","#).unwrap();
        }
        let text = format!(
            r#"{{"Statement":[{{"Effect":"Allow","Action":["s3:Put*","s3:Get*"],"Resource":[{resources}"*"]}}]}}"#
        );
        let policy = document(&text, 6_144);
        let policies =
            Policies { identity: vec![&policy; 20], session: Some(vec![&policy; 10]), ..Policies::default() };
        assert_eq!(evaluate(&policies, &ann("curl")), Decision::Allowed);
    }

    /// The kind: what is kept is many times what was sent. Each part that is kept shows
    /// in the debug output.
    #[test]
    fn what_is_kept_of_a_policy_is_about_its_text() {
        for filling in [" ", "a", "*", "?", "a?", "*?"] {
            let resource = format!("arn:aws:s3:::b/{}", filling.repeat(10_000 / filling.len()));
            let text = all(&[one("Allow", &resource, &format!(r#""StringLike":{{"a:b":"{resource}"}}"#))]);
            let kept = format!("{:?}", document(&text, 30_000)).len();
            assert!(kept < 2 * text.len(), "{kept} bytes of {} for {filling:?}", text.len());
        }
    }
}
