//! The answer, and the sentence for whoever is denied.

use crate::request::Request;

/// A kind of policy, as denials name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyType {
    /// Policies of the user or role.
    Identity,
    /// The user's or role's permissions boundary.
    Boundary,
    /// Policies that were passed when the session was made.
    Session,
    /// Policy of the resource.
    Resource,
    /// Trust policy of the role.
    Trust,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Something allows it and nothing denies it.
    Allowed,
    /// Policies of this type would have had to allow it.
    ImplicitlyDenied(PolicyType),
    /// A statement of a policy of this type denies it.
    ExplicitlyDenied(PolicyType),
    /// It would take too long to find out, so it may not proceed.
    Undecided,
}

impl Decision {
    /// Whether the request may proceed.
    pub fn is_allowed(self) -> bool {
        self == Self::Allowed
    }

    /// The message of AccessDenied; `None` when allowed (user guide, "Troubleshoot access
    /// denied error messages").
    pub fn denial(self, request: &Request) -> Option<String> {
        let action = request.action();
        let reason = match self {
            Self::Allowed => return None,
            Self::Undecided => {
                "because the policies that apply take too long to evaluate; use fewer or more specific wildcards".to_owned()
            }
            Self::ImplicitlyDenied(kind) => {
                let policy = match kind {
                    PolicyType::Identity => "identity-based policy",
                    PolicyType::Boundary => "permissions boundary",
                    PolicyType::Session => "session policy",
                    PolicyType::Resource => "resource-based policy",
                    PolicyType::Trust => "role trust policy",
                };
                format!("because no {policy} allows the {action} action")
            }
            Self::ExplicitlyDenied(kind) => {
                let policy = match kind {
                    PolicyType::Identity => "an identity-based policy",
                    PolicyType::Boundary => "a permissions boundary",
                    PolicyType::Session => "a session policy",
                    PolicyType::Resource => "a resource-based policy",
                    PolicyType::Trust => "the role trust policy",
                };
                format!("with an explicit deny in {policy}")
            }
        };
        let (user, resource) = (request.principal().arn(), request.resource());
        Some(format!("User: {user} is not authorized to perform: {action} on resource: {resource} {reason}"))
    }
}
