//! TagResource, UntagResource and ListTags, on images and network connectors.

use std::collections::BTreeMap;

use hearth_api::Tags;
use hearth_records::Taggable;
use hearth_service::shape::{Location, Member, Pattern, Shape, path, patterned, required};
use hearth_service::{Answer, Call, Effect, Error, Operation, Outcome, Verb};

use super::{answering, on};
use crate::access::{Access, actor};
use crate::config::Context;
use crate::connectors::connector_not_found;
use crate::errors::image_not_found;
use crate::shapes::{NAME, TAG_KEY, TAGS};

/// Most tags of a resource ("Tag naming limits and requirements", AWS General Reference).
const MAXIMUM_TAGS: usize = 50;
/// Keys that only AWS may set (the same page).
const RESERVED_PREFIX: &str = "aws:";

const PATH: &str = "/2017-03-31/tags/{Resource}";

const TAGGABLE_ARN: Pattern = Pattern {
    expression: r"arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|layer:([a-zA-Z0-9-_]+)|code-signing-config:csc-[a-z0-9]{17}|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|(capacity-provider|network-connector|microvm-image):[a-zA-Z0-9-_]+)",
    matches: is_taggable_arn,
};

/// Of what the pattern allows, only images and network connectors are kept here.
fn is_taggable_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let ["arn", partition, "lambda", region, account, kind, name] = parts[..] else { return false };
    partition.starts_with("aws")
        && !region.is_empty()
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && matches!(kind, "microvm-image" | "network-connector")
        && (NAME.matches)(name)
}

const RESOURCE: Member = path("Resource", &patterned(1, 10_000, TAGGABLE_ARN));
const TAG: &[Member] = &[RESOURCE, required("Tags", &TAGS)];
const UNTAG: &[Member] = &[
    RESOURCE,
    Member {
        name: "tagKeys",
        shape: &Shape::List(&TAG_KEY, 0, usize::MAX),
        required: true,
        location: Location::Query,
    },
];
const LIST: &[Member] = &[RESOURCE];

pub(super) const TAG_RESOURCE: Operation<Context> = Operation::new(
    "TagResource",
    Effect::Write,
    answering(204, Verb::Post, PATH),
    TAG,
    Access::Tagged(|context, call, resource| Box::pin(tag(context, call, resource))),
);

pub(super) const UNTAG_RESOURCE: Operation<Context> = Operation::new(
    "UntagResource",
    Effect::Write,
    answering(204, Verb::Delete, PATH),
    UNTAG,
    Access::Tagged(|context, call, resource| Box::pin(untag(context, call, resource))),
);

pub(super) const LIST_TAGS: Operation<Context> = Operation::new(
    "ListTags",
    Effect::Read,
    on(Verb::Get, PATH),
    LIST,
    Access::Tagged(|context, call, resource| Box::pin(list(context, call, resource))),
);

async fn tag(context: &Context, call: Call, resource: Taggable) -> Outcome {
    let request: Tags = call.read()?;
    change(context, &call, &resource, |tags| {
        tags.extend(request.tags.clone());
        check(tags)
    })
    .await
}

async fn untag(context: &Context, call: Call, resource: Taggable) -> Outcome {
    let keys = call.input().list("tagKeys");
    change(context, &call, &resource, |tags| {
        tags.retain(|key, _| !keys.contains(&key.as_str()));
        Ok(())
    })
    .await
}

async fn list(context: &Context, _: Call, resource: Taggable) -> Outcome {
    let tags = context.services.store.tags(&resource).await?;
    Ok(Answer::json(&Tags { tags: tags.ok_or_else(|| not_found(&resource))? }))
}

/// Refuses tags that a resource may not have.
pub(super) fn check(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    if let Some(key) = tags.keys().find(|key| key.starts_with(RESERVED_PREFIX)) {
        return Err(Error::validation(format!(
            "The tag key {key} begins with '{RESERVED_PREFIX}', which is reserved."
        )));
    }
    if tags.len() > MAXIMUM_TAGS {
        return Err(Error::validation(format!(
            "A resource has at most {MAXIMUM_TAGS} tags; this one would have {}.",
            tags.len()
        )));
    }
    Ok(())
}

async fn change(
    context: &Context,
    call: &Call,
    resource: &Taggable,
    change: impl Fn(&mut BTreeMap<String, String>) -> Result<(), Error>,
) -> Outcome {
    let (store, actor) = (&context.services.store, actor(call));
    loop {
        let before = store.tags(resource).await?.ok_or_else(|| not_found(resource))?;
        let mut after = before.clone();
        change(&mut after)?;
        // Somebody else may have changed them meanwhile.
        if store.replace_tags(resource, &before, &after, Some(&actor)).await? {
            return Ok(Answer::Nothing);
        }
    }
}

fn not_found(resource: &Taggable) -> Error {
    match resource {
        Taggable::Image(arn) => image_not_found(arn),
        Taggable::NetworkConnector(arn) => connector_not_found(&arn.to_string()),
    }
}
