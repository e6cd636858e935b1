//! The operations of lambda-microvms. Of each answer, the members that the tests look at.

use aws_sdk_lambdamicrovms as sdk;
use sdk::Client;
use sdk::types::{
    CodeArtifact, HookState, Hooks, IdlePolicy, MicrovmImageHooks, MicrovmImageVersionStatus,
    PortSpecification, Resources,
};
use serde_json::{Value, json};

use crate::value::{list, map, number, optional, text, texts};
use crate::{Answer, send};

/// A client that the environment describes.
pub(crate) fn client() -> Client {
    Client::from_conf(crate::configuration!(sdk))
}

/// Calls an operation.
pub(crate) async fn call(client: &Client, operation: &str, input: &Value) -> Answer {
    match operation {
        "RunMicrovm"
        | "GetMicrovm"
        | "SuspendMicrovm"
        | "ResumeMicrovm"
        | "TerminateMicrovm"
        | "CreateMicrovmAuthToken"
        | "CreateMicrovmShellAuthToken" => microvm(client, operation, input).await,
        "ListTags" | "TagResource" | "UntagResource" => tags(client, operation, input).await,
        _ => image(client, operation, input).await,
    }
}

async fn microvm(client: &Client, operation: &str, input: &Value) -> Answer {
    let id = || text(input, "microvmIdentifier");
    Ok(match operation {
        "RunMicrovm" => {
            let request = client
                .run_microvm()
                .image_identifier(text(input, "imageIdentifier"))
                .set_ingress_network_connectors(texts(input, "ingressNetworkConnectors"))
                .set_idle_policy(idle_policy(&input["idlePolicy"]));
            let ran = send!(sdk, request.send().await)?;
            json!({"microvmId": ran.microvm_id(), "state": ran.state().as_str(), "endpoint": ran.endpoint(),
                   "imageVersion": ran.image_version()})
        }
        "GetMicrovm" => {
            let shown = send!(sdk, client.get_microvm().microvm_identifier(id()).send().await)?;
            json!({"microvmId": shown.microvm_id(), "state": shown.state().as_str(), "imageArn": shown.image_arn(),
                   "maximumDurationInSeconds": shown.maximum_duration_in_seconds()})
        }
        "SuspendMicrovm" => {
            send!(sdk, client.suspend_microvm().microvm_identifier(id()).send().await)?;
            json!({})
        }
        "ResumeMicrovm" => {
            send!(sdk, client.resume_microvm().microvm_identifier(id()).send().await)?;
            json!({})
        }
        "TerminateMicrovm" => {
            send!(sdk, client.terminate_microvm().microvm_identifier(id()).send().await)?;
            json!({})
        }
        "CreateMicrovmAuthToken" => {
            let ports = list(input, "allowedPorts").unwrap_or_default();
            let ports = ports.iter().map(|port| PortSpecification::Port(number(port, "port"))).collect();
            let request = client
                .create_microvm_auth_token()
                .microvm_identifier(id())
                .expiration_in_minutes(number(input, "expirationInMinutes"))
                .set_allowed_ports(Some(ports));
            json!({"authToken": send!(sdk, request.send().await)?.auth_token()})
        }
        "CreateMicrovmShellAuthToken" => {
            let request = client
                .create_microvm_shell_auth_token()
                .microvm_identifier(id())
                .expiration_in_minutes(number(input, "expirationInMinutes"));
            json!({"authToken": send!(sdk, request.send().await)?.auth_token()})
        }
        _ => panic!("the client cannot {operation}"),
    })
}

fn idle_policy(value: &Value) -> Option<IdlePolicy> {
    let built = IdlePolicy::builder()
        .max_idle_duration_seconds(number(value, "maxIdleDurationSeconds"))
        .suspended_duration_seconds(number(value, "suspendedDurationSeconds"))
        .auto_resume_enabled(value["autoResumeEnabled"] == true)
        .build();
    Some(built.expect("an idle policy"))
}

async fn tags(client: &Client, operation: &str, input: &Value) -> Answer {
    let resource = text(input, "Resource");
    match operation {
        "ListTags" => {
            let listed = send!(sdk, client.list_tags().resource(resource).send().await)?;
            return Ok(json!({"tags": listed.tags()}));
        }
        "TagResource" => {
            let request = client.tag_resource().resource(resource).set_tags(map(input, "Tags"));
            send!(sdk, request.send().await)?;
        }
        _ => {
            let request = client.untag_resource().resource(resource).set_tag_keys(texts(input, "TagKeys"));
            send!(sdk, request.send().await)?;
        }
    }
    Ok(json!({}))
}

async fn image(client: &Client, operation: &str, input: &Value) -> Answer {
    let (arn, version) = (|| text(input, "imageIdentifier"), || text(input, "imageVersion"));
    Ok(match operation {
        "CreateMicrovmImage" => {
            let request = client
                .create_microvm_image()
                .name(text(input, "name"))
                .code_artifact(CodeArtifact::Uri(text(&input["codeArtifact"], "uri")))
                .build_role_arn(text(input, "buildRoleArn"))
                .base_image_arn(text(input, "baseImageArn"))
                .set_description(optional(input, "description"))
                .set_resources(resources(input))
                .set_hooks(hooks(input))
                .set_environment_variables(map(input, "environmentVariables"))
                .set_tags(map(input, "tags"));
            let made = send!(sdk, request.send().await)?;
            json!({"imageArn": made.image_arn(), "state": made.state().as_str(), "imageVersion": made.image_version()})
        }
        "UpdateMicrovmImage" => {
            let request = client
                .update_microvm_image()
                .image_identifier(arn())
                .code_artifact(CodeArtifact::Uri(text(&input["codeArtifact"], "uri")))
                .build_role_arn(text(input, "buildRoleArn"))
                .base_image_arn(text(input, "baseImageArn"));
            let made = send!(sdk, request.send().await)?;
            json!({"imageArn": made.image_arn(), "state": made.state().as_str(), "imageVersion": made.image_version()})
        }
        "GetMicrovmImage" => {
            let shown = send!(sdk, client.get_microvm_image().image_identifier(arn()).send().await)?;
            json!({"name": shown.name(), "state": shown.state().as_str(), "tags": shown.tags()})
        }
        "DeleteMicrovmImage" => {
            let deleted = send!(sdk, client.delete_microvm_image().image_identifier(arn()).send().await)?;
            json!({"state": deleted.state().as_str()})
        }
        "GetMicrovmImageVersion" => {
            let request = client.get_microvm_image_version().image_identifier(arn()).image_version(version());
            let shown = send!(sdk, request.send().await)?;
            json!({"state": shown.state().as_str(), "description": shown.description(),
                   "environmentVariables": shown.environment_variables(),
                   "hooks": {"port": shown.hooks().and_then(Hooks::port)}})
        }
        "UpdateMicrovmImageVersion" => {
            let request = client
                .update_microvm_image_version()
                .image_identifier(arn())
                .image_version(version())
                .status(MicrovmImageVersionStatus::from(text(input, "status").as_str()));
            json!({"status": send!(sdk, request.send().await)?.status().as_str()})
        }
        "DeleteMicrovmImageVersion" => {
            let request =
                client.delete_microvm_image_version().image_identifier(arn()).image_version(version());
            json!({"state": send!(sdk, request.send().await)?.state().as_str()})
        }
        "GetMicrovmImageBuild" => {
            let request = client
                .get_microvm_image_build()
                .image_identifier(arn())
                .image_version(version())
                .build_id(text(input, "buildId"));
            let build = send!(sdk, request.send().await)?;
            json!({"buildState": build.build_state().as_str(), "stateReason": build.state_reason()})
        }
        _ => panic!("the client cannot {operation}"),
    })
}

fn resources(input: &Value) -> Option<Vec<Resources>> {
    let size =
        |item: &Value| Resources::builder().minimum_memory_in_mib(number(item, "minimumMemoryInMiB")).build();
    Some(list(input, "resources")?.iter().map(|item| size(item).expect("resources")).collect())
}

fn hooks(input: &Value) -> Option<Hooks> {
    let hooks = input["hooks"].as_object().map(|_| &input["hooks"])?;
    let image = &hooks["microvmImageHooks"];
    let ready = MicrovmImageHooks::builder()
        .ready(HookState::from(text(image, "ready").as_str()))
        .ready_timeout_in_seconds(number(image, "readyTimeoutInSeconds"))
        .build();
    Some(Hooks::builder().port(number(hooks, "port")).microvm_image_hooks(ready).build())
}

/// Every page of a list.
pub(crate) async fn pages(client: &Client, operation: &str, input: &Value, size: i32) -> Answer {
    let arn = || text(input, "imageIdentifier");
    Ok(match operation {
        "ListMicrovms" => {
            let request = client.list_microvms().image_identifier(arn());
            crate::pages!(sdk, request, size, items, "microvmId", microvm_id)
        }
        "ListMicrovmImages" => {
            crate::pages!(sdk, client.list_microvm_images(), size, items, "imageArn", image_arn)
        }
        "ListMicrovmImageVersions" => {
            let request = client.list_microvm_image_versions().image_identifier(arn());
            crate::pages!(sdk, request, size, items, "imageVersion", image_version)
        }
        "ListMicrovmImageBuilds" => {
            let request = client
                .list_microvm_image_builds()
                .image_identifier(arn())
                .image_version(text(input, "imageVersion"));
            crate::pages!(sdk, request, size, items, "buildId", build_id)
        }
        "ListManagedMicrovmImages" => {
            crate::pages!(sdk, client.list_managed_microvm_images(), size, items, "imageArn", image_arn)
        }
        "ListManagedMicrovmImageVersions" => {
            let request = client.list_managed_microvm_image_versions().image_identifier(arn());
            crate::pages!(sdk, request, size, items, "imageVersion", image_version)
        }
        _ => panic!("the client has no paginator for {operation}"),
    })
}
