use super::*;
use crate::microvm::tests::image;
use crate::store::tests::Data;

#[test]
fn a_version_is_what_its_build_has_published() {
    let data = Data::new();
    let (arn, lease) = image(&data, "app");
    assert_eq!(data.1.report(&arn, ImageVersion::FIRST).unwrap().as_deref(), Some("{}"));
    assert!(lease.disk().exists());
    assert!(entries(&data.path("builds")).is_empty());
    drop(lease);
    data.1.remove_version(&arn, ImageVersion::FIRST);
    assert_eq!(data.1.report(&arn, ImageVersion::FIRST).unwrap(), None);
    let error = data.1.image(&arn, ImageVersion::FIRST).unwrap_err();
    assert!(matches!(error, hearth_vmm::Error::Damaged { .. }), "{error}");
    assert!(data.kept().is_empty());
}

#[test]
fn versions_that_nobody_knows_are_removed() {
    let data = Data::new();
    let ((known, lease), (unknown, other)) = (image(&data, "app"), image(&data, "other"));
    drop((lease, other));
    fs::write(data.path("images/stray"), "").unwrap();
    data.1.keep_versions([(&known, ImageVersion::FIRST)].into_iter());
    drop(data.1.image(&known, ImageVersion::FIRST).unwrap());
    data.1.image(&unknown, ImageVersion::FIRST).unwrap_err();
    assert!(!data.path("images/000000000000/other").exists());
    assert_eq!(data.kept().len(), 1);
}

#[test]
fn files_count_by_what_they_occupy_and_not_by_their_length() {
    let data = Data::new();
    let (arn, lease) = image(&data, "app");
    let all = || data.1.bytes_of_images(&arn.account);
    let caches = data.path("build-cache/000000000000");
    fs::create_dir_all(&caches).unwrap();
    let before = all();
    fs::File::create(caches.join("app.ext4")).unwrap().set_len(32 << 30).unwrap();
    assert_eq!(all(), before, "holes take nothing");
    fs::write(lease.memory(), vec![1; 3 << 20]).unwrap();
    fs::write(data.path("elsewhere"), vec![1; 1 << 20]).unwrap();
    fs::hard_link(lease.memory(), caches.join("the same")).unwrap();
    std::os::unix::fs::symlink("/", caches.join("root")).unwrap();
    let taken = all() - before;
    assert!((3 << 20..(3 << 20) + (64 << 10)).contains(&taken), "{taken}");
}
