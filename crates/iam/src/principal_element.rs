//! The elements Principal and NotPrincipal: whom a resource or trust policy speaks of.

use crate::json::Json;
use crate::principal::Principal;

/// How far a statement that allows something goes (user guide, "Policy evaluation logic", and there
/// on resource-based policies within one account). Ordered from little to much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grant {
    /// To an account, whose identity policies decide who in it may.
    Account,
    /// To a role or to everyone: no identity policy is needed, but boundary and session
    /// policies still limit.
    Limited,
    /// To the very user, root user, session or service: nothing else needs to allow it.
    Full,
}

/// An entry of Principal or NotPrincipal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    Everyone,
    Account(String),
    /// User, role or session, with the unique id that the user or role had when the
    /// policy was written.
    Arn {
        arn: String,
        id: Option<String>,
    },
    Service(String),
}

impl Named {
    /// Reads `"*"` or `{"AWS": …, "Service": …}`.
    pub(crate) fn parse_all(json: &Json, element: &str) -> Result<Vec<Self>, String> {
        let members = match json {
            Json::Text(text) if text == "*" => return Ok(vec![Self::Everyone]),
            Json::Object(members) if !members.is_empty() => members,
            _ => {
                return Err(format!(
                    "{element} must be \"*\" or an object such as {{\"AWS\": \"123456789012\"}} or \
                     {{\"Service\": \"lambda.amazonaws.com\"}}."
                ));
            }
        };
        let mut all = Vec::new();
        for (kind, values) in members {
            let read = match kind.as_str() {
                "AWS" => Self::aws,
                "Service" => Self::service,
                other => {
                    return Err(format!(
                        "{element} of type \"{other}\" is not supported; the types are \"AWS\" and \"Service\"."
                    ));
                }
            };
            for value in values.texts(&format!("{element} {kind}"))? {
                all.push(read(value)?);
            }
        }
        Ok(all)
    }

    fn aws(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Everyone);
        }
        if is_account(text) {
            return Ok(Self::Account(text.to_owned()));
        }
        let named = match text.splitn(6, ':').collect::<Vec<_>>()[..] {
            _ if text.contains(['*', '?', '$']) => None,
            ["arn", "aws", "iam", "", account, "root"] if is_account(account) => {
                Some(Self::Account(account.to_owned()))
            }
            ["arn", "aws", service, "", account, name] if is_account(account) => {
                let path: Vec<&str> = name.split('/').collect();
                let well_formed = match (service, path[0]) {
                    ("iam", "user" | "role") => path.len() >= 2,
                    ("sts", "assumed-role") => path.len() == 3,
                    _ => false,
                };
                (well_formed && path.iter().all(|part| !part.is_empty()))
                    .then(|| Self::Arn { arn: text.to_owned(), id: None })
            }
            _ => None,
        };
        named.ok_or_else(|| {
            format!(
                "The AWS principal \"{text}\" must be \"*\", an account id of 12 digits, or without wildcards the ARN \
                 of an account's root, a user, a role or an assumed role's session."
            )
        })
    }

    fn service(text: &str) -> Result<Self, String> {
        let well_formed = text.contains('.')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-');
        if well_formed {
            Ok(Self::Service(text.to_owned()))
        } else {
            Err(format!("The service principal \"{text}\" must be a name such as \"lambda.amazonaws.com\"."))
        }
    }

    /// What it means for this principal to be named so; `None` when it is not meant.
    pub(crate) fn grant(&self, principal: &Principal) -> Option<Grant> {
        match self {
            Self::Everyone => Some(Grant::Limited),
            Self::Account(id) => {
                let own = principal.account()?;
                let grant =
                    if matches!(principal, Principal::Root { .. }) { Grant::Full } else { Grant::Account };
                (own.as_str() == id).then_some(grant)
            }
            Self::Arn { id: Some(id), .. } if principal.id() != Some(id) => None,
            Self::Arn { arn, .. } if *arn == principal.arn() => Some(Grant::Full),
            Self::Arn { arn, .. } if *arn == principal.principal_arn() => Some(Grant::Limited),
            // It has another name by now and is the same user.
            Self::Arn { id: Some(_), .. } if matches!(principal, Principal::User { .. }) => Some(Grant::Full),
            Self::Arn { .. } => None,
            Self::Service(service) => {
                matches!(principal, Principal::Service { name } if name == service).then_some(Grant::Full)
            }
        }
    }
}

/// Whether this is the id of an account.
pub(crate) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}
