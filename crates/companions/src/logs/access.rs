//! Which IAM action each operation is, and on which resources ("Actions, resources, and condition keys for Amazon
//! CloudWatch Logs", service authorization reference).

use hearth_api::AccountId;
use hearth_identity::Caller;
use serde::Deserialize;

use super::Logs;
use crate::json::{Refusal, authorize, read};

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

    /// How the service names the resource of an action on the group or one of its streams (its denials show it). It is
    /// matched by `<group's ARN>:*`, the usual form in policies.
    fn resource(&self, stream: &str) -> String {
        let Self { region, account, name } = self;
        format!("arn:aws:logs:{region}:{account}:log-group:{name}:log-stream:{stream}")
    }
}

impl Logs {
    /// Refuses operations that are not served and what the caller may not do.
    pub(super) fn authorize(&self, operation: &str, body: &[u8], caller: &Caller) -> Result<(), Refusal> {
        let Some((_, action, target)) = ACTIONS.iter().find(|(name, ..)| *name == operation) else {
            return Err(Refusal::new(
                "UnknownOperationException",
                format!("The operation {operation} of CloudWatch Logs is not served here."),
            ));
        };
        for resource in self.resources(*target, read(body)?, &caller.account) {
            authorize(&self.identities, caller, action, &resource)?;
        }
        Ok(())
    }

    /// Refuses what the caller may not do to one of these groups of its account.
    pub(super) fn authorize_groups(
        &self,
        action: &str,
        groups: &[String],
        caller: &Caller,
    ) -> Result<(), Refusal> {
        groups.iter().try_for_each(|name| {
            let group =
                GroupArn { region: self.region.clone(), account: caller.account.clone(), name: name.clone() };
            authorize(&self.identities, caller, action, &group.resource(""))
        })
    }

    fn resources(&self, target: Target, named: Named, account: &AccountId) -> Vec<String> {
        let group = |text: String| self.group_arn(&text, account);
        let name = || group(named.log_group_name.or(named.log_group_identifier).unwrap_or_default());
        match target {
            Target::List => vec![group(String::new()).resource("")],
            Target::Group => vec![name().resource("")],
            Target::Stream => vec![name().resource(&named.log_stream_name.unwrap_or_default())],
            Target::Tagged => {
                let GroupArn { region, account, name } = group(named.resource_arn.unwrap_or_default());
                vec![format!("arn:aws:logs:{region}:{account}:log-group:{name}")]
            }
            Target::Groups => {
                let mut groups = named.log_group_identifiers;
                if groups.is_empty() {
                    groups.push(String::new());
                }
                groups.into_iter().map(|text| group(text).resource("")).collect()
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
