//! What a caller may do.

use std::sync::Arc;

use hearth_api::{Error, ErrorKind};
use hearth_iam::{Decision, Document, Policies, PolicyType, Principal, Request, evaluate};

use crate::account::Account;
use crate::caller::Caller;
use crate::entities::{Attachments, Policy};
use crate::identities::Identities;
use crate::seldom::Seldom;

impl Identities {
    /// Refuses what the caller may not do, with the service's sentence (AccessDenied).
    ///
    /// `request` comes from [`Caller::request`]. Resources of other accounts are to be refused
    /// before: what is shared between accounts has a policy of its own, see [`Self::decide`].
    pub fn authorize(&self, caller: &Caller, request: &Request) -> Result<(), Error> {
        match self.decide(caller, request, None).denial(request) {
            None => Ok(()),
            Some(message) => Err(Error::new(ErrorKind::AccessDenied, message)),
        }
    }

    /// What follows from the caller's policies and that of the resource, such as a
    /// role's trust policy.
    pub fn decide(&self, caller: &Caller, request: &Request, resource: Option<&Document>) -> Decision {
        // A copy of the account, so that nobody waits for what this one's policies take.
        let Some(account) = self.standing_account(caller) else {
            // Deleted since the request was authenticated; a resource's policy must not
            // bring back the name.
            return Decision::ImplicitlyDenied(PolicyType::Identity);
        };
        let session = caller.session.as_ref().and_then(|session| session.policies.as_ref());
        let session = session.map(|policies| policies.iter().map(Policy::document).collect());
        let policies = Policies { session, resource, ..policies_of(&account, &caller.principal) };
        told(evaluate(&policies, request), request)
    }

    /// The caller's account, if the caller is still there with all whom its session depends on.
    fn standing_account(&self, caller: &Caller) -> Option<Arc<Account>> {
        let directory = self.read();
        let stands = caller.session.as_ref().is_none_or(|session| directory.stands(session));
        let account = caller.principal.account()?;
        (stands && directory.knows(&caller.principal))
            .then(|| directory.accounts.get(account).cloned())
            .flatten()
    }
}

/// Policies of a user, or of the role of a session, in its account. Unique ids are compared, so
/// that who is gone has none.
pub(crate) fn policies_of<'a>(account: &'a Account, principal: &Principal) -> Policies<'a> {
    let found = match principal {
        Principal::User { name, id, .. } => account.user_with_id(name, id).map(|user| &user.policies),
        Principal::AssumedRole { role, id, .. } => account.role_with_id(role, id).map(|role| &role.policies),
        Principal::Root { .. } | Principal::Service { .. } => None,
    };
    found.map(|attachments| resolve(account, attachments)).unwrap_or_default()
}

/// A decision; the operator is told of one that would have taken too long.
pub(crate) fn told(decision: Decision, request: &Request) -> Decision {
    static TOLD: Seldom = Seldom::new();
    if decision == Decision::Undecided && TOLD.is_due() {
        let (principal, action) = (request.principal().arn(), request.action());
        tracing::warn!(?principal, ?action, "denied, as the policies that apply take too long to evaluate");
    }
    decision
}

fn resolve<'a>(account: &'a Account, attachments: &'a Attachments) -> Policies<'a> {
    let managed = |arn: &String| Some(account.policy(arn)?.default()?.policy.document());
    let boundary = attachments.boundary.as_ref().map(managed);
    if boundary.is_some_and(|document| document.is_none()) {
        // IAM does not let a policy go that something is bounded by; if it went all the
        // same, nothing is allowed.
        return Policies::default();
    }
    let inline = attachments.inline.values().map(Policy::document);
    let identity = inline.chain(attachments.managed.iter().filter_map(managed)).collect();
    Policies { identity, boundary: boundary.flatten(), ..Policies::default() }
}
