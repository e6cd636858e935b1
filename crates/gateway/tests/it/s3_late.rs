//! Requests that arrive when their bucket is another's by now.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt as _, StreamExt as _};
use http::{Request, StatusCode};

use crate::support::{Keys, Neighbours};

/// A PUT of `size` bytes E whose body comes as it is sent.
fn slow_put(target: &str, size: usize) -> (mpsc::Sender<Bytes>, Request<Body>) {
    let body = vec![b'E'; size];
    let (parts, _) = Keys::other_root().sign::<Vec<u8>>("s3", "PUT", target, &[], &body).into_parts();
    let (sender, receiver) = mpsc::channel(0);
    let stream = receiver.map(Ok::<_, std::convert::Infallible>);
    (sender, Request::from_parts(parts, Body::from_stream(stream)))
}

async fn put(neighbours: &Neighbours, keys: &Keys, target: &str, body: &[u8]) {
    let reply = neighbours.send(keys.sign("s3", "PUT", target, &[], body)).await;
    assert_eq!(reply.status, StatusCode::OK, "{target}: {}", reply.text());
}

async fn remove(neighbours: &Neighbours, target: &str) {
    let reply = neighbours.send(Keys::other_root().sign("s3", "DELETE", target, &[], b"")).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
}

#[tokio::test]
async fn an_upload_ends_in_the_bucket_it_was_begun_in_or_nowhere() {
    const LONG: usize = (5 << 20) + 7;
    for (size, part) in [(LONG, false), (LONG, true), (1000, false), (1000, true)] {
        let neighbours = Neighbours::start().await;
        put(&neighbours, &Keys::other_root(), "/shared", b"").await;
        let begun = Keys::other_root().sign("s3", "POST", "/shared/key?uploads=", &[], b"");
        let upload = neighbours.send(begun).await.ok().field("UploadId");
        let target = if part {
            format!("/shared/key?partNumber=1&uploadId={upload}")
        } else {
            "/shared/key".to_owned()
        };
        let (mut sender, request) = slow_put(&target, size);
        let swap = async {
            sender.send(Bytes::from(vec![b'E'; size - 1])).await.unwrap();
            // A long body is authorised before it is read; this one is being written by now.
            while size == LONG && neighbours.temporary_files() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            remove(&neighbours, "/shared").await;
            put(&neighbours, &Keys::root(), "/shared", b"").await;
            put(&neighbours, &Keys::root(), "/shared/key", b"good").await;
            sender.send(Bytes::from_static(b"E")).await.unwrap();
            drop(sender);
        };
        let (reply, ()) = tokio::join!(neighbours.send(request), swap);
        let refused = [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN].contains(&reply.status);
        assert!(refused, "{size} {part}: {} {}", reply.status, reply.text());
        assert_eq!(neighbours.call("s3", "GET", "/shared/key", &[], b"").await.body, b"good");
        assert_eq!(neighbours.temporary_files(), 0);
    }
}

#[tokio::test]
async fn a_data_directory_from_before_buckets_had_identities_goes_on_working() {
    let neighbours = Neighbours::start().await;
    // The old layout: no id, and everything in the directory of the name.
    for (target, body) in [("/old", b"".as_slice()), ("/old/a", b"first"), ("/old/b", b"second")] {
        put(&neighbours, &Keys::root(), target, body).await;
    }
    let directory = neighbours.directory.path().join("old");
    let id = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let id = id.into_iter().find(|path| path.is_dir()).unwrap();
    std::fs::rename(id.join("objects"), directory.join("objects")).unwrap();
    std::fs::remove_dir_all(&id).unwrap();
    std::fs::write(directory.join("bucket.json"), r#"{"created_ms":0}"#).unwrap();
    let neighbours = neighbours.restart().await;

    assert_eq!(neighbours.call("s3", "GET", "/old/a", &[], b"").await.body, b"first");
    put(&neighbours, &Keys::root(), "/old/c", b"third").await;
    let list = neighbours.call("s3", "GET", "/old?list-type=2", &[], b"").await;
    assert_eq!(list.fields("Key"), ["a", "b", "c"]);
    let versioned = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let reply = neighbours.call("s3", "PUT", "/old?versioning=", &[], versioned).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    put(&neighbours, &Keys::root(), "/old/a", b"fourth").await;
    let versions = neighbours.call("s3", "GET", "/old?versions=&prefix=a", &[], b"").await;
    assert_eq!(versions.fields("VersionId").len(), 2);
    // It belongs to the first account, as before.
    let foreign = Keys::other_root().sign("s3", "GET", "/old/a", &[], b"");
    assert_eq!(neighbours.send(foreign).await.status, StatusCode::FORBIDDEN);
}
