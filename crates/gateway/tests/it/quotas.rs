//! Service Quotas.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::Neighbours;

async fn quotas(operation: &str, body: Value) -> (StatusCode, Value) {
    let neighbours = Neighbours::start().await;
    let target = format!("ServiceQuotasV20190624.{operation}");
    let headers = [("x-amz-target", target.as_str()), ("content-type", "application/x-amz-json-1.1")];
    let reply = neighbours.call("servicequotas", "POST", "/", &headers, body.to_string().as_bytes()).await;
    (reply.status, serde_json::from_slice(&reply.body).unwrap())
}

#[tokio::test]
async fn quotas_are_those_of_the_operator_and_the_defaults_those_of_the_service() {
    for (code, applied, default) in [
        ("L-CD1C0CC4", 2.0, 1024.0),
        ("L-942E56BE", 3.0, 100.0),
        ("L-HEARTHIS", 256.0, 256.0),
        ("L-535CA9B6", 7.0, 5.0),
        ("L-B430C318", 28_800.0, 28_800.0),
        ("L-90045317", 10_000_000_000.0, 10_000_000_000.0),
    ] {
        let request = json!({ "ServiceCode": "lambda", "QuotaCode": code });
        let own = quotas("GetServiceQuota", request.clone()).await.1;
        assert_eq!(own["Quota"]["Value"], applied, "{code}");
        let arn = format!("arn:aws:servicequotas:us-east-1:000000000000:lambda/{code}");
        assert_eq!((&own["Quota"]["QuotaArn"], &own["Quota"]["QuotaCode"]), (&json!(arn), &json!(code)));
        let usual = quotas("GetAWSDefaultServiceQuota", request).await.1;
        assert_eq!(usual["Quota"]["Value"], default, "{code}");
    }
}

#[tokio::test]
async fn lists_come_in_pages() {
    for operation in ["ListServiceQuotas", "ListAWSDefaultServiceQuotas"] {
        let mut codes = std::collections::BTreeSet::new();
        let mut request = json!({ "ServiceCode": "lambda", "MaxResults": 6 });
        let mut pages = 0;
        loop {
            let page = quotas(operation, request.clone()).await.1;
            let found = page["Quotas"].as_array().unwrap().clone();
            codes.extend(found.iter().map(|quota| quota["QuotaCode"].as_str().unwrap().to_owned()));
            pages += 1;
            if page["NextToken"].is_null() {
                break;
            }
            request["NextToken"] = page["NextToken"].clone();
        }
        assert_eq!((pages, codes.len()), (4, 21));
    }
    let services = quotas("ListServices", json!({})).await.1;
    assert_eq!(services["Services"][0], json!({ "ServiceCode": "lambda", "ServiceName": "AWS Lambda" }));
}

#[tokio::test]
async fn what_an_account_may_have_in_s3_is_shown() {
    for (code, value) in [("L-DC2B2D3D", 1000.0), ("L-HEARTHSB", 7.0)] {
        let request = json!({ "ServiceCode": "s3", "QuotaCode": code });
        assert_eq!(quotas("GetServiceQuota", request).await.1["Quota"]["Value"], value, "{code}");
    }
    let all = quotas("ListServiceQuotas", json!({ "ServiceCode": "s3" })).await.1;
    assert_eq!(all["Quotas"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_not_there_is_refused_honestly() {
    for (operation, body, expected) in [
        ("GetServiceQuota", json!({ "ServiceCode": "ec2", "QuotaCode": "L-1" }), "NoSuchResourceException"),
        (
            "GetServiceQuota",
            json!({ "ServiceCode": "lambda", "QuotaCode": "L-1" }),
            "NoSuchResourceException",
        ),
        ("GetServiceQuota", json!({ "ServiceCode": "lambda" }), "IllegalArgumentException"),
        ("ListServiceQuotas", json!({ "ServiceCode": "ec2" }), "NoSuchResourceException"),
        (
            "ListServiceQuotas",
            json!({ "ServiceCode": "lambda", "MaxResults": 0 }),
            "IllegalArgumentException",
        ),
        (
            "ListServiceQuotas",
            json!({ "ServiceCode": "lambda", "NextToken": "x" }),
            "InvalidPaginationTokenException",
        ),
        ("RequestServiceQuotaIncrease", json!({}), "UnknownOperationException"),
    ] {
        let (status, answer) = quotas(operation, body).await;
        assert_eq!((status, &answer["__type"]), (StatusCode::BAD_REQUEST, &json!(expected)), "{operation}");
    }
}

#[tokio::test]
async fn log_groups_have_quotas_too() {
    let (_, services) = quotas("ListServices", json!({})).await;
    let codes: Vec<_> = services["Services"].as_array().unwrap().iter().map(|s| &s["ServiceCode"]).collect();
    assert!(codes.contains(&&json!("logs")), "{services}");
    let (_, listed) = quotas("ListServiceQuotas", json!({ "ServiceCode": "logs" })).await;
    let values: Vec<_> = listed["Quotas"].as_array().unwrap().iter().map(|q| &q["Value"]).collect();
    assert_eq!(values, [&json!(10_000.0), &json!(100_000.0), &json!(10_240.0), &json!(15.0)]);
}
