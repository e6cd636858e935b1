//! What a role may do in the hands of the service: build roles and execution roles.

use std::sync::Arc;

use hearth_api::AccountId;
use hearth_iam::{Document, Policies, Principal, Request, evaluate, evaluate_trust};

use crate::account::Account;
use crate::authorize::{policies_of, told};
use crate::conditions::Circumstances;
use crate::entities::{Role, Tags, User};
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

    /// The role of exactly this ARN among those of its account.
    fn role_of<'a>(&self, account: &'a Account) -> Option<&'a Role> {
        account.role(&self.name).filter(|role| role.arn() == self.text)
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
    /// The role of exactly this ARN, of whichever account.
    pub fn role(&self, arn: &str) -> Option<Role> {
        let arn = RoleArn::parse(arn)?;
        arn.role_of(&*self.account(&arn.account)?).cloned()
    }

    /// Unique id of the user or role of this ARN, or of the role of a session's.
    pub fn unique_id_of(&self, arn: &str) -> Option<String> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let [_, _, service, _, account, resource] = parts[..] else { return None };
        let directory = self.read();
        let account = directory.account(&AccountId::from_stored(account))?;
        let (kind, path) = resource.split_once('/')?;
        let last = path.rsplit('/').next()?;
        match (service, kind) {
            ("iam", "user") => {
                account.user(last).filter(|user| user.arn() == arn).map(|user| user.id.clone())
            }
            ("iam", "role") => {
                account.role(last).filter(|role| role.arn() == arn).map(|role| role.id.clone())
            }
            ("sts", "assumed-role") => account.role(path.split('/').next()?).map(|role| role.id.clone()),
            _ => None,
        }
    }

    /// Whether a principal that was stored by ARN and unique id may do `action` to `resource`
    /// now. A principal that was deleted may not. Limits of the session that asked are forgotten.
    /// `tags` are the resource's.
    pub fn principal_may(
        &self,
        (arn, id): (&str, Option<&str>),
        action: &str,
        resource: &str,
        tags: &Tags,
    ) -> bool {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let [_, _, _, _, account, name] = parts[..] else { return false };
        let account = AccountId::from_stored(account);
        if name == "root" {
            return resource.split(':').nth(4) == Some(account.as_str()) && self.account(&account).is_some();
        }
        let Some(holder) = self.account(&account) else { return false };
        let names: Vec<&str> = name.split('/').collect();
        let principal = match names[..] {
            ["user", .., name] => id.and_then(|id| holder.user_with_id(name, id)).map(User::principal),
            ["assumed-role", role, session] => {
                id.and_then(|id| holder.role_with_id(role, id)).map(|role| role.session(session))
            }
            _ => None,
        };
        principal.is_some_and(|principal| {
            let policies = policies_of(&holder, &principal);
            let own_tags = holder.tags_of(&principal);
            let circumstances = Circumstances {
                principal_tags: &own_tags,
                account: Some(&account),
                ..of_service(self.region())
            };
            let request =
                circumstances.add_to(Request::new(principal, action, resource)).with_resource_tags(tags);
            told(evaluate(&policies, &request), &request).is_allowed()
        })
    }

    /// How a role stands with the service.
    pub fn service_role(&self, use_of: &OnBehalf<'_>) -> ServiceRole {
        let account = self.account_of(use_of);
        match account.as_deref().map_or(Standing::Refused, |account| standing(account, use_of, self.region()))
        {
            Standing::Assumable(_) => ServiceRole::Assumable,
            Standing::NeverMade => ServiceRole::NeverMade,
            Standing::Refused => ServiceRole::Refused,
        }
    }

    /// The request that the service would make as this role.
    #[cfg(test)]
    pub(crate) fn role_request(
        &self,
        use_of: &OnBehalf<'_>,
        action: &str,
        resource: &str,
    ) -> Option<Request> {
        match standing(&*self.account_of(use_of)?, use_of, self.region()) {
            Standing::Assumable(role) => Some(use_of.request(role, self.region(), action, resource)),
            Standing::NeverMade | Standing::Refused => None,
        }
    }

    /// Whether the service may do `action` to `resource` as this role. A role that was
    /// never made may do everything in its account: only the root user can have named it.
    /// `tags` are the resource's.
    pub fn service_role_may(&self, use_of: &OnBehalf<'_>, action: &str, resource: &str, tags: &Tags) -> bool {
        self.decide_for_service(use_of, (action, resource), None, |request| request.with_resource_tags(tags))
    }

    /// Whether the service may do `action` to `resource` as this role, given the resource's owner
    /// and policy, which an ARN without an account does not tell. In the role's own account the
    /// consent of either side is enough, in another both have to agree.
    pub fn service_role_may_with(
        &self,
        use_of: &OnBehalf<'_>,
        action: &str,
        resource: &str,
        owned: Option<Owned<'_>>,
    ) -> bool {
        self.decide_for_service(use_of, (action, resource), owned, |request| request)
    }

    fn decide_for_service(
        &self,
        use_of: &OnBehalf<'_>,
        (action, resource): (&str, &str),
        owned: Option<Owned<'_>>,
        with_keys: impl FnOnce(Request) -> Request,
    ) -> bool {
        let Some(account) = self.account_of(use_of) else { return false };
        let mut policies;
        let mut request;
        match standing(&account, use_of, self.region()) {
            Standing::Assumable(role) => {
                policies = policies_of(&account, &role.session(use_of.session));
                request = use_of.request(role, self.region(), action, resource);
            }
            Standing::NeverMade => {
                let circumstances =
                    Circumstances { account: Some(account.id()), ..of_service(self.region()) };
                let root = Principal::Root { account: account.id().clone() };
                policies = Policies::default();
                request = circumstances.add_to(Request::new(root, action, resource));
            }
            Standing::Refused => return false,
        }
        if let Some(Owned { owner, policy }) = owned {
            request = request.with("aws:ResourceAccount", [owner.to_string()]);
            policies.resource = policy;
        }
        let request = with_keys(request);
        told(evaluate(&policies, &request), &request).is_allowed()
    }

    /// The account of a role as it is now.
    fn account_of(&self, use_of: &OnBehalf<'_>) -> Option<Arc<Account>> {
        self.account(RoleArn::parse(use_of.role)?.account())
    }
}

/// [`ServiceRole`] with the role itself.
enum Standing<'a> {
    Assumable(&'a Role),
    NeverMade,
    Refused,
}

/// How a role of `account` stands with the service.
fn standing<'a>(account: &'a Account, use_of: &OnBehalf<'_>, region: &str) -> Standing<'a> {
    let Some(arn) = RoleArn::parse(use_of.role) else { return Standing::Refused };
    match arn.role_of(account) {
        Some(role) => {
            let question = use_of.question(role, region);
            let trusted = told(evaluate_trust(role.trust.document(), &question), &question).is_allowed();
            if trusted { Standing::Assumable(role) } else { Standing::Refused }
        }
        None if !account.role_is_gone(&arn.name) && account.role(&arn.name).is_none() => Standing::NeverMade,
        None => Standing::Refused,
    }
}

/// Whose a resource is, and what it has to say itself.
#[derive(Debug, Clone, Copy)]
pub struct Owned<'a> {
    /// Its account.
    pub owner: &'a AccountId,
    /// Its policy, if it has one.
    pub policy: Option<&'a Document>,
}

/// A role in the hands of the service, and what for.
#[derive(Debug, Clone, Copy)]
pub struct OnBehalf<'a> {
    /// ARN of the role.
    pub role: &'a str,
    /// Name of the service's session.
    pub session: &'a str,
    /// Account of the image or network connector that the role is for (`aws:SourceAccount`).
    pub account: &'a AccountId,
    /// ARN of the image or network connector (`aws:SourceArn`).
    pub source: &'a str,
}

impl OnBehalf<'_> {
    /// A request that the service makes as the role.
    fn request(&self, role: &Role, region: &str, action: &str, resource: &str) -> Request {
        let circumstances = Circumstances {
            issued_at: Some(jiff::Timestamp::now()),
            principal_tags: &role.tags,
            account: Some(&role.account),
            ..of_service(region)
        };
        circumstances.add_to(Request::new(role.session(self.session), action, resource))
    }

    /// The question that the service asks the role's trust policy.
    pub(crate) fn question(&self, role: &Role, region: &str) -> Request {
        let service = Principal::Service { name: SERVICE.to_owned() };
        let request = Request::new(service, "sts:AssumeRole", role.arn());
        of_service(region)
            .add_to(request)
            .with(
                "aws:PrincipalServiceNamesList",
                [SERVICE.to_owned(), format!("lambda.{region}.amazonaws.com")],
            )
            .with("aws:SourceAccount", [self.account.to_string()])
            .with("aws:SourceArn", [self.source])
    }
}

/// The circumstances of what the service does by itself.
fn of_service(region: &str) -> Circumstances<'_> {
    static NO_TAGS: Tags = Tags::new();
    Circumstances {
        at: jiff::Timestamp::now(),
        region,
        secure: true,
        issued_at: None,
        principal_tags: &NO_TAGS,
        account: None,
    }
}
