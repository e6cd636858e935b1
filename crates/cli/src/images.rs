//! The operations on images that commands call.

use anyhow::Context as _;
use http::Method;
use serde::Deserialize;
use serde_json::Value;

use crate::client::{Client, encode, is_exception};
pub(crate) use crate::items::Image;
use crate::resolve;

/// What commands read of a build.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Build {
    /// Id: the end of the names of its log streams.
    #[serde(rename = "buildId")]
    pub(crate) id: String,
    /// State: `PENDING`, `IN_PROGRESS`, `SUCCESSFUL` or `FAILED`.
    #[serde(rename = "buildState")]
    pub(crate) state: String,
    /// Why it failed.
    pub(crate) state_reason: Option<String>,
    /// Sizes of a build that succeeded.
    #[serde(rename = "snapshotBuild")]
    pub(crate) sizes: Option<SnapshotBuild>,
}

/// Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the API's names")]
pub(crate) struct SnapshotBuild {
    /// Guest memory.
    pub(crate) memory_snapshot_size_in_bytes: Option<u64>,
    /// Root file system that the Dockerfile made.
    pub(crate) code_install_size_in_bytes: Option<u64>,
    /// What the app changed on disk before the snapshot.
    pub(crate) disk_snapshot_size_in_bytes: Option<u64>,
}

fn image_path(arn: &str) -> String {
    format!("/microvm-images/{}", encode(arn))
}

/// ListMicrovmImages, all pages.
pub(crate) async fn list(client: &Client) -> anyhow::Result<Vec<Value>> {
    client.list("/microvm-images").await
}

/// CreateMicrovmImage.
pub(crate) async fn create(client: &Client, request: Value) -> anyhow::Result<Value> {
    client.microvms(Method::POST, "/microvm-images", String::new(), Some(request)).await
}

/// UpdateMicrovmImage; a name in the request is left out.
pub(crate) async fn update(client: &Client, arn: &str, mut request: Value) -> anyhow::Result<Value> {
    request.as_object_mut().context("a request is an object")?.remove("name");
    client.microvms(Method::PUT, &image_path(arn), String::new(), Some(request)).await
}

/// GetMicrovmImage; `None` when there is none.
pub(crate) async fn get(client: &Client, arn: &str) -> anyhow::Result<Option<Image>> {
    match client.microvms(Method::GET, &image_path(arn), String::new(), None).await {
        Ok(value) => Ok(Some(serde_json::from_value(value).context("the image is not readable")?)),
        Err(error) if is_exception(&error, "ResourceNotFoundException") => Ok(None),
        Err(error) => Err(error),
    }
}

/// DeleteMicrovmImage.
pub(crate) async fn delete(client: &Client, arn: &str) -> anyhow::Result<Value> {
    client.microvms(Method::DELETE, &image_path(arn), String::new(), None).await
}

/// ListMicrovmImageBuilds of a version and GetMicrovmImageBuild of each: the API's JSON.
pub(crate) async fn builds(client: &Client, arn: &str, version: &str) -> anyhow::Result<Vec<Value>> {
    let path = format!("{}/versions/{}/builds", image_path(arn), encode(version));
    let mut builds = Vec::new();
    for item in client.list(&path).await? {
        let id = item["buildId"].as_str().context("a build without an id was listed")?;
        let path = format!("{path}/{}", encode(id));
        builds.push(client.microvms(Method::GET, &path, String::new(), None).await?);
    }
    Ok(builds)
}

/// Why an image has nothing to launch, where it is known: the service has one text for every
/// reason.
pub(crate) async fn why_not_launchable(client: &Client, arn: &str) -> anyhow::Result<Option<String>> {
    let Some(image) = get(client, arn).await? else {
        return Ok(Some("there is no such image".to_owned()));
    };
    if image.latest_active_image_version.is_some() {
        return Ok(None);
    }
    if image.state == "CREATING" {
        return Ok(Some("its first build has not ended".to_owned()));
    }
    let Some(version) = image.latest_failed_image_version else {
        return Ok(None);
    };
    let builds = typed_builds(&builds(client, arn, &version).await?)?;
    let Some(reason) = builds.into_iter().find_map(|build| build.state_reason) else {
        return Ok(None);
    };
    Ok(Some(format!("the build of version {version} failed: {}", reason.trim_end_matches('.'))))
}

/// The report of a version's snapshot.
pub(crate) async fn report(client: &Client, arn: &str, version: &str) -> anyhow::Result<Value> {
    client.extension(Method::GET, &format!("{}/versions/{}/report", image_path(arn), encode(version))).await
}

/// The ARN of the image that `wanted` means: an ARN, a name, or the beginning of only one name.
pub(crate) async fn resolve_arn(client: &Client, wanted: &str) -> anyhow::Result<String> {
    if wanted.starts_with("arn:") {
        return Ok(wanted.to_owned());
    }
    let images = typed(list(client).await?)?;
    Ok(resolve::image(&images, wanted)?.arn.clone())
}

/// Reads listed images.
pub(crate) fn typed(items: Vec<Value>) -> anyhow::Result<Vec<Image>> {
    serde_json::from_value(Value::Array(items)).context("the list of images is not readable")
}

/// Reads builds.
pub(crate) fn typed_builds(builds: &[Value]) -> anyhow::Result<Vec<Build>> {
    serde_json::from_value(Value::Array(builds.to_vec())).context("the builds are not readable")
}
