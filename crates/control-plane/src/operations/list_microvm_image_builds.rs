//! ListMicrovmImageBuilds, with its three filters.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::{Architecture, Chipset, Error};

use super::views;
use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::{Context, store_failed};
use crate::page::PageRequest;
use crate::shapes::LIST_MICROVM_IMAGE_BUILDS;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    call.check(&LIST_MICROVM_IMAGE_BUILDS)?;
    let request = PageRequest::of(&context, &call)?;
    let (arn, version) = context.path_version(&call, "ListMicrovmImageBuilds").await?;
    let architecture = call.query("architecture").and_then(Architecture::parse);
    let chipset = call.query("chipset").and_then(Chipset::parse);
    let generation = call.query("chipsetGeneration");
    let store = &context.services.store;
    if store.image_version(&arn, version).await.map_err(|error| store_failed(&error))?.is_none() {
        return Err(Error::version_not_found(&arn, version).into());
    }
    let records = store.builds(&arn, version).await.map_err(|error| store_failed(&error))?;
    let builds = records
        .into_iter()
        .map(views::build_summary)
        .filter(|build| {
            architecture.is_none_or(|wanted| build.architecture == wanted)
                && chipset.is_none_or(|wanted| build.chipset == wanted)
                && generation.is_none_or(|wanted| build.chipset_generation == wanted)
        })
        .collect();
    Ok(Answer::ok(&request.slice(builds, |build| build.build_id.to_string(), |build| build)))
}
