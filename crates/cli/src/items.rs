//! What lists of images and microVMs tell.

use serde::Deserialize;

/// What commands read of an image.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Image {
    /// ARN.
    #[serde(rename = "imageArn")]
    pub(crate) arn: String,
    /// Name.
    pub(crate) name: String,
    /// State: `CREATING`, `CREATED` and so on.
    pub(crate) state: String,
    /// Version that is launched by default.
    pub(crate) latest_active_image_version: Option<String>,
    /// Version whose build failed last.
    pub(crate) latest_failed_image_version: Option<String>,
    /// Seconds since 1970.
    pub(crate) created_at: f64,
}

/// What commands read of a microVM in a list.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MicrovmItem {
    /// `microvm-<uuid>`.
    pub(crate) microvm_id: String,
    /// State: `PENDING`, `RUNNING` and so on.
    pub(crate) state: String,
    /// Image.
    pub(crate) image_arn: String,
    /// Version of the image.
    pub(crate) image_version: String,
    /// Seconds since 1970.
    pub(crate) started_at: f64,
}
