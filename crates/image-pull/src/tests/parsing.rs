//! Manifests, challenges and settings that are not as they should be.

use serde_json::json;

use crate::manifest::{Document, architecture};
use crate::origin::{Origin, Origins};
use crate::registry::parameter;
use crate::spec::{CONFIG_BYTES, Failure, LAYERS, Proxy};

fn descriptor(digit: char, size: u64) -> serde_json::Value {
    json!({ "digest": format!("sha256:{}", digit.to_string().repeat(64)), "size": size })
}

fn parse(document: &serde_json::Value) -> Result<Document, Failure> {
    Document::parse(document.to_string().as_bytes(), 1000)
}

#[test]
fn sizes_and_counts_of_a_manifest_are_limited_before_anything_is_fetched() {
    let image = |config, layers: Vec<serde_json::Value>| {
        parse(&json!({ "schemaVersion": 2, "config": config, "layers": layers }))
    };
    let config = descriptor('a', 10);
    let Ok(Document::Image(found)) = image(config.clone(), vec![descriptor('b', 5), descriptor('b', 5)])
    else {
        panic!("two equal layers are one blob");
    };
    assert_eq!((found.blobs.len(), found.bytes()), (2, 15));
    let too_large = Err(Failure::ImageTooLarge(1000));
    assert_eq!(image(config.clone(), vec![descriptor('b', 991)]), too_large);
    assert_eq!(image(config.clone(), vec![descriptor('b', u64::MAX), descriptor('c', u64::MAX)]), too_large);
    assert_eq!(image(descriptor('a', CONFIG_BYTES + 1), vec![]), Err(Failure::TooLarge));
    let two_sizes = vec![descriptor('b', 1), descriptor('b', 2)];
    assert_eq!(image(config.clone(), two_sizes), Err(Failure::Manifest));
    assert_eq!(image(config.clone(), vec![descriptor('b', 0); LAYERS + 1]), Err(Failure::Manifest));
    for digest in ["sha256:../../../etc/passwd", "sha256:", "md5:00", "", "sha256:ABC"] {
        let layer = json!({ "digest": digest, "size": 1 });
        assert_eq!(image(config.clone(), vec![layer]), Err(Failure::Manifest), "{digest}");
    }
}

#[test]
fn an_index_names_the_manifest_for_this_architecture() {
    let entry = |digit, os: &str, architecture: &str| {
        let mut entry = descriptor(digit, 1);
        entry["platform"] = json!({ "os": os, "architecture": architecture });
        entry
    };
    let index = |entries: Vec<serde_json::Value>| parse(&json!({ "schemaVersion": 2, "manifests": entries }));
    let ours = architecture();
    let found = index(vec![
        descriptor('0', 1),
        entry('1', "windows", ours),
        entry('2', "linux", "s390x"),
        entry('3', "linux", ours),
    ]);
    let Ok(Document::Index(digest)) = found else { panic!("{found:?}") };
    assert_eq!(digest.hex(), "3".repeat(64));
    assert_eq!(index(vec![entry('1', "linux", "s390x")]), Err(Failure::Platform));
    assert_eq!(index(Vec::new()), Err(Failure::Platform));
}

#[test]
fn what_is_no_manifest_is_refused() {
    for text in
        ["", "null", "[]", "{}", "{\"schemaVersion\":1,\"fsLayers\":[]}", "{\"schemaVersion\":2}", "\u{0}"]
    {
        assert_eq!(Document::parse(text.as_bytes(), 1000), Err(Failure::Manifest), "{text:?}");
    }
    let deep = "[".repeat(1 << 20);
    assert_eq!(Document::parse(deep.as_bytes(), 1000), Err(Failure::Manifest));
}

#[test]
fn parameters_of_challenges_are_found_quoted_or_not() {
    let text = r#"realm="https://a.test/t,x=y", service=registry ,scope="a,b""#;
    assert_eq!(parameter(text, "realm").as_deref(), Some("https://a.test/t,x=y"));
    assert_eq!(parameter(text, "SERVICE").as_deref(), Some("registry"));
    assert_eq!(parameter(text, "scope").as_deref(), Some("a,b"));
    for broken in ["", "realm", "realm=\"", "=", ",,,", "x=\"realm=1"] {
        assert_eq!(parameter(broken, "realm").filter(|value| !value.is_empty()), None, "{broken}");
    }
}

#[test]
fn a_proxy_is_read_from_the_environment_or_refused() {
    let read =
        |value: &str| Proxy::from_environment(|name| (name == "https_proxy").then(|| value.to_owned()));
    assert!(Proxy::from_environment(|_| None).unwrap().is_none());
    assert!(read(" ").unwrap().is_none());
    let proxy = read("proxy.corp:3128").unwrap().unwrap();
    assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.corp", 3128));
    assert!(read("socks5://proxy.corp:1080").is_err());
    assert!(read("https://proxy.corp").is_err());
    let excepting = |list: &str| Proxy { except: vec![list.to_owned()], ..proxy.clone() };
    assert!(excepting("corp.test").excepts("a.CORP.test"));
    assert!(excepting("*.corp.test").excepts("corp.test"));
    assert!(excepting("*").excepts("anything"));
    assert!(!excepting("corp.test").excepts("notcorp.test"));
}

#[test]
fn fuzz_answers_of_registries() {
    let registry = "https://registry.test".parse().unwrap();
    let origins = Origins::new(&registry, false).unwrap();
    bolero::check!().for_each(|bytes: &[u8]| {
        if let Ok(Document::Image(image)) = Document::parse(bytes, 1000) {
            assert!(image.bytes() <= 1000 && image.blobs.len() <= LAYERS + 1);
        }
        let text = String::from_utf8_lossy(bytes);
        if let Some(value) = parameter(&text, "realm") {
            assert!(value.len() <= text.len());
        }
        // What a header says is joined to where it came from, and leads to TLS or nowhere.
        if let Ok(url) = registry.join(&text)
            && let Ok(target) = Origin::of(&url)
        {
            assert_eq!(origins.route(origins.registry(), &target).is_ok(), target.secure);
        }
    });
}
