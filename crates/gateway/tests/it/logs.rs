//! CloudWatch Logs: reading.

use hearth_api::{AccountId, Timestamp};
use hearth_records::Logs as _;
use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{ACCOUNT, Neighbours, signed};

const GROUP: &str = "/aws/lambda-microvms/app";

pub(crate) async fn logs(neighbours: &Neighbours, operation: &str, body: Value) -> (StatusCode, Value) {
    let target = format!("Logs_20140328.{operation}");
    let headers = [("x-amz-target", target.as_str()), ("content-type", "application/x-amz-json-1.1")];
    let reply = neighbours.call("logs", "POST", "/", &headers, body.to_string().as_bytes()).await;
    let body = if reply.body.is_empty() { Value::Null } else { serde_json::from_slice(&reply.body).unwrap() };
    (reply.status, body)
}

async fn with_lines(count: i64) -> Neighbours {
    let neighbours = Neighbours::start().await;
    let lines: Vec<_> = (0..count).map(|n| (Timestamp::from_millis(1000 + n), format!("line {n}"))).collect();
    neighbours.store.append_log(&AccountId::from_stored(ACCOUNT), GROUP, "build", &lines).await.unwrap();
    neighbours
}

pub(crate) fn messages(answer: &Value) -> Vec<&str> {
    answer["events"].as_array().unwrap().iter().map(|event| event["message"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn forward_tokens_end_by_repeating_and_pick_up_new_lines() {
    let neighbours = with_lines(3).await;
    let read = |token: Option<String>| {
        let mut request =
            json!({ "logGroupName": GROUP, "logStreamName": "build", "startFromHead": true, "limit": 2 });
        if let Some(token) = token {
            request["nextToken"] = json!(token);
        }
        logs(&neighbours, "GetLogEvents", request)
    };
    let token = |answer: &Value| Some(answer["nextForwardToken"].as_str().unwrap().to_owned());
    let first = read(None).await.1;
    assert_eq!(messages(&first), ["line 0", "line 1"]);
    let second = read(token(&first)).await.1;
    assert_eq!(messages(&second), ["line 2"]);
    let end = read(token(&second)).await.1;
    assert_eq!((messages(&end).len(), token(&end)), (0, token(&second)));
    let line = (Timestamp::from_millis(2000), "late".to_owned());
    neighbours.store.append_log(&AccountId::from_stored(ACCOUNT), GROUP, "build", &[line]).await.unwrap();
    assert_eq!(messages(&read(token(&end)).await.1), ["late"]);
}

#[tokio::test]
async fn tokens_that_were_not_given_out_are_refused() {
    let neighbours = with_lines(3).await;
    // Base64 of "x", of no text, of "/a b"; a number beyond all.
    for token in ["x", "eA==", "AAAA", "L2EgYg", "b/18446744073709551616/s", "-1", "\0"] {
        for operation in ["DescribeLogGroups", "DescribeLogStreams", "GetLogEvents", "FilterLogEvents"] {
            let mut request = json!({ "nextToken": token });
            if operation != "DescribeLogGroups" {
                request["logGroupName"] = json!(GROUP);
            }
            if operation == "GetLogEvents" {
                request["logStreamName"] = json!("build");
            }
            let (status, answer) = logs(&neighbours, operation, request).await;
            assert_eq!(
                (status.as_u16(), &answer["message"]),
                (400, &json!("The specified nextToken is invalid."))
            );
        }
    }
}

#[tokio::test]
async fn without_a_token_the_newest_lines_come_and_lead_back() {
    let neighbours = with_lines(5).await;
    let request = json!({ "logGroupName": GROUP, "logStreamName": "build", "limit": 2 });
    let newest = logs(&neighbours, "GetLogEvents", request.clone()).await.1;
    assert_eq!(messages(&newest), ["line 3", "line 4"]);
    let mut request = request;
    request["nextToken"] = newest["nextBackwardToken"].clone();
    assert_eq!(messages(&logs(&neighbours, "GetLogEvents", request).await.1), ["line 1", "line 2"]);
}

#[tokio::test]
async fn filtering_goes_over_streams_and_times() {
    let neighbours = with_lines(3).await;
    let line = (Timestamp::from_millis(5000), "line of another".to_owned());
    neighbours.store.append_log(&AccountId::from_stored(ACCOUNT), GROUP, "run", &[line]).await.unwrap();
    for (extra, expected) in [
        (json!({}), vec!["line 0", "line 1", "line 2", "line of another"]),
        (json!({ "logStreamNamePrefix": "r" }), vec!["line of another"]),
        (json!({ "logStreamNames": ["build"], "startTime": 1001, "endTime": 1002 }), vec!["line 1"]),
        (json!({ "filterPattern": "line -2 -another" }), vec!["line 0", "line 1"]),
    ] {
        let mut request = json!({ "logGroupName": GROUP });
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        assert_eq!(messages(&logs(&neighbours, "FilterLogEvents", request).await.1), expected, "{extra}");
    }
}

#[tokio::test]
async fn groups_and_streams_are_described() {
    let neighbours = with_lines(1).await;
    let prefix = json!({ "logGroupNamePrefix": "/aws/" });
    let groups = logs(&neighbours, "DescribeLogGroups", prefix).await.1;
    assert_eq!(groups["logGroups"][0]["logGroupName"], GROUP);
    let streams = logs(&neighbours, "DescribeLogStreams", json!({ "logGroupName": GROUP })).await.1;
    assert_eq!(streams["logStreams"][0]["logStreamName"], "build");
    assert_eq!(streams["logStreams"][0]["lastEventTimestamp"], 1000);
}

#[tokio::test]
async fn refusals_have_the_types_that_clients_look_for() {
    let neighbours = with_lines(1).await;
    for (operation, body, expected) in [
        ("DescribeLogStreams", json!({ "logGroupName": "no" }), "ResourceNotFoundException"),
        ("FilterLogEvents", json!({ "logGroupName": "no" }), "ResourceNotFoundException"),
        ("GetLogEvents", json!({ "logGroupName": GROUP, "logStreamName": "x" }), "ResourceNotFoundException"),
        ("GetLogEvents", json!({ "logStreamName": "x" }), "InvalidParameterException"),
        ("FilterLogEvents", json!({ "logGroupName": GROUP, "limit": "x" }), "SerializationException"),
        ("FilterLogEvents", json!({ "logGroupName": GROUP, "nextToken": "x" }), "InvalidParameterException"),
        ("GetLogEvents", json!({ "logGroupName": GROUP }), "InvalidParameterException"),
        ("FilterLogEvents", json!({ "logGroupName": GROUP, "limit": 10_001 }), "InvalidParameterException"),
        (
            "FilterLogEvents",
            json!({ "logGroupName": GROUP, "logStreamNames": ["x"] }),
            "ResourceNotFoundException",
        ),
        ("DescribeLogGroups", json!({ "limit": 51 }), "InvalidParameterException"),
        ("DescribeLogGroups", json!({ "logGroupNamePrefix": "a b" }), "InvalidParameterException"),
        ("DescribeQueries", json!({}), "UnknownOperationException"),
    ] {
        let (status, answer) = logs(&neighbours, operation, body).await;
        assert_eq!((status, &answer["__type"]), (StatusCode::BAD_REQUEST, &json!(expected)), "{operation}");
    }
    let headers = [("x-amz-target", "Logs_20140328.DescribeLogGroups")];
    let wrong = neighbours.send(signed("other", "logs", "POST", "/", &headers, b"{}")).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert!(wrong.text().contains("InvalidSignatureException"));
}

#[tokio::test]
async fn a_filter_finds_its_pages_however_few_lines_fit() {
    let neighbours = with_lines(5000).await;
    let mut request = json!({ "logGroupName": GROUP, "filterPattern": "99", "limit": 30 });
    let mut found = 0;
    loop {
        let page = logs(&neighbours, "FilterLogEvents", request.clone()).await.1;
        found += messages(&page).len();
        if page["nextToken"].is_null() {
            break;
        }
        assert_eq!(messages(&page).len(), 30);
        request["nextToken"] = page["nextToken"].clone();
    }
    assert_eq!(found, (0..5000).filter(|n| n.to_string().contains("99")).count());
}

#[tokio::test]
async fn a_group_may_be_named_by_its_arn_and_that_of_another_account_is_refused() {
    let neighbours = with_lines(1).await;
    for (arn, expected) in [
        (format!("arn:aws:logs:us-east-1:{ACCOUNT}:log-group:{GROUP}"), Value::Null),
        (format!("arn:aws:logs:us-east-1:{ACCOUNT}:log-group:{GROUP}:*"), Value::Null),
        (format!("arn:aws:logs:eu-west-1:{ACCOUNT}:log-group:{GROUP}"), json!("ResourceNotFoundException")),
        (format!("arn:aws:logs:us-east-1:111111111111:log-group:{GROUP}"), json!("AccessDeniedException")),
    ] {
        let request = json!({ "logGroupIdentifier": arn, "logStreamName": "build" });
        let answer = logs(&neighbours, "GetLogEvents", request).await.1;
        assert_eq!(answer["__type"], expected, "{arn}");
        if expected == "AccessDeniedException" {
            let resource = format!("{arn}:log-stream:build");
            assert!(
                answer["message"]
                    .as_str()
                    .unwrap()
                    .contains(&format!("logs:GetLogEvents on resource: {resource}"))
            );
        }
    }
}

/// The kind: what was authorised is what is done.
#[tokio::test]
async fn tags_are_those_of_the_group_in_the_arn_and_of_no_other_accounts() {
    let neighbours = with_lines(1).await;
    let root = crate::support::Keys::root();
    let iam = async |action: &str, members: &[(&str, &str)]| {
        neighbours.query(&root, "iam", action, members).await.ok()
    };
    iam("CreateUser", &[("UserName", "ann")]).await;
    let keys = iam("CreateAccessKey", &[("UserName", "ann")]).await.keys();
    let document = format!(
        r#"{{"Statement":[{{"Effect":"Allow","Action":"logs:*","Resource":"*"}},
            {{"Effect":"Deny","Action":"logs:*","Resource":"arn:aws:logs:*:{ACCOUNT}:log-group:*"}}]}}"#
    );
    let policy = [("UserName", "ann"), ("PolicyName", "p"), ("PolicyDocument", document.as_str())];
    iam("PutUserPolicy", &policy).await;
    for account in [ACCOUNT, crate::support::OTHER_ACCOUNT, "x", ""] {
        let arn = format!("arn:aws:logs:us-east-1:{account}:log-group:{GROUP}");
        for (operation, body) in [
            ("TagResource", json!({ "resourceArn": arn, "tags": { "by": "ann" } })),
            ("UntagResource", json!({ "resourceArn": arn, "tagKeys": ["by"] })),
            ("ListTagsForResource", json!({ "resourceArn": arn })),
        ] {
            let target = format!("Logs_20140328.{operation}");
            let headers = [("x-amz-target", target.as_str())];
            let body = body.to_string();
            let request = keys.sign("logs", "POST", "/", &headers, body.as_bytes());
            let reply = neighbours.send(request).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{operation} {arn}: {}", reply.text());
        }
    }
    let own = json!({ "resourceArn": format!("arn:aws:logs:us-east-1:{ACCOUNT}:log-group:{GROUP}") });
    assert_eq!(logs(&neighbours, "ListTagsForResource", own).await.1["tags"], json!({}));
}

#[tokio::test]
async fn streams_are_listed_in_pages_in_either_order() {
    let neighbours = Neighbours::start().await;
    let account = AccountId::from_stored(ACCOUNT);
    for (stream, time) in [("b", 1000), ("a", 3000), ("ü", 2000)] {
        let line = (Timestamp::from_millis(time), "line".to_owned());
        neighbours.store.append_log(&account, GROUP, stream, &[line]).await.unwrap();
    }
    for (order, descending, expected) in [
        ("LogStreamName", false, ["a", "b", "ü"]),
        ("LogStreamName", true, ["ü", "b", "a"]),
        ("LastEventTime", false, ["b", "ü", "a"]),
        ("LastEventTime", true, ["a", "ü", "b"]),
    ] {
        let mut request =
            json!({ "logGroupName": GROUP, "orderBy": order, "descending": descending, "limit": 1 });
        let mut found = Vec::new();
        loop {
            let page = logs(&neighbours, "DescribeLogStreams", request.clone()).await.1;
            found.push(page["logStreams"][0]["logStreamName"].as_str().unwrap().to_owned());
            if page["nextToken"].is_null() {
                break;
            }
            request["nextToken"] = page["nextToken"].clone();
        }
        assert_eq!(found, expected, "{order}");
    }
}

/// The kind: what waits is small. Only batches of events may be long.
#[tokio::test]
async fn bodies_of_calls_that_wait_for_their_turn_are_short() {
    let neighbours = with_lines(1).await;
    for (filler, status) in [(400 << 10, StatusCode::OK), (600 << 10, StatusCode::BAD_REQUEST)] {
        let request = json!({ "logGroupName": GROUP, "ignored": "x".repeat(filler) });
        assert_eq!(logs(&neighbours, "FilterLogEvents", request).await.0, status);
    }
}

/// The kind: what one request costs is bounded, whatever is stored.
#[tokio::test]
async fn a_filter_answers_after_so_many_bytes_although_nothing_fits() {
    let neighbours = Neighbours::start().await;
    let account = AccountId::from_stored(ACCOUNT);
    let long = "x".repeat(1 << 20);
    for n in 0..20 {
        let line = (Timestamp::from_millis(1000 + n), long.clone());
        neighbours.store.append_log(&account, GROUP, "a", &[line]).await.unwrap();
    }
    let many = (0..100).map(|n| format!("?{n}")).collect::<Vec<_>>().join(" ");
    for (pattern, pages) in [("y", 2), (many.as_str(), 7)] {
        let mut request = json!({ "logGroupName": GROUP, "filterPattern": pattern });
        let mut answered = 0;
        loop {
            let page = logs(&neighbours, "FilterLogEvents", request.clone()).await.1;
            assert_eq!(messages(&page), [""; 0]);
            answered += 1;
            if page["nextToken"].is_null() {
                break;
            }
            request["nextToken"] = page["nextToken"].clone();
        }
        assert_eq!(answered, pages, "{pattern}");
    }
}
