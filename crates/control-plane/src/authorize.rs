//! Whether the caller may: one question for each action that an operation takes (IAM's table
//! "Actions, resources, and condition keys for AWS Lambda"). Operations on a microVM are
//! authorised on its image.

use hearth_api::{Error, ErrorKind, NetworkConnectorArn};
use hearth_iam::{Decision, PolicyType, Request};
use hearth_identity::{OnBehalf, ServiceRole, log_questions};
use hearth_records::{LogActions, MicrovmRecord, Taggable, WrittenFor};

use crate::call::Call;
use crate::config::{Context, store_failed};

/// Tags as a request carries them.
type RequestTags = std::collections::BTreeMap<String, String>;

impl Context {
    /// Refuses what the caller may not do; for actions that have no resource, such as lists.
    pub(crate) fn authorize(&self, call: &Call, action: &str) -> Result<(), Error> {
        self.authorize_named(call, action, "*")
    }

    /// The same for an action on an image or network connector, whether or not it exists.
    pub(crate) async fn authorize_on(
        &self,
        call: &Call,
        action: &str,
        resource: &Taggable,
    ) -> Result<(), Error> {
        self.ask(call, action, resource, |request| request).await
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
            let with_tags = |request: Request| {
                request.with_request_tags(tags.iter().map(|(key, value)| (key.as_str(), value.as_str())))
            };
            self.ask(call, action, resource, with_tags).await?;
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
        let with_keys = |request: Request| request.with("aws:TagKeys", keys.iter().copied());
        self.ask(call, "UntagResource", resource, with_keys).await
    }

    /// Refuses a role that the caller may not hand to the service, or that does not let the service
    /// have it: the caller is told the same (behaviour of RunMicrovm on the service). `source` is
    /// the ARN of what the role is for.
    pub(crate) fn authorize_pass_role(&self, call: &Call, role: &str, source: &str) -> Result<(), Error> {
        let identities = &self.services.identities;
        let request =
            call.caller.request("iam:PassRole", role).with("iam:PassedToService", ["lambda.amazonaws.com"]);
        identities.authorize(&call.caller, &request)?;
        let account = &call.caller.account;
        match identities.service_role(&OnBehalf { role, session: "", account, source }) {
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
                None => self.authorize_named(call, ACTION, text)?,
            }
        }
        Ok(())
    }

    /// Refuses a log group or stream of the caller's choice that nobody lets the service write:
    /// with an execution role that is asked about when output comes, without one the caller has to
    /// have the rights itself, now and then.
    pub(crate) async fn authorize_logging(&self, call: &Call, microvm: &MicrovmRecord) -> Result<(), Error> {
        let Some(destination) = microvm.log_destination() else { return Ok(()) };
        if !matches!(destination.written_for, WrittenFor::Author(_)) {
            return Ok(());
        }
        let store = &self.services.store;
        let group = store.log_group(&destination.account, &destination.group).await;
        let group = group.map_err(|error| store_failed(&error))?;
        let actions = LogActions { create_group: group.is_none(), create_stream: true };
        let tags = group.map(|group| group.tags).unwrap_or_default();
        for (action, resource) in log_questions(&self.config.region, &destination, actions) {
            if !call.caller.rules(&resource) {
                let request = call.caller.request(action, resource).with_resource_tags(&tags);
                self.services.identities.authorize(&call.caller, &request)?;
            }
        }
        Ok(())
    }

    /// For a resource that has no tags.
    fn authorize_named(&self, call: &Call, action: &str, resource: &str) -> Result<(), Error> {
        if call.caller.rules(resource) {
            return Ok(());
        }
        self.services.identities.authorize(&call.caller, &question(call, action, resource))
    }

    /// For a resource that has tags; `with_keys` adds the condition keys of the
    /// operation's own parameters.
    async fn ask(
        &self,
        call: &Call,
        action: &str,
        resource: &Taggable,
        with_keys: impl FnOnce(Request) -> Request,
    ) -> Result<(), Error> {
        let arn = resource.arn();
        if call.caller.rules(&arn) {
            return Ok(());
        }
        let mut request = with_keys(question(call, action, &arn));
        let tags = self.services.store.tags(resource).await.map_err(|error| store_failed(&error))?;
        request = request.with_resource_tags(&tags.unwrap_or_default());
        self.services.identities.authorize(&call.caller, &request)
    }
}

pub(crate) const TAG_RESOURCE: &str = "TagResource";

fn question(call: &Call, action: &str, resource: &str) -> Request {
    call.caller.request(format!("lambda:{action}"), resource)
}
