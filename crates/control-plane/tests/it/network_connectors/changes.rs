//! Updates, versions and deletion.

use hearth_api::Timestamp;
use hearth_records::{ConnectorUpdate, Connectors as _, UpdatedNetworkConnector, Written};
use http::StatusCode;
use serde_json::{Value, json};

use super::{NEVER, ROLE, call, connector_arn, create, get, record, recorded, refusal, request, vpc, wait};
use crate::support::{Api, limit, with};

#[tokio::test]
async fn an_update_without_changes_says_so() {
    let api = Api::start().await;
    let id = recorded(&api, "vpc", 2000, None).await;
    let path = format!("/{id}");
    let update = json!({ "Configuration": vpc(json!({})), "OperatorRole": ROLE, "ClientToken": "u" });
    let reply = call(&api, "PUT", &path, update).await;
    let arn = connector_arn(&id);
    let expected = json!({
        "Arn": arn,
        "Name": "vpc",
        "Id": id,
        "VersionArn": format!("{arn}:1"),
        "Version": 1,
        "Configuration": vpc(json!({})),
        "OperatorRole": ROLE,
        "State": "ACTIVE",
        "LastUpdateStatus": "Successful",
        "LastUpdateStatusReason": "No configuration changes detected",
        "LastModified": "1970-01-01T00:00:01.000Z",
    });
    assert_eq!((reply.status, &reply.body), (StatusCode::ACCEPTED, &expected));
    assert_eq!(call(&api, "PUT", "/vpc", json!({})).await.body, expected);
    let shown = get(&api, &path).await.body;
    assert_eq!(shown["LastUpdateStatusReason"], "No configuration changes detected");
    assert_eq!((&shown["Version"], &shown["StateReason"]), (&json!(1), &json!("Initial creation")));

    let reply = call(&api, "PUT", &format!("/{arn}:1"), json!({})).await;
    assert_eq!(reply.error_type(), "InvalidParameterValueException");
    let incomplete = json!({ "Configuration": vpc(json!({ "NetworkProtocol": null })) });
    let reply = call(&api, "PUT", &path, incomplete).await;
    let expected = (400, "InvalidParameterValueException", "NetworkProtocol cannot be null or empty");
    assert_eq!(refusal(&reply), expected);
    let reply = call(&api, "PUT", &path, json!({ "Configuration": { "Other": {} } })).await;
    assert_eq!(reply.error_type(), "ValidationException");
}

#[tokio::test]
async fn every_change_makes_an_immutable_version() {
    let api = Api::start().await;
    let id = recorded(&api, "vpc", 2000, None).await;
    let (path, arn) = (format!("/{id}"), connector_arn(&id));
    let changed = vpc(json!({ "SubnetIds": ["subnet-9"], "ElasticIpConfiguration": { "Type": "None" } }));
    let update = json!({ "Configuration": changed, "ClientToken": "u" });
    let reply = call(&api, "PUT", &path, update.clone()).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED);
    assert_eq!((&reply.body["Version"], &reply.body["State"]), (&json!(2), &json!("ACTIVE")));
    assert_eq!(
        (&reply.body["LastUpdateStatus"], &reply.body["Configuration"]),
        (&json!("InProgress"), &changed)
    );
    assert_eq!(reply.body.get("LastUpdateStatusReason"), None);
    assert_eq!(call(&api, "PUT", &path, update).await.body, reply.body, "the same token, the same answer");
    let mismatch = call(&api, "PUT", &path, json!({ "ClientToken": "u" })).await;
    assert_eq!(mismatch.error_type(), "InvalidParameterValueException");
    let shown = wait(&api, &id, |reply| reply.body["LastUpdateStatus"] == "Successful").await;
    assert_eq!(
        (&shown["LatestVersion"], &shown["LatestVersionArn"]),
        (&json!(2), &json!(format!("{arn}:2")))
    );
    let first = get(&api, &format!("/{arn}:1")).await.body;
    assert_eq!(first["Configuration"], vpc(json!({})));
    call(&api, "PUT", &path, json!({ "OperatorRole": format!("{ROLE}-2") })).await;
    let shown = wait(&api, &id, |reply| reply.body["LastUpdateStatus"] == "Successful").await;
    assert_eq!((&shown["Version"], &shown["Configuration"]), (&json!(3), &changed));

    let page = get(&api, &format!("{path}/versions?MaxItems=2")).await.body;
    let numbers = |body: &Value| -> Vec<u64> {
        let items = body["NetworkConnectorVersions"].as_array().unwrap();
        items.iter().map(|item| item["Version"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&page), [3, 2]);
    let marker = page["NextMarker"].as_str().unwrap();
    let rest = get(&api, &format!("{path}/versions?MaxItems=2&Marker={marker}")).await.body;
    let item = json!({
        "Arn": arn,
        "VersionArn": format!("{arn}:1"),
        "Name": "vpc",
        "Id": id,
        "Version": 1,
        "State": "ACTIVE",
        "StateReason": "Initial creation",
        "LastModified": first["LastModified"],
    });
    assert_eq!(rest, json!({ "NetworkConnectorVersions": [item] }));
    assert_eq!(numbers(&get(&api, &format!("{path}/versions?State=PENDING")).await.body), [0; 0]);
    for bad in [format!("/{arn}:1/versions"), format!("{path}/versions?Marker=eA")] {
        let reply = get(&api, &bad).await;
        assert_eq!(reply.error_type(), "InvalidParameterValueException", "{bad}");
    }

    let reply = call(&api, "DELETE", &format!("/{arn}:2"), Value::Null).await;
    assert_eq!((&reply.body["State"], &reply.body["Version"]), (&json!("DELETING"), &json!(2)));
    wait(&api, &format!("{arn}:2"), |reply| reply.status == StatusCode::NOT_FOUND).await;
    assert_eq!(numbers(&get(&api, &format!("{path}/versions")).await.body), [3, 1]);
    let again = call(&api, "DELETE", &format!("/{arn}:2"), Value::Null).await;
    assert_eq!((again.status, again.body), (reply.status, reply.body));
}

#[tokio::test]
async fn what_is_not_active_or_being_updated_is_left_alone() {
    let api = Api::start().await;
    let pending = recorded(&api, "pending", NEVER, None).await;
    let deleting = recorded(&api, "deleting", 2000, Some(NEVER)).await;
    let quotas = hearth_records::Quotas::default();
    let mut updating = record("updating", 2000, None);
    api.store
        .insert_network_connector(&updating, None, None, Timestamp::from_millis(1000), &quotas)
        .await
        .unwrap();
    let was = updating.clone();
    updating.updated = Some(ConnectorUpdate::NewVersion);
    updating.latest.version = 2;
    updating.latest.active_at = Timestamp::from_millis(NEVER);
    let now = Timestamp::from_millis(2000);
    let updated = api.store.update_network_connector(&was, &updating, None, None, now, &quotas);
    assert_eq!(updated.await.unwrap(), UpdatedNetworkConnector::Written(Written::Yes));
    let arn = connector_arn(&updating.arn.id);
    for (method, id, expected) in [
        (
            "PUT",
            &pending,
            format!("The network connector {} is in state PENDING, not ACTIVE.", connector_arn(&pending)),
        ),
        (
            "DELETE",
            &pending,
            format!(
                "The network connector {} is in state PENDING; try again later.",
                connector_arn(&pending)
            ),
        ),
        (
            "PUT",
            &deleting,
            format!("The network connector {} is in state DELETING, not ACTIVE.", connector_arn(&deleting)),
        ),
        ("PUT", &updating.arn.id, format!("An update of the network connector {arn} is in progress.")),
    ] {
        let body = if method == "PUT" { json!({}) } else { Value::Null };
        let reply = call(&api, method, &format!("/{id}"), body).await;
        assert_eq!(refusal(&reply), (409, "ResourceConflictException", expected.as_str()), "{method}");
        assert_eq!(reply.body, json!({ "message": expected }));
    }
    let shown = get(&api, "/deleting").await.body;
    assert_eq!((&shown["State"], shown.get("StateReason")), (&json!("DELETING"), None));
    let shown = get(&api, "/updating").await.body;
    assert_eq!((&shown["State"], &shown["LastUpdateStatus"]), (&json!("ACTIVE"), &json!("InProgress")));
    assert_eq!((&shown["Version"], &shown["LatestVersion"]), (&json!(2), &json!(1)));
    for version in [1, 2] {
        let reply = call(&api, "DELETE", &format!("/{arn}:{version}"), Value::Null).await;
        let expected = format!(
            "{arn}:{version} is the latest version of the network connector and can only be deleted with it."
        );
        assert_eq!(refusal(&reply), (400, "InvalidParameterValueException", expected.as_str()));
    }
    let new = with(request("new"), json!({ "Name": "deleting" }));
    assert_eq!(call(&api, "POST", "", new).await.status, StatusCode::CONFLICT, "the name is held");
}

#[tokio::test]
async fn deleting_answers_deleting_and_then_the_connector_is_gone() {
    let api = Api::start().await;
    let id = recorded(&api, "vpc", 2000, None).await;
    let (path, arn) = (format!("/{id}"), connector_arn(&id));
    let reply = call(&api, "DELETE", "/vpc", Value::Null).await;
    let expected = json!({
        "Arn": arn,
        "Name": "vpc",
        "Id": id,
        "VersionArn": format!("{arn}:1"),
        "Version": 1,
        "Configuration": vpc(json!({})),
        "OperatorRole": ROLE,
        "State": "DELETING",
    });
    assert_eq!((reply.status, &reply.body), (StatusCode::ACCEPTED, &expected));
    wait(&api, &id, |reply| reply.status == StatusCode::NOT_FOUND).await;
    assert_eq!(get(&api, "").await.body, json!({ "NetworkConnectors": [] }));
    let again = call(&api, "DELETE", &path, Value::Null).await;
    assert_eq!((again.status, &again.body), (StatusCode::ACCEPTED, &expected), "repeating it succeeds");
    assert_eq!(call(&api, "DELETE", "/vpc", Value::Null).await.status, StatusCode::NOT_FOUND);
    let id = create(&api, request("vpc")).await;
    assert_eq!(get(&api, "/vpc").await.body["Id"], id);
}

/// The kind: nobody can use the last of anything.
#[tokio::test]
async fn an_account_has_so_many_connectors_and_a_connector_so_many_versions() {
    let api = Api::start_with(|config| {
        limit(config, |quotas| quotas.network_connectors = 1);
        limit(config, |quotas| quotas.versions_per_network_connector = 1);
    })
    .await;
    let id = recorded(&api, "vpc", 2000, None).await;
    let update = json!({ "OperatorRole": format!("{ROLE}-2") });
    for (method, path, body, expected) in [
        (
            "POST",
            String::new(),
            request("other"),
            "The maximum number of network connectors (1) has been reached for this account; delete one first.",
        ),
        (
            "PUT",
            format!("/{id}"),
            update,
            "The maximum number of versions (1) has been reached for this network connector; delete one first.",
        ),
    ] {
        let reply = call(&api, method, &path, body).await;
        assert_eq!(refusal(&reply), (400, "NetworkConnectorLimitExceededException", expected));
        assert_eq!(reply.body, json!({ "message": expected }));
    }
    let taken = call(&api, "POST", "", request("vpc")).await;
    assert_eq!(taken.error_type(), "ResourceConflictException", "that the name is taken is said first");
    assert_eq!(call(&api, "PUT", &format!("/{id}"), json!({})).await.status, StatusCode::ACCEPTED);
    assert_eq!(call(&api, "DELETE", &format!("/{id}"), Value::Null).await.status, StatusCode::ACCEPTED);
    wait(&api, &id, |reply| reply.status == StatusCode::NOT_FOUND).await;
    create(&api, request("other")).await;
}
