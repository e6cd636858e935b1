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
struct Image(tempfile::TempDir);

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
            .args(["-q", "-b", "4096", "-t", "ext4", "-d"])
            .args([&root, &disk])
            .arg("16M")
            .status();
        assert!(made.unwrap().success());
        let mut bytes = memory.to_vec();
        bytes.resize(16 * PAGE, 0);
        fs::write(directory.path().join("memory"), bytes).unwrap();
        Self(directory)
    }

    fn report(
        &self,
        inspection: &Inspection,
        environment: &BTreeMap<String, String>,
        time: Duration,
    ) -> Report {
        let open = |name| File::open(self.0.path().join(name)).unwrap();
        inspect(&Sources {
            inspection,
            environment,
            disk: &open("disk"),
            memory: &open("memory"),
            memory_offset: |bytes, address| (address < bytes).then_some(address),
            time,
        })
    }

    /// The report of a disk whose bytes were changed.
    fn report_of(&self, disk: &[u8]) -> Report {
        fs::write(self.0.path().join("disk"), disk).unwrap();
        self.report(&Inspection { complete: true, ..Inspection::default() }, &BTreeMap::new(), LONG)
    }

    fn disk(&self) -> Vec<u8> {
        fs::read(self.0.path().join("disk")).unwrap()
    }

    /// Writes to the disk as its guest can.
    fn debugfs(&self, command: &str) {
        let output = Command::new("debugfs")
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .args(["-w", "-R", command])
            .arg(self.0.path().join("disk"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.lines().count() == 1, "{errors}");
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
    // A token in the process lies across two pages that are far from each other, and in the wrong
    // order, in the guest.
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
    fs::write(image.0.path().join("disk"), vec![7; 1 << 20]).unwrap();
    let damaged = image.report(&Inspection::default(), &BTreeMap::new(), LONG);
    let said = damaged.search.left_out.join(" ");
    for part in ["The root disk could not be read", "The guest could not tell"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn what_an_inode_claims_to_hold_is_not_made_room_for() {
    const TIB_8: &str = "8796093022208";
    let image = Image::new(
        &[
            ("var/lib/dpkg/info/zz.list", "/usr/share/doc\n".into()),
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\n".into()),
            ("srv/sparse", key()),
            ("srv/other", token('o')),
        ],
        &[],
    );
    for path in ["/var/lib/dpkg/info/zz.list", "/etc/passwd", "/srv/sparse"] {
        image.debugfs(&format!("set_inode_field {path} size {TIB_8}"));
    }
    let report = image.report(&inspection(Vec::new()), &BTreeMap::new(), LONG);
    assert_eq!(report.findings.len(), 2, "what is there is found: {:?}", report.findings);
    assert_eq!(report.processes[0].user, "33", "a list that is too long says nothing");
    let said = report.search.left_out.join(" ");
    assert_eq!(said, "3 files are longer than is searched of one file; only their beginning was.");
    assert!(report.search.file_bytes < 100 << 20, "{:?}", report.search);
}

#[test]
fn a_superblock_that_claims_too_much_is_not_believed() {
    let image = Image::new(&[("srv/key.pem", key())], &[]);
    let good = image.disk();
    assert_eq!(image.report_of(&good).search.left_out, Vec::<String>::new());
    // Offsets of the superblock's fields, and what is written there.
    for (field, value) in [
        (0x4, u32::MAX),
        (0x18, 21),
        (0x18, 7),
        (0x18, u32::MAX),
        (0x20, 1),
        (0x20, 0),
        (0x28, 0),
        (0x58, 0x1_0001),
        (0x150, 1),
        (0x38, 0),
    ] {
        let mut disk = good.clone();
        disk[1024 + field..1024 + field + 4].copy_from_slice(&value.to_le_bytes());
        let said = image.report_of(&disk).search.left_out.join(" ");
        assert!(said.starts_with("The root disk could not be read: "), "{field:#x} {value:#x}: {said}");
    }
    for length in [0, 1, 1024, 1500, 2048, 4096, 1 << 20] {
        let said = image.report_of(&good[..length]).search.left_out.join(" ");
        assert!(said.contains("could not be read"), "{length}: {said}");
    }
}

/// Checksums would refuse nearly every change, so that nothing behind them was tried; a
/// guest makes right ones.
#[test]
fn fuzz_disks() {
    let image = Image::new(
        &[
            ("srv/deep/er/key.pem", key()),
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\n".into()),
            ("var/lib/dpkg/info/openssl.list", "/.\n/usr/share/test.pem\n".into()),
        ],
        &[],
    );
    let status = Command::new("tune2fs")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .args(["-O", "^metadata_csum"])
        .arg(image.0.path().join("disk"))
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let good = image.disk();
    // Most of a disk is empty: only what is not is changed.
    let used: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    let path = image.0.path().join("disk");
    let memory = File::open(image.0.path().join("memory")).unwrap();
    bolero::check!().with_type::<Vec<(u32, u8)>>().for_each(|changes| {
        let file = fs::File::options().read(true).write(true).open(&path).unwrap();
        let places: Vec<usize> = changes.iter().map(|(at, _)| used[*at as usize % used.len()]).collect();
        for (at, (_, value)) in places.iter().zip(changes) {
            std::os::unix::fs::FileExt::write_all_at(&file, &[*value], *at as u64).unwrap();
        }
        let inspection = inspection(Vec::new());
        let report = inspect(&Sources {
            inspection: &inspection,
            environment: &BTreeMap::new(),
            disk: &file,
            memory: &memory,
            memory_offset: |bytes, address| (address < bytes).then_some(address),
            time: Duration::from_millis(200),
        });
        assert!(report.findings.len() <= 3, "{:?}", report.findings);
        for at in places {
            std::os::unix::fs::FileExt::write_all_at(&file, &good[at..=at], at as u64).unwrap();
        }
    });
}
