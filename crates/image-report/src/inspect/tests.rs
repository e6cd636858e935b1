use std::fs;
use std::process::Command;

use hearth_guest_protocol::{PageRun, Region};

use super::*;
use crate::report::SecretKind;

const PAGE: usize = 4096;

/// Put together here, so that no scanner of repositories takes this file for a leak.
fn token(letter: char) -> String {
    format!("ghp{}{}", "_", letter.to_string().repeat(36))
}

fn key() -> String {
    let body = "MHcCAQEEIBsX".repeat(8);
    format!("-----BEGIN EC {0}-----\n{body}\n-----END EC {0}-----\n", "PRIVATE KEY")
}

/// A directory with the files of an image: a root disk, made by mke2fs, and a memory of 16 pages.
struct Image(tempfile::TempDir, CancellationToken);

impl Image {
    fn new(files: &[(&str, String)], memory: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let disk = directory.path().join("disk");
        let made = Command::new("mke2fs")
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .args(["-q", "-t", "ext4", "-d"])
            .args([&root, &disk])
            .arg("16M")
            .status();
        assert!(made.unwrap().success());
        let mut bytes = memory.to_vec();
        bytes.resize(16 * PAGE, 0);
        fs::write(directory.path().join("memory"), bytes).unwrap();
        Self(directory, CancellationToken::new())
    }

    fn report(
        &self,
        inspection: &Inspection,
        environment: &BTreeMap<String, String>,
        time: Duration,
    ) -> Report {
        inspect(&Sources {
            inspection,
            environment,
            disk: &self.0.path().join("disk"),
            memory: &self.0.path().join("memory"),
            memory_offset: |bytes, address| (address < bytes).then_some(address),
            time,
            stopped: &self.1,
        })
    }
}

fn inspection(runs: Vec<PageRun>) -> Inspection {
    let regions = vec![Region { name: "[heap]".into(), pages: runs }];
    let mapped = vec!["/usr/lib/libcrypto.so.3".into(), "/usr/lib/libc.so.6".into()];
    Inspection {
        processes: vec![Process { pid: 7, uid: 33, command: "app".into(), mapped, regions }],
        listening: vec![Socket { address: "0.0.0.0:8080".into(), pid: Some(7) }],
        outbound: vec![Socket { address: "203.0.113.2:443".into(), pid: None }],
        complete: true,
    }
}

fn run(page: u64, frame: u64) -> PageRun {
    PageRun { page, frame, count: 1 }
}

const LONG: Duration = Duration::from_mins(1);

#[test]
fn everything_is_named_and_no_secret_told() {
    // A token in the process lies across two pages that are far from each other, and in the wrong order, in the guest.
    let mut memory = vec![0; 16 * PAGE];
    let text = token('m');
    memory[10 * PAGE - 15..10 * PAGE].copy_from_slice(&text.as_bytes()[..15]);
    memory[3 * PAGE..3 * PAGE + 25].copy_from_slice(&text.as_bytes()[15..]);
    let image = Image::new(
        &[
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/:/bin/sh\n".into()),
            ("srv/deep/er/key.pem", key()),
            ("root/copy.pem", format!("{}{}", "x".repeat(3 << 20), key())),
            ("usr/share/test.pem", key().replace("MHc", "MHd")),
            ("usr/local/own.pem", key().replace("MHc", "MHe")),
            ("var/lib/dpkg/info/openssl.list", "/.\n/usr/share/test.pem\n".into()),
        ],
        &memory,
    );
    let environment =
        BTreeMap::from([("TOKEN".to_owned(), token('e')), ("PATH".to_owned(), "/bin".to_owned())]);
    let report = image.report(&inspection(vec![run(100, 9), run(101, 3)]), &environment, LONG);
    let found: Vec<_> =
        report.findings.iter().map(|finding| (finding.kind, finding.places.clone())).collect();
    let file = |path: &str| Place::File { path: path.into() };
    let memory = Place::Memory { pid: 7, command: "app".into(), region: "[heap]".into() };
    assert_eq!(
        found,
        [
            (SecretKind::PrivateKey, vec![file("/root/copy.pem"), file("/srv/deep/er/key.pem")]),
            (SecretKind::PrivateKey, vec![file("/usr/local/own.pem")]),
            (SecretKind::GithubToken, vec![Place::Environment { name: "TOKEN".into() }]),
            (SecretKind::GithubToken, vec![memory]),
        ]
    );
    assert_eq!(report.search.left_out, Vec::<String>::new());
    assert_eq!(report.search.memory_bytes, 2 * PAGE as u64);
    assert_eq!(report.processes[0].user, "www");
    assert_eq!(report.processes[0].own_random_numbers, ["libcrypto.so.3"]);
    assert_eq!((report.listening[0].pid, report.outbound_connections[0].pid), (Some(7), None));
    let json = serde_json::to_string(&report).unwrap();
    for secret in [token('m'), token('e'), "MHcCAQEE".into()] {
        assert!(!json.contains(&secret), "{json}");
    }
}

#[test]
fn a_guest_that_lies_about_its_pages_is_not_believed() {
    let image = Image::new(&[("a", String::new())], token('m').as_bytes());
    let far =
        vec![run(1, u64::MAX), run(2, 16), PageRun { page: u64::MAX, frame: 15, count: u32::MAX }, run(3, 0)];
    let report = image.report(&inspection(far), &BTreeMap::new(), LONG);
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.search.memory_bytes, PAGE as u64);
}

#[test]
fn what_cannot_be_searched_is_said() {
    let image = Image::new(&[("key.pem", key())], &[]);
    let late = image.report(&inspection(vec![run(1, 1)]), &BTreeMap::new(), Duration::ZERO);
    assert_eq!(late.findings, []);
    assert_eq!(late.search.left_out.len(), 2, "{:?}", late.search);
    image.1.cancel();
    let stopped = image.report(&inspection(vec![run(1, 1)]), &BTreeMap::new(), LONG);
    assert_eq!(stopped.search.left_out, late.search.left_out);
    fs::write(image.0.path().join("disk"), vec![7; 1 << 20]).unwrap();
    fs::remove_file(image.0.path().join("memory")).unwrap();
    let damaged = image.report(&Inspection::default(), &BTreeMap::new(), LONG);
    let said = damaged.search.left_out.join(" ");
    for part in
        ["The memory could not be read", "The root disk could not be read", "The guest could not tell"]
    {
        assert!(said.contains(part), "{said}");
    }
}
