use hearth_api::{ImageArn, ImageVersion, MicrovmId};

use super::*;
use crate::store::tests::Data;

/// Writes files that an earlier version would have left.
fn left(data: &Data, directory: &str, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = data.path(directory).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

const MANIFEST: &str = r#"{"layers":["memory.0001.layer"],"file":"device-state.0001"}"#;
const OWN: [(&str, &str); 4] = [
    ("manifest.json", MANIFEST),
    ("memory.0001.layer", "layer"),
    ("device-state.0001", "state"),
    ("disk.qcow2", "disk"),
];

#[test]
fn what_an_earlier_version_has_kept_is_taken_over_once() {
    let data = Data::new();
    let (resting, waking, new) = (MicrovmId::new(), MicrovmId::new(), MicrovmId::new());
    let version = "images/000000000000/app/1.0";
    left(
        &data,
        version,
        &[
            ("disk.raw", "disk"),
            ("report.json", "{}"),
            ("snapshot/manifest.json", r#"{"file":"device-state"}"#),
        ],
    );
    left(&data, version, &[("snapshot/memory", "memory"), ("snapshot/device-state", "state")]);
    left(&data, &format!("microvms/{resting}"), &OWN);
    left(&data, &format!("microvms/{resting}"), &[("memory.0002.layer", "half"), ("disk.new", "half")]);
    left(&data, &format!("microvms/{waking}"), &OWN);
    left(&data, &format!("microvms/{waking}"), &[("disk.kept", "kept"), ("manifest.json", "other")]);
    left(&data, &format!("microvms/{new}"), &OWN[3..]);

    for _ in 0..2 {
        let snapshots = data.reopened();
        let arn = ImageArn::parse("arn:aws:lambda:us-east-1:000000000000:microvm-image:app").unwrap();
        let image = snapshots.image(&arn, ImageVersion::FIRST).unwrap();
        assert_eq!(fs::read_to_string(image.disk()).unwrap(), "disk");
        assert_eq!(fs::read_to_string(image.memory()).unwrap(), "memory");
        assert!(data.path(version).join("snapshot/memory").exists(), "for VMMs that run");

        let own = snapshots.microvm(&resting);
        let snapshot = own.snapshot().unwrap().unwrap();
        assert_eq!(fs::read_to_string(snapshot.directory().join("memory.0001.layer")).unwrap(), "layer");
        assert_eq!(snapshot.id().as_str(), blake3::hash(MANIFEST.as_bytes()).to_hex().as_str());
        assert!(!own.has_way_back().unwrap() && entries(own.directory()).len() == 2);
        assert_eq!(entries(snapshot.directory()).len(), 4, "what the manifest names, and the disk");

        let own = snapshots.microvm(&waking);
        assert!(own.has_way_back().unwrap());
        assert!(snapshots.microvm(&new).snapshot().unwrap().is_none());
        assert_eq!(data.kept().len(), 3);
    }
    let snapshots = data.reopened();
    snapshots.microvm(&waking).put_back().unwrap();
    assert_eq!(fs::read_to_string(snapshots.microvm(&waking).disk()).unwrap(), "kept");
    snapshots.microvm(&resting).remove();
    snapshots.microvm(&waking).remove();
    assert_eq!(data.kept().len(), 1);
}
