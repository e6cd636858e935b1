//! CloudWatch Logs: what clients make, write and delete.

use http::StatusCode;
use serde_json::{Value, json};

use crate::logs::{logs, messages};
use crate::support::{ACCOUNT, Neighbours};

const HOUR: i64 = 60 * 60 * 1000;

fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

async fn done(neighbours: &Neighbours, operation: &str, body: Value) {
    assert_eq!(logs(neighbours, operation, body).await, (StatusCode::OK, Value::Null), "{operation}");
}

async fn refused(neighbours: &Neighbours, operation: &str, body: Value) -> (String, String) {
    let (status, answer) = logs(neighbours, operation, body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{operation}: {answer}");
    (answer["__type"].as_str().unwrap().to_owned(), answer["message"].as_str().unwrap().to_owned())
}

async fn with_stream() -> Neighbours {
    let neighbours = Neighbours::start().await;
    done(&neighbours, "CreateLogGroup", json!({ "logGroupName": "g" })).await;
    done(&neighbours, "CreateLogStream", json!({ "logGroupName": "g", "logStreamName": "s" })).await;
    neighbours
}

fn batch(events: &[(i64, &str)]) -> Value {
    let events: Vec<_> =
        events.iter().map(|(time, message)| json!({ "timestamp": time, "message": message })).collect();
    json!({ "logGroupName": "g", "logStreamName": "s", "logEvents": events })
}

#[tokio::test]
async fn what_is_put_is_read_with_its_times() {
    let neighbours = with_stream().await;
    let start = now();
    let put = logs(&neighbours, "PutLogEvents", batch(&[(start - HOUR, "one"), (start, "two")])).await;
    assert_eq!(put.0, StatusCode::OK);
    assert!(put.1["nextSequenceToken"].is_string() && put.1["rejectedLogEventsInfo"].is_null(), "{put:?}");
    let request = json!({ "logGroupName": "g", "logStreamName": "s" });
    let read = logs(&neighbours, "GetLogEvents", request).await.1;
    assert_eq!(messages(&read), ["one", "two"]);
    assert_eq!(read["events"][0]["timestamp"], start - HOUR);
    assert!(read["events"][0]["ingestionTime"].as_i64().unwrap() >= start);
    let groups = logs(&neighbours, "DescribeLogGroups", json!({})).await.1;
    assert_eq!(groups["logGroups"][0]["storedBytes"], 2 * (26 + 3));
    let arn = format!("arn:aws:logs:us-east-1:{ACCOUNT}:log-group:g");
    assert_eq!(groups["logGroups"][0]["logGroupArn"], arn);
    assert_eq!(groups["logGroups"][0]["arn"], format!("{arn}:*"));
    let streams = logs(&neighbours, "DescribeLogStreams", json!({ "logGroupName": "g" })).await.1;
    assert_eq!(streams["logStreams"][0]["firstEventTimestamp"], start - HOUR);
    assert_eq!(streams["logStreams"][0]["lastEventTimestamp"], start);
}

#[tokio::test]
async fn events_of_the_wrong_age_are_left_out_and_named() {
    let neighbours = with_stream().await;
    let put = async |events: &[(i64, &str)]| {
        logs(&neighbours, "PutLogEvents", batch(events)).await.1["rejectedLogEventsInfo"].clone()
    };
    assert_eq!(
        put(&[(now(), "good"), (now() + 3 * HOUR, "new")]).await,
        json!({ "tooNewLogEventStartIndex": 1 })
    );
    assert_eq!(put(&[(now() - 15 * 24 * HOUR, "old")]).await, json!({ "tooOldLogEventEndIndex": 1 }));
    done(&neighbours, "PutRetentionPolicy", json!({ "logGroupName": "g", "retentionInDays": 1 })).await;
    assert_eq!(
        put(&[(now() - 25 * HOUR, "old"), (now() - 2 * HOUR, "fine")]).await,
        json!({ "expiredLogEventEndIndex": 1 })
    );
    let read = logs(&neighbours, "FilterLogEvents", json!({ "logGroupName": "g" })).await.1;
    assert_eq!(messages(&read), ["fine", "good"]);
}

#[tokio::test]
async fn a_batch_may_have_a_mebibyte_of_characters_that_json_escapes() {
    let neighbours = with_stream().await;
    let message = "\u{1}".repeat(100_000);
    let events: Vec<_> = (0..10).map(|_| (now(), message.as_str())).collect();
    let put = logs(&neighbours, "PutLogEvents", batch(&events)).await;
    assert_eq!(put.0, StatusCode::OK, "{}", put.1);
    let request = json!({ "logGroupName": "g", "logStreamName": "s" });
    assert_eq!(messages(&logs(&neighbours, "GetLogEvents", request).await.1), vec![message; 10]);
}

#[tokio::test]
async fn groups_and_streams_come_and_go() {
    let neighbours = with_stream().await;
    let group = json!({ "logGroupName": "g" });
    let stream = json!({ "logGroupName": "g", "logStreamName": "s" });
    let kind = async |operation, body: &Value| refused(&neighbours, operation, body.clone()).await;
    let of = |kind: &str, message: &str| (kind.to_owned(), message.to_owned());
    let exists = "ResourceAlreadyExistsException";
    assert_eq!(kind("CreateLogGroup", &group).await, of(exists, "The specified log group already exists"));
    assert_eq!(kind("CreateLogStream", &stream).await, of(exists, "The specified log stream already exists"));
    done(&neighbours, "DeleteLogStream", stream.clone()).await;
    let missing = "ResourceNotFoundException";
    let no_stream = of(missing, "The specified log stream does not exist.");
    assert_eq!(kind("DeleteLogStream", &stream).await, no_stream);
    assert_eq!(kind("PutLogEvents", &batch(&[(now(), "x")])).await, no_stream);
    done(&neighbours, "DeleteLogGroup", group.clone()).await;
    let no_group = of(missing, "The specified log group does not exist.");
    for (operation, body) in [
        ("DeleteLogGroup", &group),
        ("CreateLogStream", &stream),
        ("DeleteLogStream", &stream),
        ("DeleteRetentionPolicy", &group),
        ("ListTagsLogGroup", &group),
        ("PutLogEvents", &batch(&[(now(), "x")])),
        ("PutRetentionPolicy", &json!({ "logGroupName": "g", "retentionInDays": 1 })),
        ("StartLiveTail", &json!({ "logGroupIdentifiers": ["g"] })),
    ] {
        assert_eq!(kind(operation, body).await, no_group, "{operation}");
    }
    done(&neighbours, "CreateLogGroup", group).await;
}

#[tokio::test]
async fn retentions_are_set_shown_and_removed() {
    let neighbours = with_stream().await;
    let shown = async || {
        logs(&neighbours, "DescribeLogGroups", json!({})).await.1["logGroups"][0]["retentionInDays"].clone()
    };
    assert_eq!(shown().await, Value::Null);
    done(&neighbours, "PutRetentionPolicy", json!({ "logGroupName": "g", "retentionInDays": 14 })).await;
    assert_eq!(shown().await, 14);
    done(&neighbours, "DeleteRetentionPolicy", json!({ "logGroupName": "g" })).await;
    assert_eq!(shown().await, Value::Null);
}

#[tokio::test]
async fn tags_are_those_of_the_group_by_either_name() {
    let neighbours = Neighbours::start().await;
    let arn = format!("arn:aws:logs:us-east-1:{ACCOUNT}:log-group:g");
    done(&neighbours, "CreateLogGroup", json!({ "logGroupName": "g", "tags": { "a": "1" } })).await;
    done(&neighbours, "TagResource", json!({ "resourceArn": arn, "tags": { "b": "2" } })).await;
    done(&neighbours, "TagLogGroup", json!({ "logGroupName": "g", "tags": { "c": "" } })).await;
    done(&neighbours, "UntagResource", json!({ "resourceArn": arn, "tagKeys": ["a", "none"] })).await;
    let tags = json!({ "tags": { "b": "2", "c": "" } });
    assert_eq!(logs(&neighbours, "ListTagsForResource", json!({ "resourceArn": arn })).await.1, tags);
    done(&neighbours, "UntagLogGroup", json!({ "logGroupName": "g", "tags": ["b", "c"] })).await;
    assert_eq!(
        logs(&neighbours, "ListTagsLogGroup", json!({ "logGroupName": "g" })).await.1,
        json!({ "tags": {} })
    );
    let many: serde_json::Map<_, _> = (0..50).map(|n| (n.to_string(), json!(""))).collect();
    done(&neighbours, "TagResource", json!({ "resourceArn": arn, "tags": many })).await;
    let more = json!({ "resourceArn": arn, "tags": { "one too many": "" } });
    assert_eq!(refused(&neighbours, "TagResource", more).await.0, "TooManyTagsException");
}

#[tokio::test]
async fn bad_requests_get_the_sentence_of_the_constraint() {
    let neighbours = with_stream().await;
    let long = "x".repeat(513);
    for (operation, body, expected) in [
        (
            "CreateLogGroup",
            json!({}),
            "Value null at 'logGroupName' failed to satisfy constraint: Member must not be null",
        ),
        ("CreateLogGroup", json!({ "logGroupName": "" }), "length greater than or equal to 1"),
        ("CreateLogGroup", json!({ "logGroupName": long }), "length less than or equal to 512"),
        ("CreateLogGroup", json!({ "logGroupName": "a b" }), r"pattern: [\.\-_/#A-Za-z0-9]+"),
        (
            "CreateLogGroup",
            json!({ "logGroupName": "t", "tags": { "aws:x": "" } }),
            "must not begin with aws:",
        ),
        ("CreateLogGroup", json!({ "logGroupName": "t", "tags": { "a": "<" } }), "pattern"),
        ("CreateLogGroup", json!({ "logGroupName": "t", "kmsKeyId": "k" }), "kmsKeyId are not served"),
        ("CreateLogStream", json!({ "logGroupName": "g", "logStreamName": "a:b" }), "pattern: [^:*]*"),
        (
            "CreateLogStream",
            json!({ "logGroupName": "a b", "logStreamName": "" }),
            "2 validation errors detected",
        ),
        (
            "PutRetentionPolicy",
            json!({ "logGroupName": "g", "retentionInDays": 2 }),
            "enum value set: [1, 3, 5",
        ),
        ("PutRetentionPolicy", json!({ "logGroupName": "g" }), "Value null at 'retentionInDays'"),
        ("PutLogEvents", batch(&[]), "length greater than or equal to 1"),
        ("PutLogEvents", batch(&vec![(now(), "x"); 10_001]), "length less than or equal to 10000"),
        ("PutLogEvents", batch(&[(now(), "x"), (now(), "")]), "Value '' at 'logEvents.2.member.message'"),
        ("PutLogEvents", batch(&[(-1, "x")]), "value greater than or equal to 0"),
        ("PutLogEvents", batch(&[(now(), "x"), (now() - 1, "y")]), "chronological order"),
        (
            "PutLogEvents",
            batch(&[(now(), &"x".repeat(1 << 20))]),
            "Upload too large: 1048602 bytes exceeds limit of 1048576",
        ),
        (
            "TagResource",
            json!({ "resourceArn": "arn:aws:s3:::b", "tags": { "a": "" } }),
            "not the ARN of a log group",
        ),
        ("StartLiveTail", json!({ "logGroupIdentifiers": [] }), "length greater than or equal to 1"),
        (
            "StartLiveTail",
            json!({ "logGroupIdentifiers": ["g", "h"], "logStreamNames": ["s"] }),
            "exactly one log group",
        ),
    ] {
        let (kind, message) = refused(&neighbours, operation, body).await;
        assert_eq!(kind, "InvalidParameterException", "{operation}: {message}");
        assert!(message.contains(expected), "{operation}: {message}");
    }
}
