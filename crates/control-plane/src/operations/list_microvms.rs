//! ListMicrovms, newest first; ended ones stay listed.

use std::sync::Arc;

use axum::extract::State;
use hearth_api::{ImageVersion, MicrovmId};
use hearth_store::MicrovmFilter;

use super::views;
use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::config::{Context, store_failed};
use crate::page::PageRequest;
use crate::shapes::LIST_MICROVMS;
use crate::validate::violation;

pub(crate) async fn handle(State(context): State<Arc<Context>>, call: Call) -> Outcome {
    call.check(&LIST_MICROVMS)?;
    context.authorize(&call, "ListMicrovms")?;
    let request = PageRequest::of(&context, &call)?;
    let image_arn =
        call.query("imageIdentifier").map(|text| context.read_image_arn(&call, text)).transpose()?;
    let image_version = call
        .query("imageVersion")
        .map(|text| {
            let rule = "Member must be a version such as 1.0";
            ImageVersion::parse(text).ok_or_else(|| violation(text, "imageVersion", rule))
        })
        .transpose()?;
    let filter = MicrovmFilter { account: call.account.clone(), image_arn, image_version };
    let after = request.after.clone().map(MicrovmId::from_stored);
    let records = context
        .services
        .store
        .microvms(&filter, after.as_ref(), request.limit + 1)
        .await
        .map_err(|error| store_failed(&error))?;
    Ok(Answer::ok(&request.page(records, |record| record.id.to_string(), views::microvm_item)))
}
