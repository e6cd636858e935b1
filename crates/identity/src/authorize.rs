//! What a caller may do.

use std::sync::Arc;

use hearth_api::{Error, ErrorKind};
use hearth_iam::{Decision, Document, Policies, PolicyType, Principal, Request, evaluate};

use crate::account::Account;
use crate::caller::Caller;
use crate::entities::{Attachments, Policy};
use crate::identities::{Directory, Identities};
use crate::session::Session;

impl Identities {
    /// Refuses what the caller may not do, with the service's sentence (AccessDenied).
    ///
    /// `request` comes from [`Caller::request`]. Resources of other accounts are to be refused before: what is shared
    /// between accounts has a policy of its own, see [`Self::decide`].
    pub fn authorize(&self, caller: &Caller, request: &Request) -> Result<(), Error> {
        match self.decide(caller, request, None).denial(request) {
            None => Ok(()),
            Some(message) => Err(Error::new(ErrorKind::AccessDenied, message)),
        }
    }

    /// What follows from the caller's policies and that of the resource, such as a role's trust policy.
    pub fn decide(&self, caller: &Caller, request: &Request, resource: Option<&Document>) -> Decision {
        let directory = self.read();
        let stands = |session: &Arc<Session>| directory.stands(session);
        if !directory.knows(&caller.principal) || !caller.session.as_ref().is_none_or(stands) {
            // Deleted since the request was authenticated; a resource's policy must not bring back the name.
            return Decision::ImplicitlyDenied(PolicyType::Identity);
        }
        let session = caller.session.as_ref().and_then(|session| session.policies.as_ref());
        let session = session.map(|policies| policies.iter().map(Policy::document).collect());
        let mut policies = directory.policies_of(&caller.principal);
        policies.session = session;
        policies.resource = resource;
        evaluate(&policies, request)
    }
}

impl Directory {
    /// Policies of a user, or of the role of a session. Unique ids are compared, so that who is gone has none.
    pub(crate) fn policies_of(&self, principal: &Principal) -> Policies<'_> {
        let found = match principal {
            Principal::User { account, name, id, .. } => self
                .account(account)
                .and_then(|holder| Some(resolve(holder, &self.user(account, name, id)?.policies))),
            Principal::AssumedRole { account, role, id, .. } => self
                .account(account)
                .and_then(|holder| Some(resolve(holder, &self.role_with_id(account, role, id)?.policies))),
            Principal::Root { .. } | Principal::Service { .. } => None,
        };
        found.unwrap_or_default()
    }
}

fn resolve<'a>(account: &'a Account, attachments: &'a Attachments) -> Policies<'a> {
    let managed = |arn: &String| Some(account.policy(arn)?.default()?.policy.document());
    let boundary = attachments.boundary.as_ref().map(managed);
    if boundary.is_some_and(|document| document.is_none()) {
        // IAM does not let a policy go that something is bounded by; if it went all the same, nothing is allowed.
        return Policies::default();
    }
    let inline = attachments.inline.values().map(Policy::document);
    let identity = inline.chain(attachments.managed.iter().filter_map(managed)).collect();
    Policies { identity, boundary: boundary.flatten(), ..Policies::default() }
}
