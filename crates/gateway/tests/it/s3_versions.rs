//! Versions of objects, and copies.

use http::StatusCode;

use crate::support::{Neighbours, Reply};

async fn s3(neighbours: &Neighbours, method: &str, target: &str, body: &[u8]) -> Reply {
    neighbours.call("s3", method, target, &[], body).await
}

async fn versioning(neighbours: &Neighbours, status: &str) {
    let body = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
    let reply = s3(neighbours, "PUT", "/demo?versioning=", body.as_bytes()).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let shown = s3(neighbours, "GET", "/demo?versioning=", b"").await.text();
    assert!(shown.contains(&format!("<Status>{status}</Status>")), "{shown}");
}

/// A bucket `demo` with the object `key` from before versioning was enabled.
async fn with_bucket() -> Neighbours {
    let neighbours = Neighbours::start().await;
    s3(&neighbours, "PUT", "/demo", b"").await;
    let never = s3(&neighbours, "GET", "/demo?versioning=", b"").await.text();
    assert!(!never.contains("<Status>"), "{never}");
    put(&neighbours, "zero").await;
    versioning(&neighbours, "Enabled").await;
    neighbours
}

async fn put(neighbours: &Neighbours, content: &str) -> String {
    let reply = s3(neighbours, "PUT", "/demo/key", content.as_bytes()).await;
    assert_eq!(reply.status, StatusCode::OK);
    reply.headers.get("x-amz-version-id").map_or_else(String::new, |id| id.to_str().unwrap().to_owned())
}

async fn get(neighbours: &Neighbours, version: &str) -> (u16, String) {
    let query = if version.is_empty() { String::new() } else { format!("?versionId={version}") };
    let reply = s3(neighbours, "GET", &format!("/demo/key{query}"), b"").await;
    (reply.status.as_u16(), reply.text())
}

async fn erase(neighbours: &Neighbours, version: &str) -> Reply {
    let reply = s3(neighbours, "DELETE", &format!("/demo/key?versionId={version}"), b"").await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    reply
}

/// Version ids in the order of the listing, delete markers before the versions; the
/// latest one with a star.
async fn listed(neighbours: &Neighbours, query: &str) -> Vec<String> {
    let text = s3(neighbours, "GET", &format!("/demo?versions={query}"), b"").await.text();
    let entries = text.split("<VersionId>").skip(1).map(|rest| {
        let id = rest.split_once('<').unwrap().0;
        id.to_owned()
    });
    let latest: Vec<&str> =
        text.split("<IsLatest>").skip(1).map(|rest| rest.split_once('<').unwrap().0).collect();
    let star = |(id, latest): (String, &&str)| if *latest == "true" { format!("{id}*") } else { id };
    entries.zip(&latest).map(star).collect()
}

#[tokio::test]
async fn former_versions_stay_until_they_are_erased() {
    let neighbours = with_bucket().await;
    let one = put(&neighbours, "one").await;
    let two = put(&neighbours, "two").await;
    assert!(one.len() == 32 && one != two);
    for (version, content) in [("", "two"), (&two, "two"), (&one, "one"), ("null", "zero")] {
        assert_eq!(get(&neighbours, version).await, (200, content.to_owned()), "{version}");
    }
    assert_eq!(listed(&neighbours, "").await, [format!("{two}*"), one.clone(), "null".to_owned()]);

    let deleted = s3(&neighbours, "DELETE", "/demo/key", b"").await;
    assert_eq!(deleted.headers["x-amz-delete-marker"], "true");
    let marker = deleted.headers["x-amz-version-id"].to_str().unwrap().to_owned();
    assert_eq!(get(&neighbours, "").await.0, 404);
    assert_eq!(get(&neighbours, &two).await, (200, "two".to_owned()));
    assert_eq!(get(&neighbours, &marker).await.0, 405);
    assert!(!s3(&neighbours, "GET", "/demo?list-type=2", b"").await.text().contains("<Key>"));
    let expected = [format!("{marker}*"), two.clone(), one.clone(), "null".to_owned()];
    assert_eq!(listed(&neighbours, "").await, expected);
    assert_eq!(s3(&neighbours, "DELETE", "/demo", b"").await.status, StatusCode::CONFLICT);

    assert_eq!(erase(&neighbours, &marker).await.headers["x-amz-delete-marker"], "true");
    assert_eq!(get(&neighbours, "").await, (200, "two".to_owned()), "without its marker the object is back");
    erase(&neighbours, &two).await;
    assert_eq!(get(&neighbours, "").await, (200, "one".to_owned()), "the one before becomes current");
    assert!(get(&neighbours, &two).await.1.contains("<Code>NoSuchVersion</Code>"));
    erase(&neighbours, "null").await;
    erase(&neighbours, &one).await;
    assert_eq!(listed(&neighbours, "").await, [] as [String; 0]);
    assert_eq!(s3(&neighbours, "DELETE", "/demo", b"").await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn without_versioning_there_is_one_version_called_null() {
    let neighbours = with_bucket().await;
    let one = put(&neighbours, "one").await;
    versioning(&neighbours, "Suspended").await;
    for content in ["two", "three"] {
        assert_eq!(put(&neighbours, content).await, "");
    }
    assert_eq!(listed(&neighbours, "").await, ["null*", &one]);
    assert_eq!(get(&neighbours, "null").await, (200, "three".to_owned()));
    let marked = s3(&neighbours, "DELETE", "/demo/key", b"").await;
    assert_eq!(marked.headers["x-amz-version-id"], "null");
    assert_eq!(listed(&neighbours, "").await, ["null*", &one]);
    erase(&neighbours, "null").await;
    assert_eq!(get(&neighbours, "").await, (200, "one".to_owned()));
}

#[tokio::test]
async fn versions_are_listed_in_pages() {
    let neighbours = with_bucket().await;
    for content in ["1", "2", "3"] {
        put(&neighbours, content).await;
    }
    s3(&neighbours, "PUT", "/demo/dir/other", b"x").await;
    let all = listed(&neighbours, "").await;
    let (mut seen, mut query, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        seen.extend(listed(&neighbours, &format!("&max-keys=2{query}")).await);
        pages += 1;
        let text = s3(&neighbours, "GET", &format!("/demo?versions=&max-keys=2{query}"), b"").await.text();
        let member =
            |name: &str| Some(text.split_once(&format!("<{name}>"))?.1.split_once('<')?.0.to_owned());
        let Some(key) = member("NextKeyMarker") else { break };
        query = format!("&key-marker={key}&version-id-marker={}", member("NextVersionIdMarker").unwrap());
    }
    assert_eq!((seen, pages), (all, 3));
    let grouped = s3(&neighbours, "GET", "/demo?versions=&delimiter=%2F&max-keys=1", b"").await.text();
    assert!(
        grouped.contains("<Prefix>dir/</Prefix>") && grouped.contains("<NextKeyMarker>dir/<"),
        "{grouped}"
    );
    assert_eq!(listed(&neighbours, "&delimiter=%2F&key-marker=dir%2F").await.len(), 4);
}

#[tokio::test]
async fn a_former_version_can_be_copied_and_tagged() {
    let neighbours = with_bucket().await;
    let one = put(&neighbours, "one").await;
    put(&neighbours, "two").await;
    let source = format!("/demo/key?versionId={one}");
    let copied = neighbours.call("s3", "PUT", "/demo/key", &[("x-amz-copy-source", &source)], b"").await;
    assert_eq!(copied.headers["x-amz-copy-source-version-id"], one.as_str());
    assert_eq!(get(&neighbours, "").await, (200, "one".to_owned()));
    let tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    s3(&neighbours, "PUT", &format!("/demo/key?tagging=&versionId={one}"), tags).await;
    let old = s3(&neighbours, "GET", &format!("/demo/key?tagging=&versionId={one}"), b"").await.text();
    let new = s3(&neighbours, "GET", "/demo/key?tagging=", b"").await.text();
    assert!(old.contains("<Key>a</Key>") && !new.contains("<Key>a</Key>"));
    assert_eq!(listed(&neighbours, "").await.len(), 4);
    let itself = neighbours.call("s3", "PUT", "/demo/key", &[("x-amz-copy-source", "/demo/key")], b"").await;
    assert!(itself.text().contains("<Code>InvalidRequest</Code>"), "{}", itself.text());
}

#[tokio::test]
async fn version_ids_are_not_paths() {
    let neighbours = with_bucket().await;
    put(&neighbours, "one").await;
    for version in ["..%2Fx", "", "%2E%2E", "zz"] {
        let reply = s3(&neighbours, "GET", &format!("/demo/key?versionId={version}"), b"").await;
        assert!(reply.text().contains("<Code>InvalidArgument</Code>"), "{version}: {}", reply.text());
    }
}

#[tokio::test]
async fn parts_can_be_copied_from_objects() {
    let neighbours = with_bucket().await;
    put(&neighbours, "0123456789").await;
    let begun = s3(&neighbours, "POST", "/demo/joined?uploads=", b"").await.text();
    let id = begun.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0.to_owned();
    let target = format!("/demo/joined?partNumber=1&uploadId={id}");
    let copy = async |range: &str| {
        let headers = [("x-amz-copy-source", "demo/key"), ("x-amz-copy-source-range", range)];
        neighbours.call("s3", "PUT", &target, &headers, b"").await
    };
    for range in ["bytes=5-10", "bytes=6-5", "bytes=5-", "5-6"] {
        assert_eq!(copy(range).await.status, StatusCode::BAD_REQUEST, "{range}");
    }
    let copied = copy("bytes=5-9").await.text();
    let tag = copied.split_once("<ETag>").unwrap().1.split_once('<').unwrap().0.to_owned();
    let body = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    );
    let reply = s3(&neighbours, "POST", &format!("/demo/joined?uploadId={id}"), body.as_bytes()).await;
    assert!(reply.text().contains("-1"), "{}", reply.text());
    assert_eq!(s3(&neighbours, "GET", "/demo/joined", b"").await.body, b"56789");
    let headers = [("x-amz-object-attributes", "ETag,ObjectSize,ObjectParts")];
    let text = neighbours.call("s3", "GET", "/demo/joined?attributes=", &headers, b"").await.text();
    assert!(
        text.contains("<ObjectSize>5</ObjectSize>") && text.contains("<PartsCount>1</PartsCount>"),
        "{text}"
    );
}
