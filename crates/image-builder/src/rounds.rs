//! Runs a Dockerfile until the builder has all images that it asks for.

use std::collections::BTreeSet;
use std::path::Path;

use hearth_records::{BuildRecord, ImageVersionRecord};

use crate::base_images::as_the_builder_names_it;
use crate::build_guest::WayOut;
use crate::build_log::BuildLog;
use crate::builder::{ImageBuilder, host_capped};
use crate::container_build::{BuildEnd, ContainerBuild, ContainerImage};
use crate::failure::{BuildFailure, FailureCode};
use crate::preparation::Prepared;

/// Most images that the builder may name one after the other. Each costs the boot of a microVM; the
/// layers before are cached.
const MAX_ROUNDS: usize = 8;

/// What a Dockerfile is run with.
#[derive(Debug)]
pub(crate) struct BuildInputs<'a> {
    /// Tar of the build context.
    pub(crate) context: &'a Path,
    /// The root disk to be.
    pub(crate) disk: &'a Path,
    /// The image's layer cache.
    pub(crate) cache: &'a Path,
    /// Bytes of the root disk to be.
    pub(crate) disk_bytes: u64,
    /// The images that the scan found, and a place among the builds.
    pub(crate) prepared: &'a mut Prepared,
}

impl ImageBuilder {
    /// Runs the build with the images that the scan found, and again with each that
    /// the builder misses.
    pub(crate) async fn container_image(
        &self,
        row: &ImageVersionRecord,
        build: &BuildRecord,
        inputs: BuildInputs<'_>,
        log: &mut BuildLog,
    ) -> Result<ContainerImage, BuildFailure> {
        let config = &self.config;
        let BuildInputs { context, disk, cache, disk_bytes, prepared } = inputs;
        let stopped = self.builds.token(&build.id);
        let ca_bundle = match &config.ca_bundle {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| BuildFailure::platform("read the configured CA bundle", &error))?,
        };
        let mut images = std::mem::take(&mut prepared.scan.images);
        for round in 0..MAX_ROUNDS {
            if round > 0 {
                // A registry may take its time, and others wait for the place.
                prepared.slot = None;
                prepared.stores = tokio::select! {
                    stores = self.stores(row, &images) => stores?,
                    () = stopped.cancelled() => return Err(self.builds.failure(&build.id)),
                };
                prepared.slot = Some(self.place(build, &stopped).await?);
            }
            log.line("Starting the build microVM").await;
            let container = ContainerBuild {
                name: format!("build-{}", build.id),
                context,
                cache,
                disk,
                disk_bytes,
                stores: prepared.stores.paths.clone(),
                ca_bundle: &ca_bundle,
                dockerfile: prepared.scan.rewritten.as_deref(),
                vcpu_count: host_capped(config.build_vcpus),
                memory_mib: config.build_memory_mib,
                way_out: WayOut::of(&config.egresses, &row.configuration),
                timeout_seconds: config.build_timeout_seconds,
            };
            match container.run(&config.guests, log, &stopped).await? {
                BuildEnd::Built(image) => return Ok(image),
                BuildEnd::Missing(image) => {
                    if is_among(&images, &image) {
                        return Err(failed(&format!(
                            "the builder does not find the image {image}, though it was there"
                        )));
                    }
                    log.line(&format!(
                        "The build also needs the image {image}: fetching it and building again."
                    ))
                    .await;
                    images.insert(image);
                }
            }
        }
        Err(failed(&format!(
            "it asked for more than {MAX_ROUNDS} images that the Dockerfile does not name in its FROM lines"
        )))
    }
}

/// Whether an image was given to the builder already: it may name it in other words than
/// the Dockerfile does.
fn is_among(images: &BTreeSet<String>, image: &str) -> bool {
    let name = |image: &str| as_the_builder_names_it(image).map(|reference| reference.whole()).ok();
    images.contains(image)
        || name(image).is_some_and(|wanted| images.iter().any(|it| name(it).as_ref() == Some(&wanted)))
}

fn failed(why: &str) -> BuildFailure {
    BuildFailure::new(FailureCode::ContainerBuildFailed, format!("The container image build failed: {why}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_known_by_every_way_to_name_it() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let images = BTreeSet::from([format!("python:3.12@{digest}"), "debian:12".to_owned()]);
        for image in [
            format!("python@{digest}"),
            format!("docker.io/library/python:3.13@{digest}"),
            "docker.io/library/debian:12".to_owned(),
        ] {
            assert!(is_among(&images, &image), "{image}");
        }
        assert!(!is_among(&images, "python:3.12") && !is_among(&images, "debian"));
    }
}
