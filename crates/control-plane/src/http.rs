//! Routes: one line per operation.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, delete, get, post};
use futures::FutureExt as _;
use hearth_api::{Error, ErrorKind};
use http::{HeaderValue, Method, Uri};
use tracing::Instrument as _;

use crate::answer::Refused;
use crate::config::{Context, ControlPlaneConfig, Services};
use crate::operations::{
    create_microvm_auth_token, create_microvm_image, create_microvm_shell_auth_token, delete_microvm_image,
    delete_microvm_image_version, get_endpoint_counters, get_image_report, get_microvm, get_microvm_image,
    get_microvm_image_build, get_microvm_image_version, list_managed_microvm_image_versions,
    list_managed_microvm_images, list_microvm_image_builds, list_microvm_image_versions, list_microvm_images,
    list_microvms, network_connectors, resume_microvm, revoke_microvm_auth_tokens,
    rotate_endpoint_token_keys, run_microvm, suspend_microvm, tags, terminate_microvm, update_microvm_image,
    update_microvm_image_version,
};
use crate::recent_pages::RecentPages;
use crate::throttle::Throttle;

/// The API under `/2025-09-09/`, `/2017-03-31/tags/` and `/2026-04-04/`, and our extensions under
/// `/hearth/`. Other paths are left to the fallback of whoever mounts this router.
pub fn router(config: ControlPlaneConfig, services: Services) -> Router {
    let context =
        Context { throttle: Throttle::new(config.rates), recent_pages: RecentPages::new(), config, services };
    let images = "/2025-09-09/microvm-images";
    let image = "/2025-09-09/microvm-images/{imageIdentifier}";
    let version = "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}";
    let microvm = "/2025-09-09/microvms/{microvmIdentifier}";
    let managed = "/2025-09-09/managed-microvm-images";
    Router::new()
        .route(images, post(create_microvm_image::handle).get(list_microvm_images::handle))
        .route(
            image,
            get(get_microvm_image::handle)
                .put(update_microvm_image::handle)
                .delete(delete_microvm_image::handle),
        )
        .route(&format!("{image}/versions"), get(list_microvm_image_versions::handle))
        .route(
            version,
            get(get_microvm_image_version::handle)
                .patch(update_microvm_image_version::handle)
                .delete(delete_microvm_image_version::handle),
        )
        .route(&format!("{version}/builds"), get(list_microvm_image_builds::handle))
        .route(&format!("{version}/builds/{{buildId}}"), get(get_microvm_image_build::handle))
        .merge(extensions())
        .route(managed, get(list_managed_microvm_images::handle))
        .route(
            &format!("{managed}/{{imageIdentifier}}/versions"),
            get(list_managed_microvm_image_versions::handle),
        )
        .route("/2025-09-09/microvms", post(run_microvm::handle).get(list_microvms::handle))
        .route(microvm, get(get_microvm::handle).merge(delete(terminate_microvm::handle)))
        .route(&format!("{microvm}/suspend"), post(suspend_microvm::handle))
        .route(&format!("{microvm}/resume"), post(resume_microvm::handle))
        .route(&format!("{microvm}/auth-token"), post(create_microvm_auth_token::handle))
        .route(&format!("{microvm}/shell-auth-token"), post(create_microvm_shell_auth_token::handle))
        .route(
            "/2017-03-31/tags/{Resource}",
            get(tags::list_tags).post(tags::tag_resource).delete(tags::untag_resource),
        )
        .merge(network_connectors::routes())
        .route("/2026-04-04/{*rest}", any(unknown_operation))
        .route("/2025-09-09/{*rest}", any(unknown_operation))
        .route("/2017-03-31/{*rest}", any(unknown_operation))
        .method_not_allowed_fallback(unknown_operation)
        .layer(from_fn(with_request_id))
        .with_state(Arc::new(context))
}

/// What AWS does not have.
fn extensions() -> Router<Arc<Context>> {
    let version = "/hearth/2026-11-22/microvm-images/{imageIdentifier}/versions/{imageVersion}";
    let microvm = "/hearth/2026-11-22/microvms/{microvmIdentifier}";
    Router::new()
        .route(&format!("{version}/report"), get(get_image_report::handle))
        .route(&format!("{microvm}/auth-tokens"), delete(revoke_microvm_auth_tokens::handle))
        .route(&format!("{microvm}/endpoint-counters"), get(get_endpoint_counters::handle))
        .route("/hearth/2026-11-22/endpoint-token-keys", post(rotate_endpoint_token_keys::handle))
}

async fn unknown_operation(method: Method, uri: Uri) -> Refused {
    let message = format!("There is no operation {method} {} here.", uri.path());
    Error::new(ErrorKind::UnknownOperation, message).into()
}

/// Gives each request an id, which is in the answer and in every log line about it.
async fn with_request_id(request: Request, next: Next) -> Response {
    let id = uuid::Uuid::new_v4().to_string();
    let span = tracing::info_span!("request", id, method = %request.method(), path = request.uri().path());
    let mut response = answer(request, next).instrument(span.clone()).await;
    span.in_scope(|| tracing::debug!(status = response.status().as_u16(), "answered"));
    let id = HeaderValue::from_str(&id).expect("invariant: a UUID is a header value");
    response.headers_mut().insert("x-amzn-requestid", id);
    response
}

/// What changes something runs as a task of its own: hyper drops what it waits for when the client
/// hangs up, and an operation that has written its rows still has to start what they stand for.
/// Reads are spared the cost.
async fn answer(request: Request, next: Next) -> Response {
    let reads = request.method() == Method::GET;
    let running = next.run(request);
    let answered = if reads {
        AssertUnwindSafe(running).catch_unwind().await.map_err(|_| "a panic, which was logged".to_owned())
    } else {
        tokio::spawn(running.in_current_span()).await.map_err(|error| error.to_string())
    };
    answered.unwrap_or_else(|error| {
        tracing::error!(error, "the request broke off");
        Refused::from(Error::internal()).into_response()
    })
}
