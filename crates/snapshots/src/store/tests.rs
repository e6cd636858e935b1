use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

/// A data directory and its snapshots.
pub(crate) struct Data(tempfile::TempDir, pub(crate) Snapshots);

impl Data {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(directory.path()).unwrap();
        Self(directory, snapshots)
    }

    /// As after a restart.
    pub(crate) fn reopened(&self) -> Snapshots {
        Snapshots::open(self.0.path()).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A reference of this microVM, whose directory exists then.
    pub(crate) fn reference(&self, holder: &str) -> PathBuf {
        let directory = self.path("microvms").join(holder);
        fs::create_dir_all(&directory).unwrap();
        directory.join("snapshot.json")
    }

    pub(crate) fn kept(&self) -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<_> = entries(&self.path("snapshots")).iter().map(name).collect();
        names.sort();
        names
    }
}

/// Writes what a driver would: a part of its own, links of those of another snapshot, and a
/// manifest with the name and the digest of each.
pub(crate) fn write(draft: &Path, content: &str, before: Option<&Lease>) {
    let _ = fs::remove_dir_all(draft);
    fs::create_dir_all(draft).unwrap();
    let digest = blake3::hash(content.as_bytes()).to_hex();
    fs::write(draft.join(format!("part.{digest}")), content).unwrap();
    let parts = before.map_or(Vec::new(), |before| entries(before.directory()));
    for part in parts.iter().filter(|part| !part.ends_with(MANIFEST_FILE)) {
        fs::hard_link(part, draft.join(part.file_name().unwrap())).unwrap();
    }
    let mut named: Vec<_> =
        entries(draft).iter().map(|part| part.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    named.sort();
    fs::write(draft.join(MANIFEST_FILE), named.join("\n")).unwrap();
}

/// Whether everything is there that the manifest names, as it was written.
fn is_whole(lease: &Lease) -> bool {
    let manifest = fs::read_to_string(lease.directory().join(MANIFEST_FILE)).unwrap();
    manifest.lines().all(|part| {
        let content = fs::read(lease.directory().join(part)).unwrap();
        part.strip_prefix("part.").is_none_or(|digest| blake3::hash(&content).to_hex().as_str() == digest)
    })
}

fn commit(data: &Data, holder: &str, content: &str) -> SnapshotId {
    let draft = data.reference(holder).with_file_name("draft");
    write(&draft, content, None);
    data.1.commit(&draft, &data.reference(holder)).unwrap()
}

#[test]
fn what_is_the_same_is_kept_once_until_the_last_reference_goes() {
    let data = Data::new();
    let id = commit(&data, "one", "same");
    assert_eq!(commit(&data, "two", "same"), id);
    assert_eq!(data.kept(), [id.as_str()]);
    assert_ne!(commit(&data, "three", "other"), id);
    assert_eq!(data.kept().len(), 2);

    data.1.release(&data.reference("one")).unwrap();
    data.1.release(&data.reference("three")).unwrap();
    assert_eq!(data.kept(), [id.as_str()]);
    data.1.release(&data.reference("two")).unwrap();
    data.1.release(&data.reference("two")).unwrap();
    assert!(data.kept().is_empty());
}

#[test]
fn what_is_leased_stays_where_it_is() {
    let data = Data::new();
    let reference = data.reference("one");
    let id = commit(&data, "one", "first");
    let leases = [(); 2].map(|()| data.1.referenced(&reference).unwrap().unwrap());
    let next = commit(&data, "one", "second");
    data.1.release(&reference).unwrap();
    assert_eq!(data.kept(), [id.as_str()], "the second had no lease: {next}");
    let [first, second] = leases;
    drop(first);
    assert!(is_whole(&second));
    drop(second);
    assert!(data.kept().is_empty());
}

#[test]
fn a_draft_without_a_manifest_changes_nothing() {
    let data = Data::new();
    let (id, reference) = (commit(&data, "one", "first"), data.reference("one"));
    let draft = reference.with_file_name("draft");
    write(&draft, "second", None);
    fs::remove_file(draft.join(MANIFEST_FILE)).unwrap();
    data.1.commit(&draft, &reference).unwrap_err();
    let lease = data.1.referenced(&reference).unwrap().unwrap();
    assert!(lease.id() == &id && is_whole(&lease));
    assert_eq!(data.kept(), [id.as_str()]);
}

#[test]
fn a_snapshot_that_is_not_there_is_damage() {
    let data = Data::new();
    let id = commit(&data, "one", "first");
    fs::remove_dir_all(data.path("snapshots").join(id.as_str())).unwrap();
    let error = data.1.referenced(&data.reference("one")).unwrap_err();
    assert!(matches!(error, hearth_vmm::Error::Damaged { .. }), "{error}");
    let reopened = data.reopened();
    reopened.release(&data.reference("one")).unwrap();
}

#[test]
fn a_manifest_that_was_damaged_is_told_by_its_name_and_goes_with_its_references() {
    let data = Data::new();
    let (id, reference) = (commit(&data, "one", "first"), data.reference("one"));
    let manifest = data.path("snapshots").join(id.as_str()).join(MANIFEST_FILE);
    fs::write(&manifest, "part.other").unwrap();
    let reopened = data.reopened();
    let error = reopened.referenced(&reference).unwrap_err();
    assert!(matches!(&error, hearth_vmm::Error::Damaged { path, .. } if *path == manifest), "{error}");
    assert_eq!(data.kept(), [id.as_str()]);
    reopened.release(&reference).unwrap();
    assert!(data.kept().is_empty());
}

#[test]
fn a_commit_that_fails_at_its_end_leaves_nothing() {
    let data = Data::new();
    let reference = data.reference("one");
    fs::create_dir_all(reference.join("in the way")).unwrap();
    let draft = reference.with_file_name("draft");
    write(&draft, "first", None);
    data.1.commit(&draft, &reference).unwrap_err();
    assert!(data.kept().is_empty() && !aside(&reference).exists() && !draft.exists());
}

#[test]
fn nothing_is_removed_at_a_start_that_cannot_read_every_reference() {
    let data = Data::new();
    let (id, reference) = (commit(&data, "one", "first"), data.reference("two"));
    fs::remove_file(data.reference("one")).unwrap();
    fs::create_dir(&reference).unwrap();
    data.reopened();
    assert_eq!(data.kept(), [id.as_str()]);
    fs::remove_dir(&reference).unwrap();
    data.reopened();
    assert!(data.kept().is_empty());
}

#[test]
fn a_directory_that_was_copied_without_its_links_counts_again() {
    let (data, copy) = (Data::new(), tempfile::tempdir().unwrap());
    let id = commit(&data, "one", "same");
    commit(&data, "two", "same");
    let mut cp = Command::new("cp");
    cp.args(["-r", "--no-preserve=links"]).arg(data.path(".")).arg(copy.path());
    assert!(cp.status().unwrap().success());
    let copied = Data(copy, data.1.clone());
    let snapshots = copied.reopened();
    snapshots.release(&copied.reference("one")).unwrap();
    assert_eq!(copied.kept(), [id.as_str()]);
    snapshots.release(&copied.reference("two")).unwrap();
    assert!(copied.kept().is_empty());
}

/// Tells the process in which [`the_process_that_is_killed`] works where it is to do so.
const DIRECTORY: &str = "HEARTH_SNAPSHOTS_KILLED";
const HOLDERS: [&str; 3] = ["one", "two", "three"];

/// Commits, shares and releases without end, and prints what is done.
#[test]
fn the_process_that_is_killed() {
    let Some(root) = std::env::var_os(DIRECTORY) else { return };
    let snapshots = Snapshots::open(Path::new(&root)).unwrap();
    let reference = |holder: &str| Path::new(&root).join("microvms").join(holder).join("snapshot.json");
    for number in 0.. {
        for (index, holder) in HOLDERS.iter().enumerate() {
            let own = reference(holder);
            let before = snapshots.referenced(&own).unwrap();
            let draft = own.with_file_name("draft");
            let id = match (number + index) % 5 {
                3 => {
                    snapshots.release(&own).unwrap();
                    None
                }
                4 => {
                    let other = snapshots.referenced(&reference(HOLDERS[(index + 1) % 3])).unwrap();
                    if let Some(other) = &other {
                        snapshots.reference(other, &own).unwrap();
                    }
                    other.map(|other| other.id().clone()).or(before.map(|before| before.id().clone()))
                }
                _ => {
                    write(&draft, &format!("{} {holder} {number}", std::process::id()), before.as_ref());
                    Some(snapshots.commit(&draft, &own).unwrap())
                }
            };
            println!("\ndone {holder} {}", id.as_ref().map_or("-", SnapshotId::as_str));
        }
    }
}

#[test]
fn a_crash_at_any_moment_loses_nothing_and_leaves_nothing() {
    let data = Data::new();
    for holder in HOLDERS {
        data.reference(holder);
    }
    let mut done = HashMap::new();
    let mut steps = 0;
    for round in 0..60 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::the_process_that_is_killed", "--nocapture"])
            .env(DIRECTORY, data.path("."))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(20_000 + round * 1_700));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let mut before = done.clone();
        for line in lines.map_while(std::result::Result::ok) {
            if let [_, holder, id] = line.split(' ').collect::<Vec<_>>()[..]
                && line.starts_with("done")
            {
                before.clone_from(&done);
                done.insert(holder.to_owned(), id.to_owned());
                steps += 1;
            }
        }
        killer.join().unwrap();

        let snapshots = data.reopened();
        let mut referenced = BTreeSet::new();
        let mut others = 0;
        for holder in HOLDERS {
            let lease = snapshots.referenced(&data.reference(holder)).unwrap();
            assert!(lease.as_ref().is_none_or(is_whole), "round {round}");
            let found = lease.as_ref().map_or("-".to_owned(), |lease| lease.id().to_string());
            others += usize::from(done.get(holder).is_some_and(|id| *id != found));
            referenced.extend(lease.map(|lease| lease.id().to_string()));
            done.insert(holder.to_owned(), found);
        }
        assert!(others <= 1, "round {round}: more than the step that was under way: {before:?}, {done:?}");
        assert_eq!(data.kept(), Vec::from_iter(referenced), "round {round}");
        for holder in HOLDERS {
            let left = entries(data.reference(holder).parent().unwrap());
            assert!(left.iter().all(|file| file.ends_with("snapshot.json")), "round {round}: {left:?}");
        }
    }
    assert!(steps > 200, "it was killed before it did much: {steps}");
}
