//! Which IAM action each operation is, and on which resources ("Actions, resources, and condition
//! keys for Amazon CloudWatch Logs", service authorization reference).

use hearth_api::AccountId;
use hearth_iam::Request;
use hearth_identity::Caller;
use hearth_service::{Asked, Error, Operation, Permit, Run};
use serde::Deserialize;

use crate::Logs;
use crate::model::GivenTags;
use crate::shapes::{MAXIMUM_IDENTIFIERS, MAXIMUM_TAGS};

/// What an operation is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// All groups of the caller.
    List,
    /// `logGroupName` or `logGroupIdentifier`.
    Group,
    /// The group with `logStreamName`.
    Stream,
    /// `resourceArn`.
    Tagged,
    /// `logGroupIdentifiers`.
    Groups,
}

/// What an operation is authorised on, with its function.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    pub(crate) target: Target,
    pub(crate) run: Run<Logs, ()>,
}

impl Access {
    /// What policies have to allow the action on, for the documentation.
    pub fn resource(self) -> &'static str {
        match self.target {
            Target::List => "`log-group::log-stream:`",
            Target::Group => "the log group",
            Target::Stream => "the log stream",
            Target::Tagged => "the log group, by its ARN",
            Target::Groups => "each log group",
        }
    }
}

/// The members that name what a request is about.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Named {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_group_identifiers: Vec<String>,
    log_stream_name: Option<String>,
    resource_arn: Option<String>,
    tags: Option<GivenTags>,
    tag_keys: Option<Vec<String>>,
}

/// What a question is about.
#[derive(Debug)]
struct Subject {
    group: GroupArn,
    /// As the service names it in its denials.
    resource: String,
}

/// A group as a request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupArn {
    pub(super) region: String,
    pub(super) account: AccountId,
    pub(super) name: String,
}

impl GroupArn {
    /// Reads `arn:aws:logs:<region>:<account>:log-group:<name>`, with or without `:*`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("arn:aws:logs:")?;
        let (region, rest) = rest.split_once(':')?;
        let (account, rest) = rest.split_once(':')?;
        let name = rest.strip_prefix("log-group:")?;
        let name = name.strip_suffix(":*").unwrap_or(name);
        Some(Self {
            region: region.to_owned(),
            account: AccountId::from_stored(account),
            name: name.to_owned(),
        })
    }

    /// How the service names the resource of an action on the group or one of its streams (its
    /// denials show it). It is matched by `<group's ARN>:*`, the usual form in policies.
    fn resource(&self, stream: &str) -> String {
        format!("{}:log-stream:{stream}", self.arn())
    }

    fn arn(&self) -> String {
        let Self { region, account, name } = self;
        format!("arn:aws:logs:{region}:{account}:log-group:{name}")
    }

    fn stream(self, stream: &str) -> Subject {
        Subject { resource: self.resource(stream), group: self }
    }
}

impl Logs {
    /// Refuses what the caller may not do.
    pub(super) async fn authorize(
        &self,
        operation: &Operation<Self>,
        asked: &Asked,
    ) -> Result<Permit, Error> {
        let mut named: Named = asked.read()?;
        // The older operations of a group know no keys for what they set or remove ("TagLogGroup",
        // CloudWatch Logs API reference).
        let name = operation.name;
        let (sets, removes) = (matches!(name, "CreateLogGroup" | "TagResource"), name == "UntagResource");
        let given = (named.tags.take().filter(|_| sets), named.tag_keys.take().filter(|_| removes));
        let has_tags = matches!(&given.0, Some(GivenTags::Tags(tags)) if !tags.is_empty());
        let with_tags = |request| with_given(request, &given);
        let action = format!("logs:{}", operation.action);
        let (first, rest) = self.subjects(operation.access.target, named, &asked.caller().account);
        let mut permit = self.ask(asked, &action, &first, with_tags).await?;
        for subject in rest {
            permit = self.ask(asked, &action, &subject, with_tags).await?;
        }
        if name == "CreateLogGroup" && has_tags {
            permit = self.ask_to_tag(asked, first.group, with_tags).await?;
        }
        Ok(permit)
    }

    /// Either action will do for the tags of a new group ("CreateLogGroup", CloudWatch Logs API
    /// reference).
    async fn ask_to_tag(
        &self,
        asked: &Asked,
        group: GroupArn,
        with_tags: impl Fn(Request) -> Request,
    ) -> Result<Permit, Error> {
        let older = Subject { resource: group.resource(""), group: group.clone() };
        let question = self.question(asked.caller(), "logs:TagLogGroup", &older, |it| it).await?;
        if self.identities.authorize(asked.caller(), &question).is_ok() {
            return asked.ask(&self.identities, &question);
        }
        let subject = Subject { resource: group.arn(), group };
        self.ask(asked, "logs:TagResource", &subject, with_tags).await
    }

    async fn ask(
        &self,
        asked: &Asked,
        action: &str,
        subject: &Subject,
        with_keys: impl FnOnce(Request) -> Request,
    ) -> Result<Permit, Error> {
        if let Some(permit) = asked.rules(&subject.resource) {
            return Ok(permit);
        }
        let request = self.question(asked.caller(), action, subject, with_keys).await?;
        asked.ask(&self.identities, &request)
    }

    /// Refuses what the caller may no longer do to one of these groups of its account.
    pub(super) async fn still_allows(
        &self,
        caller: &Caller,
        action: &str,
        groups: &[String],
    ) -> Result<(), Error> {
        for name in groups {
            let subject = self.group_arn(name, &caller.account).stream("");
            if !caller.rules(&subject.resource) {
                let request = self.question(caller, action, &subject, |request| request).await?;
                self.identities.authorize(caller, &request)?;
            }
        }
        Ok(())
    }

    async fn question(
        &self,
        caller: &Caller,
        action: &str,
        subject: &Subject,
        with_keys: impl FnOnce(Request) -> Request,
    ) -> Result<Request, Error> {
        let request = with_keys(caller.request(action, &subject.resource));
        if let Ok(name) = self.name_of(subject.group.clone(), &caller.account)
            && let Some(record) = self.store.log_group(&caller.account, &name).await?
        {
            return Ok(request.with_resource_tags(&record.tags));
        }
        Ok(request)
    }

    /// What the request is about: one, and others.
    fn subjects(&self, target: Target, named: Named, account: &AccountId) -> (Subject, Vec<Subject>) {
        let group = |text: String| self.group_arn(&text, account);
        let name = || group(named.log_group_name.or(named.log_group_identifier).unwrap_or_default());
        let one = match target {
            Target::List => group(String::new()).stream(""),
            Target::Group => name().stream(""),
            Target::Stream => name().stream(&named.log_stream_name.unwrap_or_default()),
            Target::Tagged => {
                let group = group(named.resource_arn.unwrap_or_default());
                Subject { resource: group.arn(), group }
            }
            Target::Groups => {
                // A longer list is refused anyway, and each question costs a decision.
                let groups = named.log_group_identifiers.into_iter().take(MAXIMUM_IDENTIFIERS);
                let mut subjects = groups.map(|text| group(text).stream(""));
                let first = subjects.next().unwrap_or_else(|| group(String::new()).stream(""));
                return (first, subjects.collect());
            }
        };
        (one, Vec::new())
    }

    /// A group that is named by its ARN, or by its name in the caller's account.
    pub(super) fn group_arn(&self, text: &str, account: &AccountId) -> GroupArn {
        GroupArn::parse(text).unwrap_or_else(|| GroupArn {
            region: self.region.clone(),
            account: account.clone(),
            name: text.to_owned(),
        })
    }
}

/// Sets the condition keys of the tags of a request. A request with more than it may have is
/// refused later, so those need no keys.
fn with_given(request: Request, given: &(Option<GivenTags>, Option<Vec<String>>)) -> Request {
    match given {
        (Some(GivenTags::Tags(tags)), _) if tags.len() <= MAXIMUM_TAGS => {
            request.with_request_tags(tags.iter().map(|(key, value)| (key.as_str(), value.as_str())))
        }
        (_, Some(keys)) if keys.len() <= MAXIMUM_TAGS => request.with("aws:TagKeys", keys.iter().cloned()),
        _ => request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_arns_with_and_without_a_star() {
        for end in ["", ":*"] {
            let arn =
                GroupArn::parse(&format!("arn:aws:logs:eu-west-1:123456789012:log-group:/a/b{end}")).unwrap();
            assert_eq!(
                (arn.region.as_str(), arn.account.as_str(), arn.name.as_str()),
                ("eu-west-1", "123456789012", "/a/b")
            );
        }
        for bad in ["/a/b", "arn:aws:s3:::x", "arn:aws:logs:eu-west-1:123456789012:destination:x"] {
            assert_eq!(GroupArn::parse(bad), None, "{bad}");
        }
    }
}
