//! The table of operations.

use hearth_identity::Identities;
use hearth_service::shape::{Member, Shape, Text, optional, required};
use hearth_service::{Answer, Api, Asked, Code, Effect, Error, Operation, Outcome, Protocol};

use crate::access::{Access, Target};
use crate::shapes::{
    END_TIME, EVENTS, FILTER_PATTERN, GROUP, GROUP_NAME, IDENTIFIED_GROUP, IDENTIFIER, MAXIMUM_IDENTIFIERS,
    MAXIMUM_TAGS, NAMED_GROUP, PART_OF_GROUP_NAME, RESOURCE, SOME_TAGS, START_TIME, STREAM, STREAM_NAMES,
    STREAM_PREFIX, TAGS,
};
use crate::{INVALID_PARAMETER, Logs, invalid};

/// A function of [`Logs`] that takes the call and its request, and whose result is answered.
macro_rules! telling {
    ($function:ident) => {
        |logs, call, ()| {
            Box::pin(async move { Ok(Answer::json(&logs.$function(&call, call.read()?).await?)) })
        }
    };
}

/// A function of [`Logs`] that takes the call and its request and has no result.
macro_rules! doing {
    ($function:ident) => {
        |logs, call, ()| {
            Box::pin(async move { logs.$function(&call, call.read()?).await.map(|()| Answer::Nothing) })
        }
    };
}

const fn reading(
    name: &'static str,
    members: &'static [Member],
    target: Target,
    run: hearth_service::Run<Logs, ()>,
) -> Operation<Logs> {
    Operation::new(name, Effect::Read, Protocol::Json, members, Access { target, run })
}

const fn writing(
    name: &'static str,
    members: &'static [Member],
    target: Target,
    run: hearth_service::Run<Logs, ()>,
) -> Operation<Logs> {
    Operation::new(name, Effect::Write, Protocol::Json, members, Access { target, run })
}

/// How many items are asked for at most.
const fn limit(maximum: &'static Shape) -> Member {
    optional("limit", maximum)
}

const DESCRIBED: Shape = Shape::Integer(1, 50);
const LISTED_EVENTS: Shape = Shape::Integer(1, 10_000);
/// Any number: which ones are retentions, the operation says.
const NUMBER: Shape = Shape::Integer(i64::MIN, i64::MAX);
const KEYS: Shape = Shape::List(&Shape::Text(Text::ANY), 0, MAXIMUM_TAGS);
/// Keys of UntagLogGroup, whose number the model does not limit.
const OLDER_KEYS: Shape = Shape::List(&Shape::Text(Text::ANY), 0, usize::MAX);

/// The operations of `logs` 2014-03-28 that are served.
static OPERATIONS: [Operation<Logs>; 18] = [
    writing("CreateLogGroup", &[GROUP, optional("tags", &TAGS)], Target::Group, doing!(create_log_group)),
    writing("CreateLogStream", &[GROUP, STREAM], Target::Group, doing!(create_log_stream)),
    writing("DeleteLogGroup", &[GROUP], Target::Group, doing!(delete_log_group)),
    writing("DeleteLogStream", &[GROUP, STREAM], Target::Stream, doing!(delete_log_stream)),
    writing("DeleteRetentionPolicy", &[GROUP], Target::Group, doing!(delete_retention_policy)),
    reading(
        "DescribeLogGroups",
        &[
            optional("logGroupNamePrefix", &GROUP_NAME),
            optional("logGroupNamePattern", &PART_OF_GROUP_NAME),
            limit(&DESCRIBED),
        ],
        Target::List,
        telling!(describe_log_groups),
    ),
    reading(
        "DescribeLogStreams",
        &[NAMED_GROUP, IDENTIFIED_GROUP, STREAM_PREFIX, limit(&DESCRIBED)],
        Target::Group,
        telling!(describe_log_streams),
    ),
    reading(
        "FilterLogEvents",
        &[
            NAMED_GROUP,
            IDENTIFIED_GROUP,
            optional("logStreamNames", &STREAM_NAMES),
            STREAM_PREFIX,
            START_TIME,
            END_TIME,
            optional("filterPattern", &FILTER_PATTERN),
            limit(&LISTED_EVENTS),
        ],
        Target::Group,
        telling!(filter_log_events),
    ),
    reading(
        "GetLogEvents",
        &[NAMED_GROUP, IDENTIFIED_GROUP, STREAM, START_TIME, END_TIME, limit(&LISTED_EVENTS)],
        Target::Stream,
        telling!(get_log_events),
    ),
    reading("ListTagsForResource", &[RESOURCE], Target::Tagged, telling!(list_tags_for_resource)),
    reading("ListTagsLogGroup", &[GROUP], Target::Group, telling!(list_tags_log_group)),
    writing(
        "PutLogEvents",
        &[GROUP, STREAM, required("logEvents", &EVENTS)],
        Target::Stream,
        telling!(put_log_events),
    ),
    writing(
        "PutRetentionPolicy",
        &[GROUP, required("retentionInDays", &NUMBER)],
        Target::Group,
        doing!(put_retention_policy),
    ),
    reading(
        "StartLiveTail",
        &[
            required("logGroupIdentifiers", &Shape::List(&IDENTIFIER, 1, MAXIMUM_IDENTIFIERS)),
            optional("logStreamNames", &STREAM_NAMES),
            optional("logStreamNamePrefixes", &STREAM_NAMES),
            optional("logEventFilterPattern", &FILTER_PATTERN),
        ],
        Target::Groups,
        |logs, call, ()| Box::pin(async move { logs.start_live_tail(&call, call.read()?).await }),
    ),
    writing("TagLogGroup", &[GROUP, required("tags", &SOME_TAGS)], Target::Group, doing!(tag_log_group)),
    writing("TagResource", &[RESOURCE, required("tags", &SOME_TAGS)], Target::Tagged, doing!(tag_resource)),
    writing("UntagLogGroup", &[GROUP, required("tags", &OLDER_KEYS)], Target::Group, doing!(untag_log_group)),
    writing("UntagResource", &[RESOURCE, required("tagKeys", &KEYS)], Target::Tagged, doing!(untag_resource)),
];

impl Api for Logs {
    type Access = Access;
    const SIGNING_NAME: &'static str = "logs";
    const TITLE: &'static str = "CloudWatch Logs";
    const INVALID: Code = Code::Modelled(INVALID_PARAMETER);

    fn operations() -> impl Iterator<Item = &'static Operation<Self>> {
        OPERATIONS.iter()
    }

    /// A batch has 1 MiB with every character escaped, and what surrounds 10,000 events; of other
    /// calls 100 names are the most, and their bodies are kept while they wait for their turn.
    fn maximum_body_bytes(operation: Option<&'static Operation<Self>>) -> usize {
        if operation.is_some_and(|operation| operation.name == "PutLogEvents") { 8 << 20 } else { 512 << 10 }
    }

    fn identities(&self) -> &Identities {
        &self.identities
    }

    async fn enter(&self, operation: &'static Operation<Self>, asked: Asked) -> Outcome {
        let permit = self.authorize(operation, &asked).await?;
        one_name(operation, &asked)?;
        (operation.access.run)(self, asked.permitted(permit)?, ()).await
    }
}

/// Refuses a group that is named in two ways, or in none where there are two.
fn one_name(operation: &Operation<Logs>, asked: &Asked) -> Result<(), Error> {
    let takes_both = operation.members.iter().any(|member| member.name == "logGroupIdentifier");
    let sent = |name| asked.input().get(name).is_some();
    if takes_both && sent("logGroupName") == sent("logGroupIdentifier") {
        return Err(invalid("Exactly one of logGroupName and logGroupIdentifier must be given."));
    }
    Ok(())
}
