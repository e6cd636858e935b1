//! ListManagedMicrovmImageVersions.

use std::future::ready;

use hearth_api::{ImageArn, Page, managed_base_image_arn};
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::{managed_images, on};
use crate::access::Access;
use crate::config::Context;
use crate::errors::image_not_found;
use crate::pages::has_page;
use crate::shapes::LIST_OF_IMAGE;

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "ListManagedMicrovmImageVersions",
    Effect::Read,
    on(Verb::Get, "/2025-09-09/managed-microvm-images/{imageIdentifier}/versions"),
    LIST_OF_IMAGE,
    Access::Image(|context, call, arn| Box::pin(ready(run(context, &call, &arn)))),
)
.with_rule(has_page);

fn run(context: &Context, call: &Call, arn: &ImageArn) -> Outcome {
    let region = &context.config.region;
    if arn.to_string() != managed_base_image_arn(region) {
        return Err(image_not_found(arn));
    }
    let mut items = managed_images::versions(region);
    let next_token = context.page(call)?.slice(&mut items, |version| version.image_version.clone());
    Ok(Answer::json(&Page { items, next_token }))
}
