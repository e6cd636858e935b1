//! Buckets in the host's name.

use http::StatusCode;

use crate::support::{Keys, Neighbours, Reply};

async fn at(neighbours: &Neighbours, host: &str, method: &str, target: &str, body: &[u8]) -> Reply {
    neighbours.send(Keys::root().sign_to(host, "s3", method, target, &[], body)).await
}

#[tokio::test]
async fn a_bucket_is_in_the_hosts_name_or_in_the_path() {
    let neighbours = Neighbours::start().await;
    let virtual_host = "demo.localhost:9400";
    at(&neighbours, virtual_host, "PUT", "/", b"").await.ok();
    at(&neighbours, virtual_host, "PUT", "/dir/a%20b", b"x").await.ok();
    for host in ["localhost:9400", "127.0.0.1:9400", "server.lan:9400"] {
        assert_eq!(at(&neighbours, host, "GET", "/demo/dir/a%20b", b"").await.body, b"x", "{host}");
    }
    assert_eq!(at(&neighbours, virtual_host, "GET", "/?list-type=2", b"").await.fields("Key"), ["dir/a b"]);
    assert_eq!(at(&neighbours, "localhost", "GET", "/", b"").await.fields("Name"), ["demo"]);
    let copy = [("x-amz-copy-source", "demo/dir/a%20b")];
    let request = Keys::root().sign_to(virtual_host, "s3", "PUT", "/copy", &copy, b"");
    neighbours.send(request).await.ok();
    assert_eq!(at(&neighbours, virtual_host, "GET", "/copy", b"").await.body, b"x");
}

#[tokio::test]
async fn in_a_bucket_of_its_own_host_every_path_is_a_key() {
    let neighbours = Neighbours::start().await;
    let (virtual_host, key) = ("demo.localhost", "/2025-09-09/report");
    at(&neighbours, virtual_host, "PUT", "/", b"").await.ok();
    at(&neighbours, virtual_host, "PUT", key, b"x").await.ok();
    assert_eq!(at(&neighbours, virtual_host, "GET", key, b"").await.body, b"x");
    assert_eq!(at(&neighbours, "localhost", "GET", key, b"").await.status, StatusCode::IM_A_TEAPOT);
}
