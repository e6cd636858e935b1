use hearth_api::{ImageArn, ImageVersion};

use super::*;
use crate::store::tests::{Data, write};

/// An image with a disk of 1 MiB, on lease.
pub(crate) fn image(data: &Data, name: &str) -> (ImageArn, Lease) {
    let arn = format!("arn:aws:lambda:us-east-1:000000000000:microvm-image:{name}");
    let arn = ImageArn::parse(&arn).unwrap();
    let build = data.1.build(&hearth_api::BuildId::new());
    build.make().unwrap();
    let draft = build.image();
    write(draft.directory(), name, None);
    fs::File::create(draft.disk()).unwrap().set_len(1 << 20).unwrap();
    data.1.publish(&draft, &arn, ImageVersion::FIRST, b"{}").unwrap();
    build.remove();
    (arn.clone(), data.1.image(&arn, ImageVersion::FIRST).unwrap())
}

fn made(data: &Data) -> MicrovmFiles {
    let own = data.1.microvm(&MicrovmId::new());
    own.make(&image(data, "app").1).unwrap();
    own
}

/// What a suspend does; the guest's disk has this in it.
fn suspend(own: &MicrovmFiles, content: &str) -> SnapshotId {
    fs::write(own.disk(), content).unwrap();
    let draft = own.draft("root").unwrap();
    let directory = draft.directory().to_owned();
    let disk = fs::read(directory.join(DISK)).unwrap();
    assert_eq!(disk, content.as_bytes());
    let digest = blake3::hash(&disk).to_hex().to_string();
    fs::write(directory.join(hearth_vmm::snapshot::MANIFEST_FILE), digest).unwrap();
    draft.commit().unwrap()
}

fn disk_of_snapshot(own: &MicrovmFiles) -> String {
    fs::read_to_string(own.own().unwrap().directory().join(DISK)).unwrap()
}

#[test]
fn a_guest_that_goes_on_leaves_its_snapshot_a_way_back() {
    let data = Data::new();
    let own = made(&data);
    assert!(!own.has_way_back().unwrap() && own.snapshot().unwrap().is_none());
    let first = suspend(&own, "at rest");
    assert!(!own.has_way_back().unwrap(), "the disk is the snapshot's");

    assert!(own.keep_disk() && own.has_way_back().unwrap());
    fs::write(own.disk(), "gone on").unwrap();
    assert_eq!(disk_of_snapshot(&own), "at rest");
    own.put_back().unwrap();
    assert_eq!(fs::read_to_string(own.disk()).unwrap(), "at rest");
    assert!(!own.has_way_back().unwrap());

    assert!(own.keep_disk());
    own.forget_way_back().unwrap();
    assert!(!own.has_way_back().unwrap());
    own.put_back().unwrap_err();
    let second = suspend(&own, "at rest again");
    assert!(first != second && data.kept().len() == 2, "the image's and the second");
    own.remove();
    assert!(!own.directory().exists());
    assert_eq!(data.kept().len(), 1);
}

#[test]
fn without_a_copy_the_snapshot_loses_its_disk_unless_somebody_else_needs_it() {
    let data = Data::new();
    let own = made(&data);
    suspend(&own, "at rest");
    let snapshot = own.snapshot().unwrap().unwrap();
    let other = data.reference("other");
    data.1.reference(&snapshot, &other).unwrap();
    drop(snapshot);
    own.check_alone().unwrap_err();
    assert!(own.keep_disk());
    own.check_alone().unwrap();
    own.forget_way_back().unwrap();
    assert_eq!(disk_of_snapshot(&own), "at rest", "the other has it");
    fs::write(own.disk(), "gone on").unwrap();
    own.put_back().unwrap();
    assert_eq!(fs::read_to_string(own.disk()).unwrap(), "at rest");
    assert!(own.has_way_back().unwrap(), "they are two files");

    data.1.release(&other).unwrap();
    own.forget_way_back().unwrap();
    assert!(!own.own().unwrap().directory().join(DISK).exists() && own.disk().exists());
}

#[test]
fn a_wake_that_did_not_begin_leaves_the_very_disk_that_was_there() {
    use std::os::unix::fs::MetadataExt as _;
    let data = Data::new();
    let own = made(&data);
    suspend(&own, "at rest");
    let inode = fs::metadata(own.disk()).unwrap().ino();
    assert!(own.keep_disk() && own.has_way_back().unwrap());
    own.keep_none().unwrap();
    assert!(!own.has_way_back().unwrap());
    assert_eq!(fs::metadata(own.disk()).unwrap().ino(), inode);
    assert_eq!(entries(own.own().unwrap().directory()).len(), 2, "manifest and disk");
}

#[test]
fn what_is_removed_in_the_midst_of_a_commit_leaves_no_snapshot() {
    let data = Data::new();
    let own = made(&data);
    suspend(&own, "at rest");
    let reference = own.reference();
    fs::rename(&reference, aside(&reference)).unwrap();
    own.remove();
    assert_eq!(data.kept().len(), 1, "the image's");
}

#[test]
fn an_image_stays_until_its_last_clone_is_gone() {
    let data = Data::new();
    let (arn, lease) = image(&data, "app");
    let id = lease.id().to_string();
    let clones = [(); 2].map(|()| data.1.microvm(&MicrovmId::new()));
    for clone in &clones {
        clone.make(&lease).unwrap();
    }
    clones[0].make(&lease).unwrap();
    drop(lease);
    data.1.remove_image(&arn);
    assert!(!data.path("images/000000000000/app").exists());
    data.1.image(&arn, ImageVersion::FIRST).unwrap_err();
    clones[0].remove();
    assert_eq!(data.kept(), [id]);
    data.1.keep_microvms(|_| false);
    assert!(data.kept().is_empty());
}

#[test]
fn nothing_is_left_of_a_directory_that_others_still_write_to() {
    let data = Data::new();
    for round in 0..20 {
        let own = data.1.microvm(&MicrovmId::new());
        let directory = own.directory().to_owned();
        if round == 1 {
            fs::create_dir_all(directory.with_extension("gone").join("left by a crash")).unwrap();
        }
        fs::create_dir_all(&directory).unwrap();
        let writing = std::thread::spawn({
            let directory = directory.clone();
            move || {
                let mut written = 0;
                while fs::write(directory.join(written.to_string()), "").is_ok() {
                    written += 1;
                }
                written
            }
        });
        while fs::read_dir(&directory).unwrap().count() < 10 {}
        own.remove();
        assert!(writing.join().unwrap() >= 10);
        assert_eq!(entries(&data.path("microvms")), Vec::<PathBuf>::new());
    }
}
