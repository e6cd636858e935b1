//! ListMicrovmImageVersions, newest first. As on the service, the list leaves out the environment
//! variables.

use hearth_api::{ImageArn, Page};
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::{on, views};
use crate::access::Access;
use crate::config::Context;
use crate::errors::image_not_found;
use crate::pages::has_page;
use crate::shapes::LIST_OF_IMAGE;

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "ListMicrovmImageVersions",
    Effect::Read,
    on(Verb::Get, "/2025-09-09/microvm-images/{imageIdentifier}/versions"),
    LIST_OF_IMAGE,
    Access::Image(|context, call, arn| Box::pin(run(context, call, arn))),
)
.with_rule(has_page);

async fn run(context: &Context, call: Call, arn: ImageArn) -> Outcome {
    let mut records = context.services.store.image_versions(&arn).await?;
    if records.is_empty() {
        return Err(image_not_found(&arn));
    }
    let next_token = context.page(&call)?.slice(&mut records, |record| record.version.to_string());
    let items = records.into_iter().map(|mut record| {
        record.configuration.environment_variables = None;
        views::version(record)
    });
    Ok(Answer::json(&Page { items: items.collect(), next_token }))
}
