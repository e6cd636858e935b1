//! Registries that mean harm.

use std::collections::BTreeMap;

use super::origin::Origins;
use super::spec::{Failure, Login, Proxy, basic};
use crate::layout::Layout;
use crate::manifest::Digest;

mod hostile;
mod parsing;

use hostile::{Reply, World, image_manifest};

const CANARY: &str = "CANARY-internal-only-4711";

/// A registry with one image, `team/app:1`, whose configuration and layer are these bytes.
fn image() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let (config, layer) = (b"{}".to_vec(), b"a layer".to_vec());
    (image_manifest(&[&config, &layer]), config, layer)
}

fn blob_path(bytes: &[u8]) -> String {
    format!("/v2/team/app/blobs/sha256:{}", Digest::of(bytes).hex())
}

#[tokio::test]
async fn tokens_go_to_the_registry_that_they_are_for_and_nowhere_else() {
    let (manifest, config, layer) = image();
    let mut world = World::new();
    let store = world.public("cdn.test", {
        let config = config.clone();
        move |_| Reply::ok(&config)
    });
    let tokens = world.public("auth.test", |seen| {
        assert!(seen.path.contains("scope=repository%3Ateam%2Fapp%3Apull"), "{}", seen.path);
        Reply::ok(br#"{"token":"abc"}"#)
    });
    let config_path = blob_path(&config);
    let registry = world.public("registry.test", move |seen| {
        if seen.authorization.as_deref() != Some("Bearer abc") {
            let challenge =
                r#"Bearer realm="https://auth.test/token",service="x",scope="repository:team/app:pull,push""#;
            return Reply::status(401).header("WWW-Authenticate", challenge);
        }
        if seen.path == "/v2/team/app/manifests/1" {
            return Reply::ok(&manifest);
        }
        if seen.path == config_path {
            return Reply::status(307).header("Location", "https://cdn.test/x?signature=y");
        }
        Reply::ok(&layer)
    });
    let directory = tempfile::tempdir().unwrap();
    let mut repository = world.repository("https://registry.test", None);
    let manifest = repository.manifest("1", 1 << 20).await.unwrap();
    let layout = Layout::create(directory.path().to_owned()).unwrap();
    repository.blobs(&manifest.image, &layout).await.unwrap();
    layout.finish(&manifest.bytes, manifest.image.media_type).unwrap();
    let blob = directory.path().join("blobs/sha256").join(Digest::of(&config).hex());
    assert_eq!(std::fs::read(blob).unwrap(), config);
    assert!(registry.seen().iter().any(|seen| seen.authorization.as_deref() == Some("Bearer abc")));
    assert_eq!(store.authorizations(), [None]);
    assert_eq!(tokens.authorizations(), [None]);
}

/// What leads elsewhere, and whether it is a redirect of the manifest, of a blob, or
/// a token server.
#[derive(Debug, Clone, Copy)]
enum Lead {
    Manifest,
    Blob,
    Realm,
}

/// What becomes of a fetch from a registry of this kind that leads to `target`.
async fn led_to(world: &mut World, lead: Lead, target: &str) -> Failure {
    let (manifest, _, _) = image();
    let target = target.to_owned();
    let _registry = world.public("evil.test", move |seen| {
        let is_manifest = seen.path.contains("/manifests/");
        match lead {
            Lead::Realm => Reply::status(401)
                .header("WWW-Authenticate", &format!("Bearer realm=\"{target}/token\",service=\"x\"")),
            Lead::Blob if is_manifest => Reply::ok(&manifest),
            Lead::Manifest | Lead::Blob => {
                Reply::status(307).header("Location", &format!("{target}/fail/secret"))
            }
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let mut repository = world.repository("https://evil.test", None);
    match repository.manifest("1", 1 << 20).await {
        Ok(manifest) => {
            let layout = Layout::create(directory.path().to_owned()).unwrap();
            repository.blobs(&manifest.image, &layout).await.unwrap_err()
        }
        Err(failure) => failure,
    }
}

#[tokio::test]
async fn no_redirect_and_no_realm_leads_from_https_to_http() {
    for lead in [Lead::Manifest, Lead::Blob, Lead::Realm] {
        let mut world = World::new();
        let internal = world.plain("internal.test", |_| Reply::ok(CANARY.as_bytes()));
        let failure = led_to(&mut world, lead, "http://internal.test").await;
        assert_eq!(failure, Failure::Refused, "{lead:?}");
        assert!(internal.seen().is_empty(), "{lead:?}");
    }
}

#[tokio::test]
async fn nothing_leads_into_the_hosts_network_and_open_ports_look_like_closed_ones() {
    let mut world = World::new();
    let open = world.public("open.test", |_| Reply::ok(CANARY.as_bytes()));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for lead in [Lead::Manifest, Lead::Blob, Lead::Realm] {
        for target in [
            format!("https://{}", open.address()),
            format!("https://{closed}"),
            "https://169.254.169.254".to_owned(),
            "https://10.0.0.1".to_owned(),
            "https://2130706433".to_owned(),
            "https://0x7f.1".to_owned(),
        ] {
            let failure = led_to(&mut world, lead, &target).await;
            assert_eq!(failure, Failure::Unreachable, "{lead:?} {target}");
        }
        for target in ["https://[::1]", "https://u:p@open.test", "file:///etc/shadow", "ftp://open.test"] {
            let failure = led_to(&mut world, lead, target).await;
            assert_eq!(failure, Failure::Refused, "{lead:?} {target}");
        }
    }
    assert!(open.seen().is_empty());
}

#[tokio::test]
async fn only_the_operators_own_registry_is_reached_in_the_host_and_only_while_it_is_asked() {
    let (manifest, _, _) = image();
    let mut world = World::new();
    let other = world.plain("other.test", |_| Reply::ok(CANARY.as_bytes()));
    let target = format!("http://{}/x", other.address());
    let mirror = world.operator(move |seen| match seen.path.as_str() {
        path if path.ends_with("/manifests/good") => Reply::ok(&manifest),
        _ => Reply::status(302).header("Location", &target),
    });
    let url = format!("http://{}", mirror.address());
    let mut repository = world.repository(&url, None);
    assert!(repository.manifest("good", 1 << 20).await.is_ok());
    assert_eq!(repository.manifest("elsewhere", 1 << 20).await.unwrap_err(), Failure::Refused);
    assert!(other.seen().is_empty());

    // The mirror's address is of no use to an image of another registry.
    let seen = mirror.seen().len();
    assert_eq!(led_to(&mut world, Lead::Manifest, &url).await, Failure::Refused);
    assert_eq!(mirror.seen().len(), seen);
    assert_eq!(Origins::new(&url.parse().unwrap(), false).unwrap_err(), Failure::Refused);
}

#[tokio::test]
async fn what_has_no_descriptor_is_limited_in_bytes() {
    let endless = |prefix: &'static str| Reply::endless(prefix.as_bytes());
    let announced = Reply::ok(b"").header("Content-Length", "1000000000");
    for reply in [endless("["), endless("{\"schemaVersion\":"), announced] {
        let mut world = World::new();
        let _registry = world.public("evil.test", move |_| reply.clone());
        let mut repository = world.repository("https://evil.test", None);
        assert_eq!(repository.manifest("1", 1 << 20).await.unwrap_err(), Failure::TooLarge);
    }
    let mut world = World::new();
    let _tokens = world.public("auth.test", move |_| Reply::endless(b"{\"token\":\""));
    let _registry = world.public("evil.test", move |_| {
        Reply::status(401).header("WWW-Authenticate", "Bearer realm=\"https://auth.test/\"")
    });
    let mut repository = world.repository("https://evil.test", None);
    assert_eq!(repository.manifest("1", 1 << 20).await.unwrap_err(), Failure::TooLarge);
}

#[tokio::test]
async fn blobs_have_the_size_and_the_digest_of_their_descriptors() {
    let (manifest, config, layer) = image();
    let longer = [layer.clone(), vec![b'x'; 1 << 20]].concat();
    let cases: [(Reply, Failure); 5] = [
        (Reply::endless(b"x"), Failure::Size),
        (Reply::ok(&longer), Failure::Size),
        (Reply::ok(&layer[..3]), Failure::Size),
        (Reply::ok(b"a layeR"), Failure::Digest),
        (Reply::ok(b"").header("Content-Length", "7"), Failure::Broken),
    ];
    for (reply, expected) in cases {
        let mut world = World::new();
        let (manifest, configuration) = (manifest.clone(), config.clone());
        let config_path = blob_path(&config);
        let _registry = world.public("evil.test", move |seen| match &seen.path {
            path if path.contains("/manifests/") => Reply::ok(&manifest),
            path if *path == config_path => Reply::ok(&configuration),
            _ => reply.clone(),
        });
        let directory = tempfile::tempdir().unwrap();
        let mut repository = world.repository("https://evil.test", None);
        let manifest = repository.manifest("1", 1 << 20).await.unwrap();
        let layout = Layout::create(directory.path().to_owned()).unwrap();
        assert_eq!(repository.blobs(&manifest.image, &layout).await.unwrap_err(), expected);
        let written = std::fs::read_dir(directory.path().join("blobs/sha256")).unwrap();
        let bytes: u64 = written.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes <= (config.len() + layer.len()) as u64, "{bytes}");
    }
}

#[tokio::test]
async fn a_manifest_by_digest_has_that_digest() {
    let (manifest, _, _) = image();
    let mut world = World::new();
    let good = format!("sha256:{}", Digest::of(&manifest).hex());
    let _registry = world.public("evil.test", move |_| Reply::ok(&manifest));
    let mut repository = world.repository("https://evil.test", None);
    assert!(repository.manifest(&good, 1 << 20).await.is_ok());
    let other = format!("sha256:{}", "0".repeat(64));
    assert_eq!(repository.manifest(&other, 1 << 20).await.unwrap_err(), Failure::Digest);
}

#[tokio::test]
async fn bodies_of_refusals_are_not_read_and_failures_are_our_words() {
    for (status, failure) in
        [(500, Failure::Status(500)), (404, Failure::NoSuchImage), (403, Failure::Unauthorized(403))]
    {
        let mut world = World::new();
        let _registry = world.public("evil.test", move |_| {
            let mut reply = Reply::status(status).header("X-Canary", CANARY);
            reply.body = CANARY.repeat(1 << 10).into_bytes();
            reply
        });
        let mut repository = world.repository("https://evil.test", None);
        let found = repository.manifest("1", 1 << 20).await.unwrap_err();
        assert_eq!(found, failure);
        assert!(!found.to_string().contains("CANARY"));
    }
}

#[tokio::test]
async fn a_password_is_told_to_the_registry_and_to_the_named_token_server_only() {
    let login = |token_host: Option<&str>| Login {
        username: "user".into(),
        password: "secret".into(),
        token_host: token_host.map(str::to_owned),
    };
    for (token_host, told) in [(None, false), (Some("other.test"), false), (Some("auth.test"), true)] {
        let (manifest, _, _) = image();
        let mut world = World::new();
        let tokens = world.public("auth.test", |_| Reply::ok(br#"{"access_token":"abc"}"#));
        let registry = world.public("registry.test", move |seen| match &seen.authorization {
            None => Reply::status(401).header("WWW-Authenticate", "Bearer realm=\"https://auth.test/\""),
            Some(_) => Reply::ok(&manifest),
        });
        let mut repository = world.repository("https://registry.test", Some(login(token_host)));
        let result = repository.manifest("1", 1 << 20).await.map(|_| ());
        assert_eq!(result, if told { Ok(()) } else { Err(Failure::TokenHost) }, "{token_host:?}");
        assert_eq!(tokens.authorizations().contains(&Some(basic("user", "secret"))), told);
        assert!(!registry.authorizations().contains(&Some(basic("user", "secret"))));
    }
    let (manifest, _, _) = image();
    let mut world = World::new();
    let registry = world.public("registry.test", move |seen| match &seen.authorization {
        None => Reply::status(401).header("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) => Reply::ok(&manifest),
    });
    let mut repository = world.repository("https://registry.test", Some(login(None)));
    assert!(repository.manifest("1", 1 << 20).await.is_ok());
    assert_eq!(registry.authorizations(), [None, Some(basic("user", "secret"))]);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_sends_a_byte_now_and_then_is_cut_off_by_a_total_limit() {
    let mut world = World::new();
    let _registry = world.public("evil.test", |_| Reply::dripping(b" ", 200));
    let mut repository = world.repository("https://evil.test", None);
    assert_eq!(
        crate::child::manifest_in_time(&mut repository, "1", 1 << 20).await.unwrap_err(),
        Failure::TooSlow
    );
}

#[tokio::test]
async fn all_but_excepted_hosts_go_through_the_operators_proxy() {
    let (manifest, _, _) = image();
    let mut world = World::new();
    let body = manifest.clone();
    let _far = world.public("far.test", move |_| Reply::ok(&body));
    let near = world.public("near.test", move |_| Reply::ok(&manifest));
    let variables = BTreeMap::from([
        ("HTTPS_PROXY", "http://me:p%40ss@127.0.0.1:1"),
        ("NO_PROXY", "localhost, .near.test"),
    ]);
    let proxy =
        Proxy::from_environment(|name| variables.get(name).map(ToString::to_string)).unwrap().unwrap();
    let connects = world.proxy(proxy);
    assert!(world.repository("https://far.test", None).manifest("1", 1 << 20).await.is_ok());
    assert!(world.repository("https://near.test", None).manifest("1", 1 << 20).await.is_ok());
    assert_eq!(near.seen().len(), 1);
    for target in ["https://127.0.0.1", "https://169.254.169.254"] {
        let failure = world.repository(target, None).manifest("1", 1 << 20).await.unwrap_err();
        assert_eq!(failure, Failure::Unreachable);
    }
    let heads = connects.lock().unwrap().clone();
    assert_eq!(heads.len(), 1, "{heads:?}");
    assert!(heads[0].starts_with("CONNECT far.test:443 HTTP/1.1\r\n"), "{heads:?}");
    assert!(heads[0].contains(&format!("Proxy-Authorization: {}\r\n", basic("me", "p@ss"))), "{heads:?}");
}
