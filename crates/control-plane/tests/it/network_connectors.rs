//! Network connectors: their operations, and who may name them.

use hearth_api::{AccountId, NetworkConnectorArn, Timestamp};
use hearth_records::{
    Connectors as _, InsertedNetworkConnector, NetworkConnectorRecord, NetworkConnectorVersionRecord,
};
use hearth_testkit::waiting::eventually;
use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{ACCOUNT, Api, REGION, Reply, signed, with};

mod changes;
mod policies;
mod restart;
mod users;

/// Milliseconds since 1970 that no test lives to see.
const NEVER: i64 = 4_000_000_000_000;
const ROLE: &str = "arn:aws:iam::000000000000:role/operator";

/// A configuration with these members changed.
fn vpc(extra: Value) -> Value {
    let vpc = json!({
        "SubnetIds": ["subnet-1", "subnet-2"],
        "SecurityGroupIds": ["sg-1"],
        "NetworkProtocol": "IPv4",
        "AssociatedComputeResourceTypes": ["MicroVm"],
    });
    json!({ "VpcEgressConfiguration": with(vpc, extra) })
}

fn request(name: &str) -> Value {
    json!({ "Name": name, "Configuration": vpc(json!({})), "OperatorRole": ROLE, "ClientToken": name })
}

pub(crate) fn connector_arn(id: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:network-connector:{id}")
}

async fn call(api: &Api, method: &str, target: &str, body: Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let target = format!("/2026-04-04/network-connectors{target}");
    api.send(signed("secret", "lambda", method, &target, body.as_bytes())).await
}

async fn get(api: &Api, target: &str) -> Reply {
    call(api, "GET", target, Value::Null).await
}

/// Gets the connector until `done`.
async fn wait(api: &Api, id: &str, done: impl Fn(&Reply) -> bool) -> Value {
    let look = async || {
        let reply = get(api, &format!("/{id}")).await;
        if done(&reply) { Ok(reply.body) } else { Err(reply) }
    };
    eventually(id, look).await
}

/// Records a connector whose times are these, in milliseconds, and returns its id.
pub(crate) async fn recorded(api: &Api, name: &str, active_at: i64, gone_at: Option<i64>) -> String {
    let record = record(name, active_at, gone_at);
    let now = Timestamp::from_millis(1000);
    let quotas = hearth_records::Quotas::default();
    let inserted = api.store.insert_network_connector(&record, None, None, now, &quotas).await.unwrap();
    assert_eq!(inserted, InsertedNetworkConnector::Inserted);
    record.arn.id
}

fn record(name: &str, active_at: i64, gone_at: Option<i64>) -> NetworkConnectorRecord {
    let arn = NetworkConnectorArn::new(REGION, &AccountId::from_stored(ACCOUNT));
    let at = Timestamp::from_millis;
    NetworkConnectorRecord {
        arn: arn.clone(),
        generation: 0,
        name: name.to_owned(),
        tags: [("team".to_owned(), "a".to_owned())].into(),
        modified_at: at(1000),
        active_at: at(active_at),
        updated: None,
        gone_at: gone_at.map(at),
        egress_rules: None,
        latest_active: None,
        latest: NetworkConnectorVersionRecord {
            arn,
            version: 1,
            configuration: serde_json::from_value(vpc(json!({}))).unwrap(),
            operator_role: ROLE.to_owned(),
            created_at: at(1000),
            active_at: at(active_at),
            gone_at: gone_at.map(at),
        },
    }
}

/// Makes a connector and returns its id.
async fn create(api: &Api, request: Value) -> String {
    let reply = call(api, "POST", "", request).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{:?}", reply.body);
    reply.body["Id"].as_str().unwrap().to_owned()
}

/// Status, class and text of a refusal.
fn refusal(reply: &Reply) -> (u16, &str, &str) {
    (reply.status.as_u16(), reply.error_type(), reply.message())
}

#[tokio::test]
async fn a_new_connector_is_pending_and_soon_active() {
    let api = Api::start().await;
    let reply = call(&api, "POST", "", request("vpc")).await;
    let id = reply.body["Id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("nc-") && id.len() == 39, "{id}");
    let arn = connector_arn(&id);
    let expected = json!({
        "Arn": arn,
        "Name": "vpc",
        "Id": id,
        "VersionArn": format!("{arn}:1"),
        "Version": 1,
        "Configuration": vpc(json!({})),
        "OperatorRole": ROLE,
        "State": "PENDING",
    });
    assert_eq!((reply.status, &reply.body), (StatusCode::ACCEPTED, &expected));

    let pending = recorded(&api, "pending", NEVER, None).await;
    let pending = get(&api, &format!("/{pending}")).await.body;
    assert_eq!((&pending["State"], pending.get("LatestVersion")), (&json!("PENDING"), None));
    let shown = wait(&api, &id, |reply| reply.body["State"] == "ACTIVE").await;
    let mut expected = with(
        expected,
        json!({
            "State": "ACTIVE",
            "StateReason": "Initial creation",
            "LatestVersion": 1,
            "LatestVersionArn": format!("{arn}:1"),
            "LastModified": shown["LastModified"],
        }),
    );
    expected.as_object_mut().unwrap().remove("VersionArn");
    assert_eq!(shown, expected);
    let modified: jiff::Timestamp = shown["LastModified"].as_str().unwrap().parse().unwrap();
    assert!(jiff::Timestamp::now().duration_since(modified).as_secs() < 60);
    for spelling in ["vpc", &arn, &arn.replace(':', "%3A")] {
        assert_eq!(get(&api, &format!("/{spelling}")).await.body, expected, "{spelling}");
    }
    let qualified = get(&api, &format!("/{arn}:1")).await.body;
    assert_eq!((&qualified["VersionArn"], &qualified["Version"]), (&json!(format!("{arn}:1")), &json!(1)));
    assert_eq!(qualified.get("LatestVersion"), None);
}

#[tokio::test]
async fn creating_checks_the_shape_and_then_what_the_service_requires() {
    let api = Api::start().await;
    let many = |prefix: &str| (0..17).map(|n| format!("{prefix}-{n}")).collect::<Vec<_>>();
    let at = |member: &str| format!("'configuration.vpcEgressConfiguration.{member}' failed to satisfy");
    for (extra, place, rule) in [
        (json!({ "Name": null }), "Value null at 'name'".to_owned(), "must not be null"),
        (json!({ "Name": "a b" }), "Value 'a b' at 'name'".to_owned(), "[a-zA-Z0-9_-]{1,64}"),
        (json!({ "Name": "n".repeat(65) }), "at 'name'".to_owned(), "regular expression pattern"),
        (json!({ "Configuration": null }), "Value null at 'configuration'".to_owned(), "must not be null"),
        (json!({ "Configuration": {} }), "'configuration'".to_owned(), "[VpcEgressConfiguration]"),
        (json!({ "OperatorRole": "x" }), "Value 'x' at 'operatorRole'".to_owned(), "pattern: arn:(aws"),
        (json!({ "ClientToken": "t".repeat(65) }), "at 'clientToken'".to_owned(), "less than or equal to 64"),
        (json!({ "Tags": { "%": "" } }), "at 'tags.key'".to_owned(), "pattern"),
        (
            json!({ "Configuration": vpc(json!({ "SubnetIds": many("subnet") })), "ClientToken": null }),
            format!("Value '[subnet-0, subnet-1, subnet-2, {}] at", many("subnet")[3..].join(", "))
                .replace("] at", "]' at 'configuration.vpcEgressConfiguration.subnetIds'"),
            "Member must have length less than or equal to 16",
        ),
        (json!({ "Configuration": vpc(json!({ "SubnetIds": [] })) }), at("subnetIds"), "equal to 1"),
        (json!({ "Configuration": vpc(json!({ "SubnetIds": ["x"] })) }), at("subnetIds.1.member"), "subnet-"),
        (
            json!({ "Configuration": vpc(json!({ "SecurityGroupIds": many("sg") })) }),
            at("securityGroupIds"),
            "less than or equal to 16",
        ),
        (
            json!({ "Configuration": vpc(json!({ "NetworkProtocol": "IPv6" })) }),
            at("networkProtocol"),
            "enum value set: [IPv4, DualStack]",
        ),
        (
            json!({ "Configuration": vpc(json!({ "AssociatedComputeResourceTypes": ["Function"] })) }),
            at("associatedComputeResourceTypes.1.member"),
            "enum value set: [MicroVm, WebFunction]",
        ),
        (
            json!({ "Configuration": vpc(json!({ "ElasticIpConfiguration": {} })) }),
            at("elasticIpConfiguration.type"),
            "must not be null",
        ),
    ] {
        let reply = call(&api, "POST", "", with(request("vpc"), extra)).await;
        assert_eq!((reply.status.as_u16(), reply.error_type()), (400, "ValidationException"));
        let message = reply.message();
        assert!(message.starts_with("1 validation error detected: "), "{message}");
        assert!(message.contains(&place) && message.contains(rule), "{place} {rule}: {message}");
    }
    for (extra, expected) in [
        (json!({ "ClientToken": null }), "ClientToken is a required field"),
        (
            json!({ "OperatorRole": null }),
            "NetworkConnectorOperatorRole is required for VPC_EGRESS connector type",
        ),
        (
            json!({ "Configuration": vpc(json!({ "NetworkProtocol": null })) }),
            "NetworkProtocol cannot be null or empty",
        ),
        (
            json!({ "Configuration": vpc(json!({ "AssociatedComputeResourceTypes": null })) }),
            "AssociatedComputeResourceTypes cannot be null or empty",
        ),
        (json!({ "Configuration": vpc(json!({ "SubnetIds": null })) }), "SubnetIds cannot be null or empty"),
    ] {
        let reply = call(&api, "POST", "", with(request("vpc"), extra)).await;
        assert_eq!(refusal(&reply), (400, "InvalidParameterValueException", expected));
        assert_eq!(reply.body, json!({ "message": expected }));
    }
    assert_eq!(get(&api, "").await.body, json!({ "NetworkConnectors": [] }));
    let none = with(request("none"), json!({ "Configuration": vpc(json!({ "SecurityGroupIds": null })) }));
    let shown = call(&api, "POST", "", none).await.body;
    assert_eq!(shown["Configuration"], vpc(json!({ "SecurityGroupIds": [] })));
}

#[tokio::test]
async fn a_client_token_repeats_the_answer_and_a_name_is_taken_once() {
    let api = Api::start().await;
    let first = call(&api, "POST", "", request("vpc")).await;
    let again = call(&api, "POST", "", request("vpc")).await;
    assert_eq!((first.status, &first.body), (again.status, &again.body));
    let other = with(request("vpc"), json!({ "Name": "other" }));
    let expected = "The provided clientToken was used with different request parameters.";
    let reply = call(&api, "POST", "", other).await;
    assert_eq!(refusal(&reply), (400, "InvalidParameterValueException", expected));
    let reply = call(&api, "POST", "", with(request("vpc"), json!({ "ClientToken": "new" }))).await;
    let expected = "A network connector with the name 'vpc' already exists";
    assert_eq!(refusal(&reply), (409, "ResourceConflictException", expected));
    assert_eq!(get(&api, "").await.body["NetworkConnectors"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_not_there_is_not_found_under_the_arn_that_it_would_have() {
    let api = Api::start().await;
    let missing = connector_arn("nc-none");
    let foreign = missing.replace(ACCOUNT, "111111111111");
    for (method, suffix) in [("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/versions")] {
        for (identifier, arn) in [("nc-none", &missing), (&missing, &missing), (&foreign, &foreign)] {
            let reply = call(&api, method, &format!("/{identifier}{suffix}"), Value::Null).await;
            assert_eq!((reply.status.as_u16(), reply.error_type()), (404, "ResourceNotFoundException"));
            let message = format!("Network connector not found for: {arn}");
            assert_eq!(reply.body, json!({ "Message": message }));
        }
        let reply = call(&api, method, &format!("/arn:x{suffix}"), Value::Null).await;
        let expected = (400, "InvalidParameterValueException", "Malformed network connector ARN");
        assert_eq!(refusal(&reply), expected);
        let reply = call(&api, method, &format!("/{}{suffix}", "n".repeat(141)), Value::Null).await;
        assert_eq!((reply.status.as_u16(), reply.error_type()), (400, "ValidationException"));
        assert!(reply.message().contains("at 'identifier' failed to satisfy constraint"));
    }
    let id = recorded(&api, "vpc", 2000, None).await;
    let second = format!("{}:2", connector_arn(&id));
    for method in ["GET", "DELETE"] {
        let reply = call(&api, method, &format!("/{second}"), Value::Null).await;
        assert_eq!(reply.body["Message"], format!("Network connector not found for: {second}"));
    }
    let reply = call(&api, "PATCH", &format!("/{id}"), Value::Null).await;
    assert_eq!(reply.error_type(), "UnknownOperationException");
    let unknown = api.send(signed("secret", "lambda", "GET", "/2026-04-04/other", b"")).await;
    assert_eq!((unknown.status.as_u16(), unknown.error_type()), (404, "UnknownOperationException"));
    let forged = signed("wrong", "lambda", "GET", "/2026-04-04/network-connectors", b"");
    assert_eq!(api.send(forged).await.error_type(), "InvalidSignatureException");
}

#[tokio::test]
async fn connectors_are_listed_in_pages_by_name_and_filtered_by_state() {
    let api = Api::start().await;
    for name in ["c", "a", "b"] {
        recorded(&api, name, 2000, None).await;
    }
    let id = recorded(&api, "d", 2000, None).await;
    let names = |body: &Value| -> Vec<String> {
        let items = body["NetworkConnectors"].as_array().unwrap();
        items.iter().map(|item| item["Name"].as_str().unwrap().to_owned()).collect()
    };
    let first = get(&api, "?MaxItems=3").await.body;
    let marker = first["NextMarker"].as_str().unwrap();
    let second = get(&api, &format!("?MaxItems=3&Marker={marker}")).await.body;
    assert_eq!((names(&first), names(&second)), (vec!["a".into(), "b".into(), "c".into()], vec!["d".into()]));
    let arn = connector_arn(&id);
    let item = json!({
        "Arn": arn,
        "Name": "d",
        "Id": id,
        "Type": "VPC_EGRESS",
        "State": "ACTIVE",
        "LastModified": "1970-01-01T00:00:01.000Z",
        "LatestVersionArn": format!("{arn}:1"),
        "LatestVersion": 1,
    });
    assert_eq!(second, json!({ "NetworkConnectors": [item] }));
    recorded(&api, "e", NEVER, None).await;
    recorded(&api, "f", 2000, Some(NEVER)).await;
    recorded(&api, "g", 2000, Some(3000)).await;
    assert_eq!(names(&get(&api, "").await.body), ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(names(&get(&api, "?State=DELETING").await.body), ["f"]);
    assert_eq!(names(&get(&api, "?State=PENDING").await.body), ["e"]);
    assert_eq!(names(&get(&api, "?State=ACTIVE&MaxItems=100").await.body), ["a", "b", "c", "d"]);
    assert_eq!(names(&get(&api, "?State=FAILED").await.body), [""; 0]);
    for (query, class) in [
        ("MaxItems=0", "ValidationException"),
        ("MaxItems=101", "ValidationException"),
        ("MaxItems=x", "ValidationException"),
        ("State=GONE", "ValidationException"),
        ("Marker=%21", "InvalidParameterValueException"),
    ] {
        let reply = get(&api, &format!("?{query}")).await;
        assert_eq!((reply.status.as_u16(), reply.error_type()), (400, class), "{query}");
    }
}
