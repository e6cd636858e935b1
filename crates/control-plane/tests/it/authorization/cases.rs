//! Calls of all operations, with what each has to ask.

use super::*;

/// What RunMicrovm hands on when nothing is named.
const HTTP_INGRESS: &str =
    "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:HTTP_INGRESS";
const INTERNET_EGRESS: &str =
    "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:INTERNET_EGRESS";

/// A call of an operation, and the questions that it has to ask.
pub(super) struct Case {
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) body: Value,
    /// Action and resource; the first is the operation itself.
    pub(super) asks: Vec<(&'static str, String)>,
}

pub(super) fn case(
    method: &'static str,
    target: &str,
    body: Value,
    operation: &'static str,
    resource: &str,
) -> Case {
    Case { method, target: target.to_owned(), body, asks: vec![(operation, resource.to_owned())] }
}

impl Case {
    fn and(mut self, action: &'static str, resource: &str) -> Self {
        self.asks.push((action, resource.to_owned()));
        self
    }
}

pub(super) fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

pub(super) fn connector(id: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:network-connector:{id}")
}

/// The operations of both models, and ours. `id` is a microVM of the image `app`; nothing else
/// that is named exists.
pub(super) fn cases(id: &str) -> Vec<Case> {
    let mut all = image_cases();
    all.extend(microvm_cases(id));
    all.extend(tag_and_connector_cases());
    all
}

fn image_cases() -> Vec<Case> {
    let (app, other) = (image_arn("app"), image_arn("other"));
    let images = "/2025-09-09/microvm-images";
    let managed = "/2025-09-09/managed-microvm-images";
    let base = format!("arn:aws:lambda:{REGION}:aws:microvm-image:al2023-1");
    let version = format!("{images}/{other}/versions/1.0");
    let create = with(configuration(), json!({ "name": "other", "tags": { "a": "b" } }));
    vec![
        case("POST", images, create, "lambda:CreateMicrovmImage", &other)
            .and("lambda:TagResource", &other)
            .and("iam:PassRole", &role("build")),
        case("GET", images, Value::Null, "lambda:ListMicrovmImages", EVERYTHING),
        case("GET", &format!("{images}/{other}"), Value::Null, "lambda:GetMicrovmImage", &other),
        case("PUT", &format!("{images}/{app}"), configuration(), "lambda:UpdateMicrovmImage", &app)
            .and("iam:PassRole", &role("build")),
        case("DELETE", &format!("{images}/{other}"), Value::Null, "lambda:DeleteMicrovmImage", &other),
        case(
            "GET",
            &format!("{images}/{other}/versions"),
            Value::Null,
            "lambda:ListMicrovmImageVersions",
            &other,
        ),
        case("GET", &version, Value::Null, "lambda:GetMicrovmImageVersion", &other),
        case(
            "GET",
            &format!("/hearth/2026-11-22/microvm-images/{other}/versions/1.0/report"),
            Value::Null,
            "lambda:GetMicrovmImageVersion",
            &other,
        ),
        case("PATCH", &version, json!({ "status": "INACTIVE" }), "lambda:UpdateMicrovmImageVersion", &other),
        case("DELETE", &version, Value::Null, "lambda:DeleteMicrovmImageVersion", &other),
        case("GET", &format!("{version}/builds"), Value::Null, "lambda:ListMicrovmImageBuilds", &other),
        case("GET", &format!("{version}/builds/x"), Value::Null, "lambda:GetMicrovmImageBuild", &other),
        case("GET", managed, Value::Null, "lambda:ListManagedMicrovmImages", EVERYTHING),
        case(
            "GET",
            &format!("{managed}/{base}/versions"),
            Value::Null,
            "lambda:ListManagedMicrovmImageVersions",
            &base,
        ),
    ]
}

fn microvm_cases(id: &str) -> Vec<Case> {
    let app = image_arn("app");
    let run = json!({ "imageIdentifier": app, "executionRoleArn": role("execution") });
    let token = json!({ "expirationInMinutes": 1, "allowedPorts": [{ "allPorts": {} }] });
    let shell = json!({ "expirationInMinutes": 1 });
    let named = |action: &'static str, method, path: &str, body| {
        case(method, &format!("/2025-09-09/microvms/{id}{path}"), body, action, &app)
    };
    let extension = |action: &'static str, method, path: &str| {
        case(method, &format!("/hearth/2026-11-22/microvms/{id}{path}"), Value::Null, action, &app)
    };
    vec![
        case("POST", "/2025-09-09/microvms", run, "lambda:RunMicrovm", &app)
            .and("iam:PassRole", &role("execution"))
            .and("lambda:PassNetworkConnector", HTTP_INGRESS)
            .and("lambda:PassNetworkConnector", INTERNET_EGRESS),
        case("GET", "/2025-09-09/microvms", Value::Null, "lambda:ListMicrovms", EVERYTHING),
        named("lambda:GetMicrovm", "GET", "", Value::Null),
        named("lambda:SuspendMicrovm", "POST", "/suspend", Value::Null),
        named("lambda:ResumeMicrovm", "POST", "/resume", Value::Null),
        named("lambda:CreateMicrovmAuthToken", "POST", "/auth-token", token),
        named("lambda:CreateMicrovmShellAuthToken", "POST", "/shell-auth-token", shell),
        named("lambda:TerminateMicrovm", "DELETE", "", Value::Null),
        extension("lambda:CreateMicrovmAuthToken", "DELETE", "/auth-tokens"),
        extension("lambda:GetMicrovm", "GET", "/endpoint-counters"),
        extension("lambda:GetMicrovm", "GET", "/egress"),
    ]
}

fn tag_and_connector_cases() -> Vec<Case> {
    let app = image_arn("app");
    let tags = format!("/2017-03-31/tags/{app}");
    let connectors = "/2026-04-04/network-connectors";
    let new_connector = json!({
        "Name": "vpc", "OperatorRole": role("operator"), "ClientToken": "t",
        "Configuration": { "VpcEgressConfiguration": {
            "SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"], "NetworkProtocol": "IPv4",
            "AssociatedComputeResourceTypes": ["MicroVm"],
        } },
    });
    vec![
        case("GET", &tags, Value::Null, "lambda:ListTags", &app),
        case("POST", &tags, json!({ "Tags": { "a": "b" } }), "lambda:TagResource", &app),
        case("DELETE", &format!("{tags}?tagKeys=a"), Value::Null, "lambda:UntagResource", &app),
        case("POST", connectors, new_connector, "lambda:CreateNetworkConnector", &connector("*"))
            .and("iam:PassRole", &role("operator")),
        case("GET", connectors, Value::Null, "lambda:ListNetworkConnectors", EVERYTHING),
        case(
            "GET",
            &format!("{connectors}/nc-1"),
            Value::Null,
            "lambda:GetNetworkConnector",
            &connector("nc-1"),
        ),
        case(
            "PUT",
            &format!("{connectors}/nc-1"),
            json!({}),
            "lambda:UpdateNetworkConnector",
            &connector("nc-1"),
        ),
        case(
            "DELETE",
            &format!("{connectors}/nc-1"),
            Value::Null,
            "lambda:DeleteNetworkConnector",
            &connector("nc-1"),
        ),
        case(
            "GET",
            &format!("{connectors}/nc-1/versions"),
            Value::Null,
            "lambda:ListNetworkConnectorVersions",
            &connector("nc-1"),
        ),
        case(
            "POST",
            "/hearth/2026-11-22/egress-policies",
            json!({ "name": "p", "rules": [] }),
            "lambda:CreateNetworkConnector",
            &connector("*"),
        ),
        case(
            "GET",
            "/hearth/2026-11-22/egress-policies/nc-1",
            Value::Null,
            "lambda:GetNetworkConnector",
            &connector("nc-1"),
        ),
        case(
            "PUT",
            "/hearth/2026-11-22/egress-policies/nc-1",
            json!({ "rules": [] }),
            "lambda:UpdateNetworkConnector",
            &connector("nc-1"),
        ),
    ]
}
