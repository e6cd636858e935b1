//! What CreateMicrovmImage and UpdateMicrovmImage check of a version's configuration
//! beyond its shape.

use hearth_api::{AccountId, Architecture, HookState, Hooks, ImageArn, ImageConfiguration, Resources};
use hearth_records::Size;
use hearth_service::{Call, Error};

use super::managed_images;
use crate::config::Context;

/// Checks what no single member tells, and fills in the defaults that are echoed.
pub(crate) async fn complete(
    context: &Context,
    account: &AccountId,
    configuration: &mut ImageConfiguration,
) -> Result<(), Error> {
    let region = &context.config.region;
    let base_version = configuration.base_image_version.as_deref();
    let base_version = managed_images::resolve(region, &configuration.base_image_arn, base_version)?;
    configuration.base_image_version = Some(base_version);
    check_artifact(&configuration.code_artifact.uri)?;
    check_architecture(context, configuration)?;
    check_size(configuration)?;
    check_environment(configuration)?;
    if let Some(hooks) = &configuration.hooks {
        check_hooks(hooks)?;
    }
    let connectors = context.egress(account, configuration.egress_network_connectors.take(), None).await?;
    configuration.egress_network_connectors = Some(connectors);
    Ok(())
}

/// Refuses a build role and connectors that the caller may not hand to the build. `named` are the
/// connectors of the request; the default one is everybody's.
pub(crate) async fn pass(
    context: &Context,
    call: &Call,
    image: &ImageArn,
    configuration: &ImageConfiguration,
    named: Option<&[String]>,
) -> Result<(), Error> {
    context.authorize_pass_role(call, &configuration.build_role_arn, &image.to_string())?;
    context.authorize_pass_connectors(call, named.unwrap_or_default()).await?;
    let connectors = configuration.egress_network_connectors.as_deref().unwrap_or_default();
    context.check_connectors(&call.caller().account, connectors).await
}

fn check_artifact(uri: &str) -> Result<(), Error> {
    let well_formed = uri
        .strip_prefix("s3://")
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(bucket, key)| !bucket.is_empty() && !key.is_empty());
    if well_formed {
        Ok(())
    } else {
        Err(Error::validation("CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>"))
    }
}

fn check_architecture(context: &Context, configuration: &ImageConfiguration) -> Result<(), Error> {
    if context.config.any_architecture {
        return Ok(());
    }
    let host = Architecture::host();
    let wanted = configuration.cpu_configurations.as_deref().unwrap_or_default();
    match wanted.iter().find(|cpu| cpu.architecture != host) {
        None => Ok(()),
        Some(other) => Err(Error::validation(format!(
            "Architecture {} is not available: this host builds and runs {} only. (The operator's setting \
             any_architecture lets it stand for the host's.)",
            other.architecture.as_str(),
            host.as_str()
        ))),
    }
}

fn check_size(configuration: &mut ImageConfiguration) -> Result<(), Error> {
    if configuration.resources.as_ref().is_none_or(Vec::is_empty) {
        configuration.resources = Some(vec![Resources { minimum_memory_in_mi_b: Size::DEFAULT_MEMORY_MIB }]);
    }
    let wanted = Size::baseline_of(configuration);
    if Size::for_baseline(wanted).is_some() {
        return Ok(());
    }
    let supported: Vec<String> = Size::ALL.iter().map(|size| size.minimum_memory_mib.to_string()).collect();
    Err(Error::validation(format!(
        "The requested memory size of {wanted} MiB is not supported by base MicroVM image {}. Supported memory \
         sizes in MiB are: [{}].",
        configuration.base_image_arn,
        supported.join(", ")
    )))
}

fn check_environment(configuration: &ImageConfiguration) -> Result<(), Error> {
    let reserved = |key: &&String| key.as_str() == "AWS_REGION" || key.starts_with("AWS_LAMBDA_MICROVM_");
    match configuration.environment_variables.iter().flatten().map(|(key, _)| key).find(reserved) {
        None => Ok(()),
        Some(key) => Err(Error::validation(format!("Environment variable key '{key}' is reserved"))),
    }
}

/// Refuses hooks without what they need: the ready hook, a port.
fn check_hooks(hooks: &Hooks) -> Result<(), Error> {
    let enabled = |state: Option<HookState>| state == Some(HookState::Enabled);
    let runtime = hooks.microvm_hooks.clone().unwrap_or_default();
    let build = hooks.microvm_image_hooks.clone().unwrap_or_default();
    let any_runtime =
        [runtime.run, runtime.resume, runtime.suspend, runtime.terminate].into_iter().any(enabled);
    if any_runtime && !enabled(build.ready) {
        return Err(Error::validation(
            "The ready (/ready) MicroVM image hook must be enabled when any MicroVM lifecycle hook (run, resume, \
             suspend, or terminate) is enabled. The ready hook signals when the application has finished \
             initializing so the snapshot is taken in a ready state.",
        ));
    }
    if (any_runtime || enabled(build.ready) || enabled(build.validate)) && hooks.port.is_none() {
        return Err(Error::validation("The hooks port must be given when any hook is enabled."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hearth_api::{MicrovmHooks, MicrovmImageHooks};

    use super::*;

    #[test]
    fn only_s3_uris_with_bucket_and_key_are_artifacts() {
        assert!(check_artifact("s3://bucket/dir/key.zip").is_ok());
        for bad in ["s3://bucket", "s3://bucket/", "s3:///key", "https://x/y", "bucket/key"] {
            assert!(check_artifact(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn runtime_hooks_need_ready_and_every_hook_needs_a_port() {
        let enabled = Some(HookState::Enabled);
        let hooks = |run, ready, port| Hooks {
            port,
            microvm_hooks: Some(MicrovmHooks { run, ..MicrovmHooks::default() }),
            microvm_image_hooks: Some(MicrovmImageHooks { ready, ..MicrovmImageHooks::default() }),
        };
        assert!(check_hooks(&hooks(None, None, None)).is_ok());
        assert!(check_hooks(&hooks(enabled, enabled, Some(9000))).is_ok());
        assert!(check_hooks(&hooks(enabled, None, Some(9000))).is_err());
        assert!(check_hooks(&hooks(None, enabled, None)).is_err());
        assert!(check_hooks(&hooks(Some(HookState::Disabled), None, None)).is_ok());
    }
}
