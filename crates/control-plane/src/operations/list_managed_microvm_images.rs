//! ListManagedMicrovmImages.

use std::future::ready;

use hearth_api::Page;
use hearth_service::shape::Member;
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::{managed_images, on};
use crate::access::Access;
use crate::config::Context;
use crate::shapes::{MAX_RESULTS, NEXT_TOKEN};

const SHAPE: &[Member] = &[MAX_RESULTS, NEXT_TOKEN];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "ListManagedMicrovmImages",
    Effect::Read,
    on(Verb::Get, "/2025-09-09/managed-microvm-images"),
    SHAPE,
    Access::Everything(|context, call, ()| Box::pin(ready(run(context, &call)))),
);

fn run(context: &Context, call: &Call) -> Outcome {
    let mut items = vec![managed_images::summary(&context.config.region)];
    let next_token = context.page(call)?.slice(&mut items, |image| image.image_arn.clone());
    Ok(Answer::json(&Page { items, next_token }))
}
