//! The real process, in a network namespace of the test. These tests need root.

#![allow(clippy::unwrap_used, reason = "clippy's own exception covers test functions but not what they call")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use hearth_image_pull::{Failure, Fetch, PullLimits, PullSpec};
use nix::sched::{CloneFlags, unshare};

const UID: u32 = 0x4fff_0001;

/// A namespace with nothing in it.
fn namespace() -> OwnedFd {
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap().into()
    })
    .join()
    .unwrap()
}

/// A registry on loopback with one image of an empty configuration and a layer of 3 MiB; returns its URL and its digest.
fn registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let layer = vec![7; 3 << 20];
                let body = if head.contains("/manifests/") {
                    manifest(&layer)
                } else if head.contains(&sha256(b"{}")) {
                    b"{}".to_vec()
                } else {
                    layer
                };
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                // The client may have gone.
                let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&body));
            });
        }
    });
    format!("http://{address}")
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
}

fn manifest(layer: &[u8]) -> Vec<u8> {
    let descriptor = |bytes: &[u8]| serde_json::json!({ "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len() });
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": descriptor(b"{}"), "layers": [descriptor(layer)],
    });
    serde_json::to_vec(&manifest).unwrap()
}

fn spec(layout: &Path, registry: &str, from_operator: bool) -> PullSpec {
    chown(layout, Some(UID), Some(UID)).unwrap();
    PullSpec {
        uid: UID,
        layout: layout.to_owned(),
        registry: registry.to_owned(),
        repository: "team/app".into(),
        reference: "1".into(),
        from_operator,
        proxy: None,
        login: None,
        ca_bundle: None,
        allowed_ranges: Vec::new(),
        limits: PullLimits { image_bytes: 64 << 20, seconds: 60 },
    }
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_hearth-image-pull-test-child"))
}

#[tokio::test]
async fn the_operators_registry_is_reached_from_a_namespace_that_leads_nowhere() {
    let (directory, registry, namespace) = (tempfile::tempdir().unwrap(), registry(), namespace());
    let spec = spec(directory.path(), &registry, true);
    let (fetch, resolved) = Fetch::start(program(), &spec, namespace.as_fd()).await.unwrap();
    assert_eq!(resolved.digest, sha256(&manifest(&vec![7; 3 << 20])));
    assert_eq!(resolved.bytes, (3 << 20) + 2);
    fetch.finish(&resolved).await.unwrap();
    let blob = directory.path().join("blobs/sha256").join(sha256(&vec![7; 3 << 20]));
    let metadata = blob.metadata().unwrap();
    assert_eq!(
        (metadata.len(), metadata.uid(), metadata.permissions().mode() & 0o777),
        (3 << 20, UID, 0o644)
    );
    assert!(directory.path().join("index.json").is_file());
}

#[tokio::test]
async fn what_a_tenant_names_is_not_reached_in_the_host() {
    let (directory, registry, namespace) = (tempfile::tempdir().unwrap(), registry(), namespace());
    let address = registry.strip_prefix("http://").unwrap();
    let failure = async |url: &str| {
        let spec = spec(directory.path(), url, false);
        Fetch::start(program(), &spec, namespace.as_fd()).await.map(|_| ()).unwrap_err()
    };
    assert_eq!(failure(&registry).await, Failure::Refused);
    assert_eq!(failure(&format!("https://{address}")).await, Failure::Unreachable);
    assert_eq!(failure("https://localhost").await, Failure::Unreachable);
    assert_eq!(failure("https://169.254.169.254").await, Failure::Unreachable);
}

#[tokio::test]
async fn a_fetch_that_is_dropped_is_ended() {
    let (directory, namespace) = (tempfile::tempdir().unwrap(), namespace());
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = spec(directory.path(), &format!("http://{}", silent.local_addr().unwrap()), true);
    let starting = Fetch::start(program(), &spec, namespace.as_fd());
    let accepted = tokio::task::spawn_blocking(move || {
        let mut stream = silent.accept().unwrap().0;
        let mut head = [0; 37];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"GET /v2/team/app/manifests/1 HTTP/1.1");
        stream
    });
    let mut stream = tokio::select! {
        started = starting => panic!("{:?}", started.map(|_| ())),
        stream = accepted => stream.unwrap(),
    };
    // The connection is closed when the process is gone; a reset is as good an end.
    let read = tokio::task::spawn_blocking(move || stream.read_to_end(&mut Vec::new()).is_ok());
    let _ = read.await.unwrap();
}
