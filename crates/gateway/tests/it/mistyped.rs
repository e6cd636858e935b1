//! The kind: a member of another type than its own is the caller's mistake, whichever operation of
//! the JSON services takes it.

use hearth_logs_api::Logs;
use hearth_quotas_api::ServiceQuotas;
use hearth_service::Api;
use hearth_service::shape::Shape;
use serde_json::{Value, json};

use crate::support::Neighbours;

async fn check<A: Api>(neighbours: &Neighbours, prefix: &str) {
    for operation in A::operations() {
        for member in operation.members {
            let wrong = match member.shape {
                Shape::Text(_) | Shape::Enumeration(_) => json!(7),
                _ => json!("text"),
            };
            // Without any group some operations say so first.
            let mut body = json!({ "logGroupName": "group" });
            body[member.name] = wrong;
            if member.name == "logGroupIdentifier" {
                body.as_object_mut().unwrap().remove("logGroupName");
            }
            let body = body.to_string();
            let target = format!("{prefix}{}", operation.name);
            let headers = [("x-amz-target", target.as_str())];
            let reply = neighbours.call(A::SIGNING_NAME, "POST", "/", &headers, body.as_bytes()).await;
            let answer: Value = serde_json::from_slice(&reply.body).unwrap();
            let what = format!("{target} {}: {answer}", member.name);
            assert_eq!(
                (reply.status.as_u16(), &answer["__type"]),
                (400, &json!("SerializationException")),
                "{what}"
            );
        }
    }
}

#[tokio::test]
async fn members_of_another_type_are_refused() {
    let neighbours = Neighbours::start().await;
    check::<Logs>(&neighbours, hearth_logs_api::TARGET_PREFIX).await;
    check::<ServiceQuotas>(&neighbours, hearth_quotas_api::TARGET_PREFIX).await;
}
