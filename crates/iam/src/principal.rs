//! Who makes a request.

use hearth_api::AccountId;

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// The root user of an account. Identity policies do not limit it.
    Root {
        /// Account.
        account: AccountId,
    },
    /// An IAM user.
    User {
        /// Account.
        account: AccountId,
        /// Begins and ends with a slash; mostly just `/`.
        path: String,
        /// Name.
        name: String,
        /// Unique id, `AIDA…`.
        id: String,
    },
    /// A session of a role.
    AssumedRole {
        /// Account of the role.
        account: AccountId,
        /// Path of the role: begins and ends with a slash; mostly just `/`.
        path: String,
        /// Name of the role.
        role: String,
        /// Unique id of the role, `AROA…`.
        id: String,
        /// Session name.
        session: String,
    },
    /// An AWS service, such as `lambda.amazonaws.com`.
    Service {
        /// Service principal.
        name: String,
    },
}

impl Principal {
    /// The ARN that denial sentences name; a service's name for a service.
    pub fn arn(&self) -> String {
        match self {
            Self::AssumedRole { account, role, session, .. } => {
                format!("arn:aws:sts::{account}:assumed-role/{role}/{session}")
            }
            other => other.principal_arn(),
        }
    }

    /// `aws:PrincipalArn`: for a session that of its role (user guide, "AWS global
    /// condition context keys").
    pub fn principal_arn(&self) -> String {
        match self {
            Self::Root { account } => format!("arn:aws:iam::{account}:root"),
            Self::User { account, path, name, .. } => format!("arn:aws:iam::{account}:user{path}{name}"),
            Self::AssumedRole { account, path, role, .. } => {
                format!("arn:aws:iam::{account}:role{path}{role}")
            }
            Self::Service { name } => name.clone(),
        }
    }

    /// Unique id of the user, or of the session's role.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::User { id, .. } | Self::AssumedRole { id, .. } => Some(id),
            Self::Root { .. } | Self::Service { .. } => None,
        }
    }

    /// The account that it belongs to; services belong to none.
    pub fn account(&self) -> Option<&AccountId> {
        match self {
            Self::Root { account } | Self::User { account, .. } | Self::AssumedRole { account, .. } => {
                Some(account)
            }
            Self::Service { .. } => None,
        }
    }

    /// The condition keys that follow from who it is (user guide, "AWS global condition context
    /// keys" and the table of principal key values in "IAM policy elements: Variables and tags").
    pub(crate) fn context_keys(&self) -> Vec<(&'static str, String)> {
        let Some(account) = self.account() else {
            return vec![
                ("aws:PrincipalIsAWSService", "true".to_owned()),
                ("aws:PrincipalServiceName", self.arn()),
                ("aws:PrincipalServiceNamesList", self.arn()),
            ];
        };
        let mut keys = vec![
            ("aws:PrincipalIsAWSService", "false".to_owned()),
            ("aws:PrincipalArn", self.principal_arn()),
            ("aws:PrincipalAccount", account.to_string()),
        ];
        match self {
            Self::Root { .. } => {
                keys.push(("aws:PrincipalType", "Account".to_owned()));
                keys.push(("aws:userid", account.to_string()));
            }
            Self::User { name, id, .. } => {
                keys.push(("aws:PrincipalType", "User".to_owned()));
                keys.push(("aws:userid", id.clone()));
                keys.push(("aws:username", name.clone()));
            }
            Self::AssumedRole { id, session, .. } => {
                keys.push(("aws:PrincipalType", "AssumedRole".to_owned()));
                keys.push(("aws:userid", format!("{id}:{session}")));
            }
            Self::Service { .. } => {}
        }
        keys
    }
}
