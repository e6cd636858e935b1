//! TagResource, UntagResource and ListTags, on images and network connectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use hearth_api::{Error, NetworkConnectorArn, Tags};
use hearth_records::Taggable;

use crate::answer::{Answer, Outcome};
use crate::authorize;
use crate::call::Call;
use crate::config::{Context, store_failed};
use crate::connectors::connector_not_found;
use crate::shapes::{LIST_TAGS, TAG_RESOURCE, UNTAG_RESOURCE};

/// Most tags of a resource ("Tag naming limits and requirements", AWS General Reference).
const MAXIMUM_TAGS: usize = 50;
/// Keys that only AWS may set (the same page).
const RESERVED_PREFIX: &str = "aws:";

pub(crate) async fn tag_resource(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    let request: Tags = call.input(&TAG_RESOURCE)?;
    let resource = resource(&context, &call)?;
    context.authorize_tagging(&call, authorize::TAG_RESOURCE, &resource, &request.tags).await?;
    change(&context, &resource, |tags| {
        tags.extend(request.tags.clone());
        check(tags)
    })
    .await
}

pub(crate) async fn untag_resource(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    call.check(&UNTAG_RESOURCE)?;
    let keys = call.query_all("tagKeys");
    let resource = resource(&context, &call)?;
    context.authorize_untagging(&call, &resource, &keys).await?;
    change(&context, &resource, |tags| {
        tags.retain(|key, _| !keys.contains(&key.as_str()));
        Ok(())
    })
    .await
}

pub(crate) async fn list_tags(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    call.check(&LIST_TAGS)?;
    let resource = resource(&context, &call)?;
    context.authorize_on(&call, "ListTags", &resource).await?;
    let tags = context.services.store.tags(&resource).await.map_err(|error| store_failed(&error))?;
    Ok(Answer::ok(&Tags { tags: tags.ok_or_else(|| not_found(&resource))? }))
}

/// Refuses tags that a resource may not have.
pub(crate) fn check(tags: &BTreeMap<String, String>) -> Result<(), Error> {
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
    resource: &Taggable,
    change: impl Fn(&mut BTreeMap<String, String>) -> Result<(), Error>,
) -> Outcome {
    let store = &context.services.store;
    loop {
        let before = store.tags(resource).await.map_err(|error| store_failed(&error))?;
        let before = before.ok_or_else(|| not_found(resource))?;
        let mut after = before.clone();
        change(&mut after)?;
        // Somebody else may have changed them meanwhile.
        let replaced = store.replace_tags(resource, &before, &after).await;
        if replaced.map_err(|error| store_failed(&error))? {
            return Ok(Answer::no_content());
        }
    }
}

/// What is meant; its ARN's form was checked.
fn resource(context: &Context, call: &Call) -> Result<Taggable, Error> {
    let text = call.path("Resource");
    match NetworkConnectorArn::parse(text) {
        None => context.read_image_arn(call, text).map(Taggable::Image),
        Some(arn) => Ok(Taggable::NetworkConnector(arn)),
    }
}

fn not_found(resource: &Taggable) -> Error {
    match resource {
        Taggable::Image(arn) => Error::image_not_found(arn),
        Taggable::NetworkConnector(arn) => connector_not_found(&arn.to_string()),
    }
}
