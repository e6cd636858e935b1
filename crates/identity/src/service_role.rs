//! What a role may do in the hands of the service: build roles and execution roles.

use hearth_api::AccountId;
use hearth_iam::{Principal, Request, evaluate, evaluate_trust};

use crate::account::Account;
use crate::entities::Role;
use crate::identities::Identities;

/// The service as trust policies name it.
const SERVICE: &str = "lambda.amazonaws.com";

/// A role's ARN as a request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleArn {
    account: AccountId,
    name: String,
    text: String,
}

impl RoleArn {
    /// Reads `arn:aws:iam::<account>:role<path><name>`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (arn, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        let name = resource.strip_prefix("role/")?.rsplit('/').next()?;
        let well_formed =
            arn == "arn" && partition.starts_with("aws") && service == "iam" && region.is_empty();
        (well_formed && !name.is_empty()).then(|| Self {
            account: AccountId::from_stored(account),
            name: name.to_owned(),
            text: text.to_owned(),
        })
    }

    /// Account of the role.
    pub fn account(&self) -> &AccountId {
        &self.account
    }
}

/// How a role stands with the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceRole {
    /// It exists and trusts the service.
    Assumable,
    /// It never existed. The root user may name such a role; it stands for the account then.
    NeverMade,
    /// It was deleted, is another account's, or does not trust the service.
    Refused,
}

impl Identities {
    /// How a role stands with the service.
    pub fn service_role(&self, arn: &str) -> ServiceRole {
        let Some(arn) = RoleArn::parse(arn) else { return ServiceRole::Refused };
        let directory = self.read();
        let Some(account) = directory.account(&arn.account) else { return ServiceRole::Refused };
        match role(account, &arn) {
            Some(role) if trusts_service(role) => ServiceRole::Assumable,
            None if !account.role_is_gone(&arn.name) && account.role(&arn.name).is_none() => {
                ServiceRole::NeverMade
            }
            _ => ServiceRole::Refused,
        }
    }

    /// Whether the service may do `action` to `resource` as this role. A role that was never made may do everything in
    /// its account: only the root user can have named it.
    pub fn service_role_may(&self, arn: &str, session: &str, action: &str, resource: &str) -> bool {
        match self.service_role(arn) {
            ServiceRole::NeverMade => return true,
            ServiceRole::Refused => return false,
            ServiceRole::Assumable => {}
        }
        let directory = self.read();
        let role = RoleArn::parse(arn).and_then(|arn| role(directory.account(&arn.account)?, &arn));
        let Some(role) = role else { return false };
        let principal = Principal::AssumedRole {
            account: role.account.clone(),
            path: role.path.clone(),
            role: role.name.clone(),
            id: role.id.clone(),
            session: session.to_owned(),
        };
        let policies = directory.policies_of(&principal);
        evaluate(&policies, &Request::new(principal, action, resource)).is_allowed()
    }
}

/// The role, if its whole ARN is this one.
fn role<'a>(account: &'a Account, arn: &RoleArn) -> Option<&'a Role> {
    account.role(&arn.name).filter(|role| role.arn() == arn.text)
}

fn trusts_service(role: &Role) -> bool {
    let service = Principal::Service { name: SERVICE.to_owned() };
    let request = Request::new(service, "sts:AssumeRole", role.arn());
    evaluate_trust(role.trust.document(), &request).is_allowed()
}
