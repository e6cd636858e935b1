//! Who may name connectors, and what that means for them.

use hearth_api::{ComputeResourceType, EndpointLabel, ImageArn, MicrovmId, MicrovmState, Timestamp};
use hearth_records::{Cause, Connectors as _, Images as _, Microvms as _, Origin, Written};
use http::StatusCode;
use serde_json::{Value, json};

use super::{NEVER, call, connector_arn, record, recorded, refusal};
use crate::support::{ACCOUNT, Api, configuration, image_arn, with};

async fn forget_image(api: &Api, name: &str) {
    let image = api.store.image(&ImageArn::parse(&image_arn(name)).unwrap()).await.unwrap().unwrap();
    let deleted = api.store.delete_image(&image, &Origin::of(Cause::Host)).await.unwrap();
    assert_eq!(deleted, Written::Yes);
}

#[tokio::test]
async fn microvms_and_images_take_active_connectors_of_the_account_and_hold_them() {
    let api = Api::start().await;
    api.built_image("app", |_| ()).await;
    let id = recorded(&api, "vpc", 2000, None).await;
    let arn = connector_arn(&id);
    let run = |connector: &str| json!({ "imageIdentifier": image_arn("app"), "egressNetworkConnectors": [connector] });
    let image = |connector: &str| {
        with(configuration(), json!({ "name": "other", "egressNetworkConnectors": [connector] }))
    };
    let mut web = record("web", 2000, None);
    web.latest.configuration.vpc_egress_configuration.associated_compute_resource_types =
        Some(vec![ComputeResourceType::WebFunction]);
    let (now, quotas) = (Timestamp::from_millis(1000), hearth_records::Quotas::default());
    api.store.insert_network_connector(&web, None, None, now, &quotas).await.unwrap();
    let web = web.arn.to_string();
    let pending = connector_arn(&recorded(&api, "pending", NEVER, None).await);
    let deleting = connector_arn(&recorded(&api, "deleting", 2000, Some(NEVER)).await);
    let gone = connector_arn(&recorded(&api, "gone", 2000, Some(3000)).await);
    for (connector, status, message) in [
        (connector_arn("nc-0"), 404, format!("Network connector not found for: {}", connector_arn("nc-0"))),
        (format!("{arn}:2"), 404, format!("Network connector not found for: {arn}:2")),
        (
            arn.replace(ACCOUNT, "111111111111"),
            403,
            format!(
                "User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: lambda:PassNetworkConnector"
            ),
        ),
        (connector_arn("vpc"), 404, format!("Network connector not found for: {}", connector_arn("vpc"))),
        (
            pending.clone(),
            400,
            format!("The network connector {pending} is in state PENDING; it must be ACTIVE."),
        ),
        (
            deleting.clone(),
            400,
            format!("The network connector {deleting} is in state DELETING; it must be ACTIVE."),
        ),
        (gone.clone(), 404, format!("Network connector not found for: {gone}")),
        (
            web.clone(),
            400,
            format!("The network connector {web} is not for compute resources of type MicroVm."),
        ),
        (format!("{arn}/x"), 400, "Malformed network connector ARN".to_owned()),
        ("vpc".to_owned(), 400, "Malformed network connector ARN".to_owned()),
    ] {
        for (operation, request) in [("microvms", run(&connector)), ("microvm-images", image(&connector))] {
            let reply = api.call("POST", operation, request).await;
            assert_eq!(reply.status.as_u16(), status, "{operation} {connector}: {}", reply.message());
            assert!(reply.message().starts_with(&message), "{operation}: {}", reply.message());
        }
    }
    let ingress = json!({ "imageIdentifier": image_arn("app"), "ingressNetworkConnectors": [arn] });
    assert_eq!(api.call("POST", "microvms", ingress).await.status, StatusCode::NOT_FOUND);

    // The microVM ends because this host has no networks; until then, and while the image is
    // there, it is in use.
    let reply = api.call("POST", "microvms", run(&format!("{arn}:1"))).await;
    assert_eq!(reply.body["egressNetworkConnectors"], json!([format!("{arn}:1")]));
    let microvm = format!("microvms/{}", reply.body["microvmId"].as_str().unwrap());
    api.wait(&microvm, |body| body["state"] == "TERMINATED").await;
    let reply = api.call("POST", "microvm-images", image(&arn)).await;
    assert_eq!(reply.body["egressNetworkConnectors"], json!([arn]));
    let refused = call(&api, "DELETE", &format!("/{id}"), Value::Null).await;
    let expected =
        format!("The network connector {arn} is in use by MicroVMs or MicroVM images and cannot be deleted.");
    assert_eq!(refusal(&refused), (409, "ResourceConflictException", expected.as_str()));
    let other = format!("microvm-images/{}", image_arn("other"));
    api.wait(&other, |body| body["state"] == "CREATE_FAILED").await;
    forget_image(&api, "other").await;

    let suspended = api.recorded_microvm(MicrovmState::Suspended).await;
    let mut record = api.store.microvm(&suspended).await.unwrap().unwrap();
    record.id = MicrovmId::new();
    record.endpoint_label = EndpointLabel::new();
    record.settings.egress_network_connectors = vec![format!("{arn}:1")];
    api.store.insert_microvm(&record, None, None, None, &quotas).await.unwrap();
    assert_eq!(call(&api, "DELETE", "/vpc", Value::Null).await.status, StatusCode::CONFLICT);
    let was = record.clone();
    record.state = MicrovmState::Terminated;
    let written = api.store.change_microvm(&was, &record, &Origin::of(Cause::Host)).await.unwrap();
    assert_eq!(written, Written::Yes);
    assert_eq!(call(&api, "DELETE", "/vpc", Value::Null).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_microvm_inherits_the_connector_of_its_image() {
    let api = Api::start().await;
    let arn = connector_arn(&recorded(&api, "vpc", 2000, None).await);
    api.built_image("app", |version| {
        version.configuration.egress_network_connectors = Some(vec![arn.clone()]);
    })
    .await;
    let reply = api.call("POST", "microvms", json!({ "imageIdentifier": image_arn("app") })).await;
    assert_eq!(reply.body["egressNetworkConnectors"], json!([arn]));
    assert_eq!(call(&api, "DELETE", "/vpc", Value::Null).await.status, StatusCode::CONFLICT);
}
