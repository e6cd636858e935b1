//! Which IAM action each operation is, and on which resources ("Actions, resources, and condition
//! keys for Amazon CloudWatch Logs", service authorization reference).

use hearth_api::AccountId;
use hearth_iam::Request;
use hearth_identity::Caller;
use serde::Deserialize;

use super::Logs;
use super::constraints::MAXIMUM_IDENTIFIERS;
use super::model::GivenTags;
use super::tags::MAXIMUM_TAGS;
use crate::json::{Refusal, decide, read};

/// What an operation is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
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

/// Every operation that is served.
const ACTIONS: [(&str, &str, Target); 18] = [
    ("CreateLogGroup", "logs:CreateLogGroup", Target::Group),
    ("CreateLogStream", "logs:CreateLogStream", Target::Group),
    ("DeleteLogGroup", "logs:DeleteLogGroup", Target::Group),
    ("DeleteLogStream", "logs:DeleteLogStream", Target::Stream),
    ("DeleteRetentionPolicy", "logs:DeleteRetentionPolicy", Target::Group),
    ("DescribeLogGroups", "logs:DescribeLogGroups", Target::List),
    ("DescribeLogStreams", "logs:DescribeLogStreams", Target::Group),
    ("FilterLogEvents", "logs:FilterLogEvents", Target::Group),
    ("GetLogEvents", "logs:GetLogEvents", Target::Stream),
    ("ListTagsForResource", "logs:ListTagsForResource", Target::Tagged),
    ("ListTagsLogGroup", "logs:ListTagsLogGroup", Target::Group),
    ("PutLogEvents", "logs:PutLogEvents", Target::Stream),
    ("PutRetentionPolicy", "logs:PutRetentionPolicy", Target::Group),
    ("StartLiveTail", "logs:StartLiveTail", Target::Groups),
    ("TagLogGroup", "logs:TagLogGroup", Target::Group),
    ("TagResource", "logs:TagResource", Target::Tagged),
    ("UntagLogGroup", "logs:UntagLogGroup", Target::Group),
    ("UntagResource", "logs:UntagResource", Target::Tagged),
];

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
struct Asked {
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

    fn stream(self, stream: &str) -> Asked {
        Asked { resource: self.resource(stream), group: self }
    }
}

impl Logs {
    /// Refuses operations that are not served and what the caller may not do.
    pub(super) async fn authorize(
        &self,
        operation: &str,
        body: &[u8],
        caller: &Caller,
    ) -> Result<(), Refusal> {
        let Some((_, action, target)) = ACTIONS.iter().find(|(name, ..)| *name == operation) else {
            return Err(Refusal::new(
                "UnknownOperationException",
                format!("The operation {operation} of CloudWatch Logs is not served here."),
            ));
        };
        let mut named: Named = read(body)?;
        // The older operations of a group know no keys for what they set or remove ("TagLogGroup",
        // CloudWatch Logs API reference).
        let (sets, removes) =
            (matches!(operation, "CreateLogGroup" | "TagResource"), operation == "UntagResource");
        let given = (named.tags.take().filter(|_| sets), named.tag_keys.take().filter(|_| removes));
        let has_tags = matches!(&given.0, Some(GivenTags::Tags(tags)) if !tags.is_empty());
        let with_tags = |request| with_given(request, &given);
        for asked in self.asked(*target, named, &caller.account) {
            self.ask(caller, action, &asked, with_tags).await?;
            if operation == "CreateLogGroup" && has_tags {
                self.ask_to_tag(caller, asked.group, with_tags).await?;
            }
        }
        Ok(())
    }

    /// Either action will do for the tags of a new group ("CreateLogGroup", CloudWatch Logs API
    /// reference).
    async fn ask_to_tag(
        &self,
        caller: &Caller,
        group: GroupArn,
        with_tags: impl Fn(Request) -> Request,
    ) -> Result<(), Refusal> {
        let by_older = Asked { resource: group.resource(""), group: group.clone() };
        if self.ask(caller, "logs:TagLogGroup", &by_older, |request| request).await.is_ok() {
            return Ok(());
        }
        let asked = Asked { resource: group.arn(), group };
        self.ask(caller, "logs:TagResource", &asked, with_tags).await
    }

    /// Refuses what the caller may not do to one of these groups of its account.
    pub(super) async fn authorize_groups(
        &self,
        action: &str,
        groups: &[String],
        caller: &Caller,
    ) -> Result<(), Refusal> {
        for name in groups {
            let group = self.group_arn(name, &caller.account);
            self.ask(caller, action, &group.stream(""), |request| request).await?;
        }
        Ok(())
    }

    async fn ask(
        &self,
        caller: &Caller,
        action: &str,
        asked: &Asked,
        with_keys: impl FnOnce(Request) -> Request,
    ) -> Result<(), Refusal> {
        if caller.rules(&asked.resource) {
            return Ok(());
        }
        let mut request = with_keys(caller.request(action, &asked.resource));
        if let Ok(name) = self.name_of(asked.group.clone(), &caller.account)
            && let Some(record) = self.store.log_group(&caller.account, &name).await?
        {
            request = request.with_resource_tags(&record.tags);
        }
        decide(&self.identities, caller, &request)
    }

    fn asked(&self, target: Target, named: Named, account: &AccountId) -> Vec<Asked> {
        let group = |text: String| self.group_arn(&text, account);
        let name = || group(named.log_group_name.or(named.log_group_identifier).unwrap_or_default());
        match target {
            Target::List => vec![group(String::new()).stream("")],
            Target::Group => vec![name().stream("")],
            Target::Stream => vec![name().stream(&named.log_stream_name.unwrap_or_default())],
            Target::Tagged => {
                let group = group(named.resource_arn.unwrap_or_default());
                vec![Asked { resource: group.arn(), group }]
            }
            Target::Groups => {
                let mut groups = named.log_group_identifiers;
                // A longer list is refused anyway, and each question costs a decision.
                groups.truncate(MAXIMUM_IDENTIFIERS);
                if groups.is_empty() {
                    groups.push(String::new());
                }
                groups.into_iter().map(|text| group(text).stream("")).collect()
            }
        }
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
