//! ListMicrovmImageBuilds, with its three filters.

use hearth_api::{Architecture, Chipset, ImageArn, ImageVersion, Page};
use hearth_service::shape::{Member, Shape, query};
use hearth_service::{Answer, Call, Effect, Operation, Outcome, Verb};

use super::{on, views};
use crate::access::Access;
use crate::config::Context;
use crate::errors::version_not_found;
use crate::pages::has_page;
use crate::shapes::{ARCHITECTURE, IMAGE, MAX_RESULTS, NEXT_TOKEN, NON_BLANK, VERSION};

const SHAPE: &[Member] = &[
    MAX_RESULTS,
    NEXT_TOKEN,
    IMAGE,
    VERSION,
    query("architecture", &ARCHITECTURE),
    query("chipset", &Shape::Enumeration(&["GRAVITON", "INTEL"])),
    query("chipsetGeneration", &NON_BLANK),
];

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "ListMicrovmImageBuilds",
    Effect::Read,
    on(Verb::Get, "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}/builds"),
    SHAPE,
    Access::Version(|context, call, named| Box::pin(run(context, call, named))),
)
.with_rule(has_page);

async fn run(context: &Context, call: Call, (arn, version): (ImageArn, ImageVersion)) -> Outcome {
    let architecture = call.input().get("architecture").and_then(Architecture::parse);
    let chipset = call.input().get("chipset").and_then(Chipset::parse);
    let generation = call.input().get("chipsetGeneration");
    let store = &context.services.store;
    if store.image_version(&arn, version).await?.is_none() {
        return Err(version_not_found(&arn, version));
    }
    let records = store.builds(&arn, version).await?;
    let mut items: Vec<_> = records
        .into_iter()
        .map(views::build_summary)
        .filter(|build| {
            architecture.is_none_or(|wanted| build.architecture == wanted)
                && chipset.is_none_or(|wanted| build.chipset == wanted)
                && generation.is_none_or(|wanted| build.chipset_generation == wanted)
        })
        .collect();
    let next_token = context.page(&call)?.slice(&mut items, |build| build.build_id.to_string());
    Ok(Answer::json(&Page { items, next_token }))
}
