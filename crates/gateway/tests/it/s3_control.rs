//! Tags of buckets by S3 Control, and of buckets that are just made.

use http::StatusCode;

use crate::support::{ACCOUNT, Keys, Neighbours, OTHER_ACCOUNT, Reply};

const ARN: &str = "/v20180820/tags/arn%3Aaws%3As3%3A%3A%3A";

async fn control(neighbours: &Neighbours, keys: &Keys, method: &str, target: &str, body: &str) -> Reply {
    let account = [("x-amz-account-id", "000000000000")];
    let host = "000000000000.localhost:9400";
    neighbours.send(keys.sign_to(host, "s3", method, target, &account, body.as_bytes())).await
}

/// A user with this one statement.
async fn user(neighbours: &Neighbours, statement: &str) -> Keys {
    let policy = format!(r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow",{statement}}}]}}"#);
    let name = ("UserName", "Ann");
    let members = [name, ("PolicyName", "p"), ("PolicyDocument", policy.as_str())];
    neighbours.query(&Keys::root(), "iam", "CreateUser", &[name]).await.ok();
    neighbours.query(&Keys::root(), "iam", "PutUserPolicy", &members).await.ok();
    neighbours.query(&Keys::root(), "iam", "CreateAccessKey", &[name]).await.ok().keys()
}

fn document(root: &str, pairs: &[(&str, &str)]) -> String {
    let tags = pairs.iter().map(|(key, value)| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>"));
    let tags: String = tags.collect();
    format!(
        "<{root} xmlns=\"http://awss3control.amazonaws.com/doc/2018-08-20/\"><Tags>{tags}</Tags></{root}>"
    )
}

fn tag_resource(pairs: &[(&str, &str)]) -> String {
    document("TagResourceRequest", pairs)
}

#[tokio::test]
async fn tags_are_added_and_removed_one_by_one() {
    let neighbours = Neighbours::start().await;
    let call = async |method, target: &str, body: &str| {
        control(&neighbours, &Keys::root(), method, target, body).await
    };
    neighbours.call("s3", "PUT", "/demo", &[], b"").await.ok();
    let target = format!("{ARN}demo");
    let none = call("GET", &target, "").await;
    assert!(none.text().contains("<Tags></Tags>"), "{}", none.text());
    for pairs in [[("a", "1"), ("b", "&lt;2&gt;")], [("b", "3"), ("c", "&amp;")]] {
        assert_eq!(call("POST", &target, &tag_resource(&pairs)).await.status, StatusCode::NO_CONTENT);
    }
    let listed = call("GET", &target, "").await;
    assert_eq!(listed.fields("Key"), ["a", "b", "c"]);
    assert_eq!(listed.fields("Value"), ["1", "3", "&"]);
    let in_s3 = neighbours.call("s3", "GET", "/demo?tagging=", &[], b"").await;
    assert_eq!(in_s3.fields("Key"), ["a", "b", "c"]);
    let removed = call("DELETE", &format!("{target}?tagKeys=none&tagKeys=c&tagKeys=a"), "").await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    assert_eq!(call("GET", &target, "").await.fields("Key"), ["b"]);
}

#[tokio::test]
async fn refusals_of_s3_control_have_an_element_around_them() {
    let neighbours = Neighbours::start().await;
    neighbours.call("s3", "PUT", "/demo", &[], b"").await.ok();
    let many: Vec<(String, &str)> = (0..49).map(|number| (format!("k{number}"), "")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let (demo, none) = (format!("{ARN}demo"), format!("{ARN}none"));
    let more = tag_resource(&[("x", ""), ("y", "")]);
    let root = Keys::root();
    let filled = control(&neighbours, &root, "POST", &demo, &tag_resource(&many)).await;
    assert_eq!(filled.status, StatusCode::NO_CONTENT);
    let deep = format!("<TagResourceRequest>{}", "<a>".repeat(40_000));
    for (method, target, body, status, code) in [
        ("GET", none.as_str(), "", StatusCode::NOT_FOUND, "NoSuchBucket"),
        ("POST", &demo, more.as_str(), StatusCode::BAD_REQUEST, "BadRequest"),
        ("POST", &demo, &tag_resource(&[("aws:x", "")]), StatusCode::BAD_REQUEST, "InvalidTag"),
        ("POST", &demo, "<TagResourceRequest>", StatusCode::BAD_REQUEST, "MalformedXML"),
        ("POST", &demo, &deep, StatusCode::BAD_REQUEST, "MalformedXML"),
        ("POST", &demo, &" ".repeat(200_000), StatusCode::BAD_REQUEST, "MaxMessageLengthExceeded"),
        ("PUT", &demo, "", StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
        ("GET", "/v20180820/jobs", "", StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
        ("GET", &format!("{ARN}demo%2Fkey"), "", StatusCode::BAD_REQUEST, "InvalidRequest"),
    ] {
        let reply = control(&neighbours, &root, method, target, body).await;
        let text = reply.text();
        assert!(reply.status == status && text.contains("<ErrorResponse "), "{method} {target}: {text}");
        assert!(text.contains(&format!("<Error><Code>{code}</Code>")), "{method} {target}: {text}");
    }
    assert_eq!(control(&neighbours, &root, "GET", &demo, "").await.fields("Key").len(), 49);
    let elsewhere = [("x-amz-account-id", "111122223333")];
    let reply = neighbours.call("s3", "GET", &demo, &elsewhere, b"").await;
    assert!(reply.text().contains("<Code>AccessDenied</Code>"), "{}", reply.text());
    // Without the header it is a bucket's object.
    let reply = neighbours.call("s3", "GET", &demo, &[], b"").await;
    assert!(reply.text().contains("<Code>NoSuchBucket</Code>"), "{}", reply.text());
}

#[tokio::test]
async fn each_operation_has_a_right_of_its_own() {
    let neighbours = Neighbours::start().await;
    neighbours.call("s3", "PUT", "/demo", &[], b"").await.ok();
    let target = format!("{ARN}demo");
    let allowed =
        user(&neighbours, r#""Action":"s3:ListTagsForResource","Resource":"arn:aws:s3:::demo""#).await;
    assert_eq!(control(&neighbours, &allowed, "GET", &target, "").await.status, StatusCode::OK);
    for (method, body, action) in [
        ("POST", tag_resource(&[("a", "1")]), "s3:TagResource"),
        ("DELETE", String::new(), "s3:UntagResource"),
    ] {
        let reply = control(&neighbours, &allowed, method, &target, &body).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN);
        assert!(reply.text().contains(action), "{}", reply.text());
    }
}

#[tokio::test]
async fn a_bucket_can_be_made_with_tags() {
    let neighbours = Neighbours::start().await;
    let configuration = document("CreateBucketConfiguration", &[("a", "1"), ("b", "2")]);
    let configuration = configuration.replace(
        "<Tags>",
        "<Location><Name>x</Name></Location><LocationConstraint></LocationConstraint><Tags>",
    );
    neighbours.call("s3", "PUT", "/demo", &[], configuration.as_bytes()).await.ok();
    assert_eq!(neighbours.call("s3", "GET", "/demo?tagging=", &[], b"").await.fields("Key"), ["a", "b"]);
    let wrong = document("CreateBucketConfiguration", &[("aws:a", "1")]);
    let reply = neighbours.call("s3", "PUT", "/other", &[], wrong.as_bytes()).await;
    assert!(reply.text().contains("<Code>InvalidTag</Code>"), "{}", reply.text());
    let maker = user(&neighbours, r#""Action":"s3:CreateBucket","Resource":"*""#).await;
    let request = |body: &str| maker.sign_to("localhost", "s3", "PUT", "/third", &[], body.as_bytes());
    let reply = neighbours.send(request(&configuration)).await;
    assert!(reply.text().contains("s3:TagResource"), "{}", reply.text());
    neighbours.send(request("")).await.ok();
}

#[tokio::test]
async fn policies_see_which_tags_are_set() {
    let neighbours = Neighbours::start().await;
    neighbours.call("s3", "PUT", "/demo", &[], b"").await.ok();
    let only_team = r#""Action":["s3:CreateBucket","s3:TagResource","s3:UntagResource"],"Resource":"*",
        "Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["team"]},
            "StringEqualsIfExists":{"aws:RequestTag/team":"red"}}"#;
    let keys = user(&neighbours, only_team).await;
    let target = format!("{ARN}demo");
    for (pairs, status) in [
        (vec![("team", "red")], StatusCode::NO_CONTENT),
        (vec![("team", "blue")], StatusCode::FORBIDDEN),
        (vec![("team", "red"), ("owner", "x")], StatusCode::FORBIDDEN),
    ] {
        let reply = control(&neighbours, &keys, "POST", &target, &tag_resource(&pairs)).await;
        assert_eq!(reply.status, status, "{pairs:?}: {}", reply.text());
        let name = format!("/new-{}", pairs[0].1);
        let body = document("CreateBucketConfiguration", &pairs);
        let made = neighbours.send(keys.sign_to("localhost", "s3", "PUT", &name, &[], body.as_bytes())).await;
        assert_eq!(made.status.is_success(), status.is_success(), "{pairs:?}: {}", made.text());
    }
    for (query, status) in
        [("tagKeys=team", StatusCode::NO_CONTENT), ("tagKeys=team&tagKeys=owner", StatusCode::FORBIDDEN)]
    {
        let reply = control(&neighbours, &keys, "DELETE", &format!("{target}?{query}"), "").await;
        assert_eq!(reply.status, status, "{query}: {}", reply.text());
    }
}

#[tokio::test]
async fn the_account_that_asks_may_be_named_to_tag_the_bucket_of_another() {
    let neighbours = Neighbours::start().await;
    neighbours.call("s3", "PUT", "/demo", &[], b"").await.ok();
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"{OTHER_ACCOUNT}"}},
            "Action":"s3:*","Resource":"arn:aws:s3:::demo"}}]}}"#
    );
    let put = neighbours.call("s3", "PUT", "/demo?policy=", &[], policy.as_bytes()).await;
    assert!(put.status.is_success(), "{}", put.text());
    let target = format!("{ARN}demo");
    let ask = async |account: &str, method: &str, body: &str| {
        let named = [("x-amz-account-id", account)];
        let host = format!("{account}.localhost:9400");
        let request = Keys::other_root().sign_to(&host, "s3", method, &target, &named, body.as_bytes());
        neighbours.send(request).await.status
    };
    let tags = tag_resource(&[("a", "1")]);
    assert_eq!(ask(OTHER_ACCOUNT, "POST", &tags).await, StatusCode::NO_CONTENT);
    assert_eq!(ask(ACCOUNT, "POST", &tags).await, StatusCode::NO_CONTENT);
    assert_eq!(ask(ACCOUNT, "GET", "").await, StatusCode::OK);
    assert_eq!(ask(OTHER_ACCOUNT, "GET", "").await, StatusCode::FORBIDDEN);
    // The name of another account's bucket is taken, whatever tags it would have.
    let body = document("CreateBucketConfiguration", &[("a", "1")]);
    let taken = Keys::other_root().sign_to("localhost", "s3", "PUT", "/demo", &[], body.as_bytes());
    assert_eq!(neighbours.send(taken).await.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_wrong_signature_is_told_in_the_form_of_s3_control() {
    let neighbours = Neighbours::start().await;
    let wrong = Keys { secret: "other".into(), ..Keys::root() };
    let reply = control(&neighbours, &wrong, "GET", &format!("{ARN}demo"), "").await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    let text = reply.text();
    assert!(text.contains("<ErrorResponse xmlns=") && text.ends_with("</ErrorResponse>"), "{text}");
    assert!(
        text.contains("<Error><Code>SignatureDoesNotMatch</Code><Message>The signature is not"),
        "{text}"
    );
}
