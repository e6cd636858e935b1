//! Whether the caller may: one question for each action that an operation takes (IAM's table "Actions, resources, and
//! condition keys for AWS Lambda"). Operations on a microVM are authorised on its image.

use hearth_api::{Error, ErrorKind, NetworkConnectorArn};
use hearth_iam::{Decision, PolicyType, Request};
use hearth_identity::ServiceRole;
use hearth_store::Taggable;

use crate::call::Call;
use crate::config::{Context, store_failed};

/// Tags as a request carries them.
type RequestTags = std::collections::BTreeMap<String, String>;

impl Context {
    /// Refuses what the caller may not do; for actions that have no resource, such as lists.
    pub(crate) fn authorize(&self, call: &Call, action: &str) -> Result<(), Error> {
        if call.caller.rules("*") {
            return Ok(());
        }
        self.services.identities.authorize(&call.caller, &question(call, action, "*"))
    }

    /// The same for an action on an image or network connector, whether or not it exists.
    pub(crate) async fn authorize_on(
        &self,
        call: &Call,
        action: &str,
        resource: &Taggable,
    ) -> Result<(), Error> {
        if call.caller.rules(&resource.arn()) {
            return Ok(());
        }
        let request = self.question_on(call, action, resource).await?;
        self.services.identities.authorize(&call.caller, &request)
    }

    /// The same for an action that sets tags; TagResource besides when it is another one.
    pub(crate) async fn authorize_tagging(
        &self,
        call: &Call,
        action: &str,
        resource: &Taggable,
        tags: &RequestTags,
    ) -> Result<(), Error> {
        let mut actions = vec![action];
        if action != TAG_RESOURCE && !tags.is_empty() {
            actions.push(TAG_RESOURCE);
        }
        for action in actions {
            let mut request = self.question_on(call, action, resource).await?;
            for (key, value) in tags {
                request = request.with(&format!("aws:RequestTag/{key}"), [value.clone()]);
            }
            let request = request.with("aws:TagKeys", tags.keys().cloned());
            self.services.identities.authorize(&call.caller, &request)?;
        }
        Ok(())
    }

    /// The same for the removal of tags.
    pub(crate) async fn authorize_untagging(
        &self,
        call: &Call,
        resource: &Taggable,
        keys: &[&str],
    ) -> Result<(), Error> {
        let request = self.question_on(call, "UntagResource", resource).await?;
        let request = request.with("aws:TagKeys", keys.iter().copied());
        self.services.identities.authorize(&call.caller, &request)
    }

    /// Refuses a role that the caller may not hand to the service, or that does not let the service have it: the caller
    /// is told the same (behaviour of RunMicrovm on the service).
    pub(crate) fn authorize_pass_role(&self, call: &Call, role: &str) -> Result<(), Error> {
        let identities = &self.services.identities;
        let request = call.caller.request("iam:PassRole", role);
        identities.authorize(&call.caller, &request)?;
        match identities.service_role(role) {
            ServiceRole::Assumable => Ok(()),
            ServiceRole::NeverMade if call.caller.is_root() => Ok(()),
            ServiceRole::NeverMade | ServiceRole::Refused => {
                let denial = Decision::ImplicitlyDenied(PolicyType::Identity).denial(&request);
                Err(Error::new(ErrorKind::AccessDenied, denial.unwrap_or_default()))
            }
        }
    }

    /// Refuses network connectors that the caller may not hand to a microVM or build.
    pub(crate) async fn authorize_pass_connectors(
        &self,
        call: &Call,
        connectors: &[String],
    ) -> Result<(), Error> {
        const ACTION: &str = "PassNetworkConnector";
        for text in connectors {
            match NetworkConnectorArn::parse(text) {
                Some(arn) => {
                    self.authorize_on(call, ACTION, &Taggable::NetworkConnector(arn.unqualified())).await?;
                }
                None => self.services.identities.authorize(&call.caller, &question(call, ACTION, text))?,
            }
        }
        Ok(())
    }

    /// Tags of the resource are looked up only for callers whom a policy can limit.
    async fn question_on(&self, call: &Call, action: &str, resource: &Taggable) -> Result<Request, Error> {
        let mut request = question(call, action, &resource.arn());
        if call.caller.is_limited() {
            let tags = self.services.store.tags(resource).await.map_err(|error| store_failed(&error))?;
            for (key, value) in tags.unwrap_or_default() {
                request = request.with(&format!("aws:ResourceTag/{key}"), [value]);
            }
        }
        Ok(request)
    }
}

pub(crate) const TAG_RESOURCE: &str = "TagResource";

fn question(call: &Call, action: &str, resource: &str) -> Request {
    call.caller.request(format!("lambda:{action}"), resource)
}
