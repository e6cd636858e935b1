//! The real process, in a network namespace of the test. These tests need root.

#![allow(clippy::unwrap_used, reason = "clippy's own exception covers test functions but not what they call")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hearth_confined::cgroup::{Cgroups, Hierarchy};
use hearth_image_pull::{Failure, Fetch, PullLimits, PullSpec};
use nix::sched::{CloneFlags, unshare};

const UID: u32 = 0x4fff_0001;

static CGROUPS: LazyLock<Arc<Cgroups>> = LazyLock::new(|| Arc::new(Cgroups::probe()));

/// A namespace with nothing in it.
fn namespace() -> OwnedFd {
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap().into()
    })
    .join()
    .unwrap()
}

/// A registry on loopback with one image of an empty configuration and a layer of 3 MiB; returns
/// its URL and its digest.
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
    spec_of(UID, layout, registry, from_operator)
}

fn spec_of(uid: u32, layout: &Path, registry: &str, from_operator: bool) -> PullSpec {
    chown(layout, Some(uid), Some(uid)).unwrap();
    PullSpec {
        uid,
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
    let (fetch, resolved) = Fetch::start(program(), &spec, namespace.as_fd(), &CGROUPS).await.unwrap();
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
        Fetch::start(program(), &spec, namespace.as_fd(), &CGROUPS).await.map(|_| ()).unwrap_err()
    };
    assert_eq!(failure(&registry).await, Failure::Refused);
    assert_eq!(failure(&format!("https://{address}")).await, Failure::Unreachable);
    assert_eq!(failure("https://localhost").await, Failure::Unreachable);
    assert_eq!(failure("https://169.254.169.254").await, Failure::Unreachable);
}

/// A fetch that has asked a registry that says nothing: the specification's user,
/// and the connection.
async fn silent_fetch(uid: u32) -> (tempfile::TempDir, std::net::TcpStream, impl Future<Output = ()>) {
    let (directory, namespace) = (tempfile::tempdir().unwrap(), namespace());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = spec_of(uid, directory.path(), &format!("http://{}", silent.local_addr().unwrap()), true);
    let accepted = tokio::task::spawn_blocking(move || {
        let mut stream = silent.accept().unwrap().0;
        let mut head = [0; 37];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"GET /v2/team/app/manifests/1 HTTP/1.1");
        stream
    });
    let mut starting = Box::pin(async move {
        let started = Fetch::start(program(), &spec, namespace.as_fd(), &CGROUPS).await;
        // The thread that accepts waits for a connection for ever.
        println!("{:?}", started.map(|_| ()));
        std::process::exit(1);
    });
    let stream = tokio::select! {
        () = &mut starting => unreachable!(),
        stream = accepted => stream.unwrap(),
    };
    (directory, stream, starting)
}

#[tokio::test]
async fn a_fetch_that_is_dropped_is_ended() {
    let (_directory, mut stream, fetch) = silent_fetch(UID).await;
    drop(fetch);
    // The connection is closed when the process is gone; a reset is as good an end.
    let read = tokio::task::spawn_blocking(move || stream.read_to_end(&mut Vec::new()).is_ok());
    let _ = read.await.unwrap();
}

/// What `/proc/<pid>` says of the only process of this user.
fn of_user(uid: u32, file: &str) -> String {
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let of_user = processes.filter(|path| path.metadata().is_ok_and(|metadata| metadata.uid() == uid));
    let mut statuses = of_user.filter_map(|path| {
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        status
            .contains(&format!("Uid:\t{uid}\t{uid}"))
            .then(|| std::fs::read_to_string(path.join(file)).unwrap())
    });
    statuses.next().expect("no process of the user")
}

/// Directory of a process's group in this hierarchy, by what `/proc/<pid>/cgroup` says.
fn group_of(hierarchy: &Result<Hierarchy, String>, groups: &str) -> Option<PathBuf> {
    match hierarchy {
        Ok(Hierarchy::V1(parent) | Hierarchy::V2(parent)) => {
            let name = groups.split_once("/hearth/child-fetch-").expect("no group").1.lines().next().unwrap();
            Some(parent.join(format!("child-fetch-{name}")))
        }
        Err(reason) => {
            println!("skipped in part: {reason}");
            None
        }
    }
}

#[tokio::test]
async fn the_process_has_a_filter_and_groups_that_go_with_it() {
    let uid = UID + 1;
    let (_directory, _stream, fetch) = silent_fetch(uid).await;
    let status = of_user(uid, "status");
    assert!(status.contains("Seccomp:\t2") && status.contains("Threads:\t1"), "{status}");
    let groups = of_user(uid, "cgroup");
    let groups: Vec<_> =
        [&CGROUPS.memory, &CGROUPS.pids].into_iter().filter_map(|all| group_of(all, &groups)).collect();
    assert!(groups.iter().all(|group| group.exists()), "{groups:?}");
    drop(fetch);
    for group in groups {
        while group.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A namespace in which the relay's address leads to these sockets.
fn namespace_with_relay() -> (OwnedFd, UdpSocket, TcpListener) {
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let relay = hearth_host_net::RESOLVER_ADDRESS;
        let script = format!(
            "ip link set lo up && ip address add {relay}/32 dev lo && nft 'add table inet hearth; \
             add chain inet hearth input {{ type filter hook input priority filter; }}; \
             add rule inet hearth input iifname lo accept'"
        );
        assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
        let namespace = File::open("/proc/thread-self/ns/net").unwrap().into();
        (namespace, UdpSocket::bind((relay, 53)).unwrap(), TcpListener::bind((relay, 53)).unwrap())
    })
    .join()
    .unwrap()
}

#[tokio::test]
async fn names_are_asked_for_over_udp_and_tcp() {
    let (directory, (namespace, udp, tcp)) = (tempfile::tempdir().unwrap(), namespace_with_relay());
    let asked = tokio::task::spawn_blocking(move || {
        let mut question = [0; 512];
        let (length, client) = udp.recv_from(&mut question).unwrap();
        // An answer that is cut off (RFC 1035, section 4.1.1: QR, TC).
        question[2] |= 0x82;
        udp.send_to(&question[..length], client).unwrap();
        let mut stream = tcp.accept().unwrap().0;
        let mut again = vec![0; length + 2];
        stream.read_exact(&mut again).unwrap();
        assert_eq!(again[4] & 0x80, 0, "a question");
        assert!(again.windows(15).any(|name| name == b"\x08registry\x04test\0"), "{again:?}");
        // The same, with one address, 127.0.0.1 (answers: 1; a pointer to the name,
        // A, IN, 60 s, 4 bytes).
        let answer = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01";
        again[4] |= 0x80;
        again[9] = 1;
        again.extend(answer);
        let length = u16::try_from(again.len() - 2).unwrap();
        again[..2].copy_from_slice(&length.to_be_bytes());
        stream.write_all(&again).unwrap();
    });
    let spec = spec_of(UID + 5, directory.path(), "https://registry.test", false);
    let failure = Fetch::start(program(), &spec, namespace.as_fd(), &CGROUPS).await.map(|_| ()).unwrap_err();
    assert_eq!(failure, Failure::Unreachable, "loopback is not for tenants");
    asked.await.unwrap();
}

/// What a fetch fails with whose process does this instead; see `tests/bin/child.rs`.
async fn instead(behaviour: &str, uid: u32) -> Failure {
    let (directory, namespace) = (tempfile::tempdir().unwrap(), namespace());
    let taken_over = directory.path().join(behaviour);
    std::os::unix::fs::symlink(program(), &taken_over).unwrap();
    let layout = directory.path().join("layout");
    std::fs::create_dir(&layout).unwrap();
    let spec = spec_of(uid, &layout, "http://127.0.0.1:1", true);
    Fetch::start(&taken_over, &spec, namespace.as_fd(), &CGROUPS).await.map(|_| ()).unwrap_err()
}

#[tokio::test]
async fn a_forbidden_system_call_is_a_failed_fetch_with_a_sentence() {
    for behaviour in ["executes", "starts-a-thread", "listens", "leaves"] {
        let failure = instead(behaviour, UID + 2).await;
        assert_eq!(failure, Failure::Forbidden, "{behaviour}");
        assert!(failure.to_string().contains("tried what it may not do"), "{failure}");
    }
}

#[tokio::test]
async fn what_a_client_does_not_need_is_refused() {
    assert_eq!(instead("explores", UID + 3).await, Failure::Status(200), "each try failed with EPERM");
}

#[tokio::test]
async fn memory_is_bounded_by_a_group() {
    if let Err(reason) = &CGROUPS.memory {
        println!("skipped: {reason}");
        return;
    }
    let failure = instead("allocates", UID + 4).await;
    assert_eq!(failure, Failure::Starved);
    assert!(failure.to_string().contains("more memory"), "{failure}");
}
