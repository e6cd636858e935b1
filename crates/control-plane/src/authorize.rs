//! Whether the caller may: one question for each action that an operation takes (IAM's table
//! "Actions, resources, and condition keys for AWS Lambda"). Operations on a microVM are authorised
//! on its image.

use hearth_api::{ErrorKind, NetworkConnectorArn};
use hearth_iam::{Decision, PolicyType, Request};
use hearth_identity::{OnBehalf, ServiceRole, log_questions};
use hearth_records::{LogActions, MicrovmRecord, Taggable, WrittenFor};
use hearth_service::{Asked, Error, Permit};

use crate::config::Context;

const TAG_RESOURCE: &str = "TagResource";

impl Context {
    /// Refuses what the caller may not do to an image or network connector, whether or not it
    /// exists.
    pub(crate) async fn may(
        &self,
        asked: &Asked,
        action: &str,
        resource: &Taggable,
    ) -> Result<Permit, Error> {
        self.ask(asked, action, resource, |request| request).await
    }

    /// Refuses what the caller may not do with the tags, or keys of tags, of the request; tags of
    /// something new need TagResource besides.
    pub(crate) async fn may_tag(
        &self,
        asked: &Asked,
        action: &str,
        resource: &Taggable,
    ) -> Result<Permit, Error> {
        let input = asked.input();
        let tags = [input.map("tags"), input.map("Tags")].concat();
        let keys = input.list("tagKeys");
        let with_keys = |request: Request| {
            let request = request.with_request_tags(tags.iter().copied());
            if keys.is_empty() { request } else { request.with("aws:TagKeys", keys.iter().copied()) }
        };
        let permit = self.ask(asked, action, resource, with_keys).await?;
        if action != TAG_RESOURCE && !tags.is_empty() {
            return self.ask(asked, TAG_RESOURCE, resource, with_keys).await;
        }
        Ok(permit)
    }

    /// Refuses all but the root user of the server's first account.
    pub(crate) fn operates(&self, asked: &Asked) -> Result<Permit, Error> {
        let caller = asked.caller();
        if caller.is_root() && caller.account == self.config.operator {
            return Ok(asked.needs_no_permission());
        }
        let message = "Only the root user of the server's first account may rotate the endpoint token keys.";
        Err(Error::new(ErrorKind::AccessDenied, message))
    }

    /// Refuses a role that the caller may not hand to the service, or that does not let the service
    /// have it: the caller is told the same (behaviour of RunMicrovm on the service). `source` is
    /// the ARN of what the role is for.
    pub(crate) fn authorize_pass_role(&self, asked: &Asked, role: &str, source: &str) -> Result<(), Error> {
        let identities = &self.services.identities;
        let caller = asked.caller();
        let request =
            caller.request("iam:PassRole", role).with("iam:PassedToService", ["lambda.amazonaws.com"]);
        let _ = asked.ask(identities, &request)?;
        let account = &caller.account;
        match identities.service_role(&OnBehalf { role, session: "", account, source }) {
            ServiceRole::Assumable => Ok(()),
            ServiceRole::NeverMade if caller.is_root() => Ok(()),
            ServiceRole::NeverMade | ServiceRole::Refused => {
                asked.decided(&request, Decision::ImplicitlyDenied(PolicyType::Identity)).map(drop)
            }
        }
    }

    /// Refuses network connectors that the caller may not hand to a microVM or build.
    pub(crate) async fn authorize_pass_connectors(
        &self,
        asked: &Asked,
        connectors: &[String],
    ) -> Result<(), Error> {
        const ACTION: &str = "PassNetworkConnector";
        for text in connectors {
            let _ = match NetworkConnectorArn::parse(text) {
                Some(arn) => self.may(asked, ACTION, &Taggable::NetworkConnector(arn.unqualified())).await?,
                None => self.may_named(asked, ACTION, text)?,
            };
        }
        Ok(())
    }

    /// Refuses a log group or stream of the caller's choice that nobody lets the service write:
    /// with an execution role that is asked about when output comes, without one the caller has to
    /// have the rights itself, now and then.
    pub(crate) async fn authorize_logging(
        &self,
        asked: &Asked,
        microvm: &MicrovmRecord,
    ) -> Result<(), Error> {
        let Some(destination) = microvm.log_destination() else { return Ok(()) };
        if !matches!(destination.written_for, WrittenFor::Author(_)) {
            return Ok(());
        }
        let group = self.services.store.log_group(&destination.account, &destination.group).await?;
        let actions = LogActions { create_group: group.is_none(), create_stream: true };
        let tags = group.map(|group| group.tags).unwrap_or_default();
        let caller = asked.caller();
        for (action, resource) in log_questions(&self.config.region, &destination, actions) {
            if !caller.rules(&resource) {
                let request = caller.request(action, resource).with_resource_tags(&tags);
                let _ = asked.ask(&self.services.identities, &request)?;
            }
        }
        Ok(())
    }

    /// Refuses what the caller may not do to a resource that has no tags; `*` for actions that have
    /// no resource, such as lists.
    pub(crate) fn may_named(&self, asked: &Asked, action: &str, resource: &str) -> Result<Permit, Error> {
        match asked.rules(resource) {
            Some(permit) => Ok(permit),
            None => asked.ask(&self.services.identities, &question(asked, action, resource)),
        }
    }

    /// For a resource that has tags; `with_keys` adds the condition keys of the operation's own
    /// parameters.
    async fn ask(
        &self,
        asked: &Asked,
        action: &str,
        resource: &Taggable,
        with_keys: impl FnOnce(Request) -> Request,
    ) -> Result<Permit, Error> {
        let arn = resource.arn();
        if let Some(permit) = asked.rules(&arn) {
            return Ok(permit);
        }
        let mut request = with_keys(question(asked, action, &arn));
        let tags = self.services.store.tags(resource).await?;
        request = request.with_resource_tags(&tags.unwrap_or_default());
        asked.ask(&self.services.identities, &request)
    }
}

fn question(asked: &Asked, action: &str, resource: &str) -> Request {
    asked.caller().request(format!("lambda:{action}"), resource)
}
