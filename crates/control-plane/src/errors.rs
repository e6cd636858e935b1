//! How the two models of this API spell errors.

use hearth_api::{ErrorKind, ImageArn};
use hearth_service::Error;
use serde_json::{Value, json};

/// Of `lambda-microvms`: the members that an exception has besides `message` are null (recorded
/// exchanges).
pub(crate) fn microvms(kind: ErrorKind, message: &str) -> (ErrorKind, Value) {
    let body = match kind {
        ErrorKind::ResourceNotFound | ErrorKind::Conflict => {
            json!({ "message": message, "resourceId": null, "resourceType": null })
        }
        ErrorKind::ServiceQuotaExceeded => json!({
            "message": message,
            "resourceId": null,
            "resourceType": null,
            "serviceCode": null,
            "quotaCode": null,
        }),
        ErrorKind::Throttling => json!({ "message": message, "serviceCode": null, "quotaCode": null }),
        _ => json!({ "message": message }),
    };
    (kind, body)
}

/// Of `lambda-core`: the text is in `Message` or `message`, as the model has it for each exception;
/// other members are left out (recorded exchanges).
pub(crate) fn core(kind: ErrorKind, message: &str) -> (ErrorKind, Value) {
    match kind {
        ErrorKind::ResourceNotFound => (kind, json!({ "Message": message })),
        ErrorKind::InternalServer | ErrorKind::InsufficientCapacity => {
            (ErrorKind::Service, json!({ "Message": message }))
        }
        other => (other, json!({ "message": message })),
    }
}

/// 404, an image that is not there.
pub(crate) fn image_not_found(arn: &ImageArn) -> Error {
    hearth_api::Error::image_not_found(arn).into()
}

/// 404, a version of an image that is not there.
pub(crate) fn version_not_found(arn: &ImageArn, version: impl std::fmt::Display) -> Error {
    hearth_api::Error::version_not_found(arn, version).into()
}
