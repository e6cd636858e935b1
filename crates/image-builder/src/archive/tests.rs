//! Good archives become tars with the same content; bad ones are refused with a sentence.

use std::io::Cursor;

use zip::write::SimpleFileOptions;

use super::*;

type Writer = zip::ZipWriter<Cursor<Vec<u8>>>;
/// Path, mode and content.
type Entry = (String, u32, Vec<u8>);

fn convert(build: impl FnOnce(&mut Writer)) -> Result<(Context, Vec<Entry>), BuildFailure> {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    build(&mut writer);
    let zip = directory.path().join("code.zip");
    std::fs::write(&zip, writer.finish().unwrap().into_inner()).unwrap();
    let tar = directory.path().join("context.tar");
    let context = to_tar(&zip, &tar, &ArchiveLimits::default())?;
    let mut archive = tar::Archive::new(File::open(&tar).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mode = entry.header().mode().unwrap();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        (path, mode, data)
    });
    Ok((context, entries.collect()))
}

fn add(writer: &mut Writer, name: &str, data: &[u8]) {
    writer.start_file(name, SimpleFileOptions::default().unix_permissions(0o640)).unwrap();
    writer.write_all(data).unwrap();
}

fn refusal(build: impl FnOnce(&mut Writer)) -> String {
    convert(build).expect_err("the archive must be refused").to_string()
}

#[test]
fn content_and_modes_are_kept() {
    let (context, entries) = convert(|writer| {
        add(writer, "Dockerfile", b"FROM scratch\n");
        add(writer, "app/main.py", b"print()\n");
        writer.add_symlink("latest", "app/main.py", SimpleFileOptions::default()).unwrap();
    })
    .unwrap();
    assert_eq!(context.dockerfile, "FROM scratch\n");
    assert_eq!(entries[1], ("app/main.py".into(), 0o640, b"print()\n".to_vec()));
    assert_eq!(entries[2].0, "latest");
}

#[test]
fn an_archive_without_a_dockerfile_at_its_root_is_refused() {
    let text = refusal(|writer| add(writer, "app/Dockerfile", b"FROM scratch\n"));
    assert_eq!(
        text,
        "ARCHIVE_DOCKERFILE_NOT_FOUND: The zip archive has no file named Dockerfile at its root."
    );
}

#[test]
fn what_is_no_zip_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let zip = directory.path().join("code.zip");
    std::fs::write(&zip, "hello").unwrap();
    let failure = to_tar(&zip, &directory.path().join("t"), &ArchiveLimits::default()).unwrap_err();
    assert_eq!(failure.code, FailureCode::ArchiveInvalid);
}

#[test]
fn entries_that_leave_the_archive_are_refused() {
    for name in ["../evil", "/etc/passwd", "a/../../evil", "..\\evil"] {
        let text = refusal(|writer| {
            add(writer, "Dockerfile", b"FROM scratch\n");
            add(writer, name, b"x");
        });
        assert!(text.contains("points outside of it"), "{text}");
    }
}

#[test]
fn links_that_leave_the_archive_and_entries_behind_links_are_refused() {
    let text = refusal(|writer| {
        add(writer, "Dockerfile", b"FROM scratch\n");
        writer.add_symlink("a/link", "../../etc", SimpleFileOptions::default()).unwrap();
    });
    assert!(text.contains("outside of the archive"), "{text}");
    let text = refusal(|writer| {
        add(writer, "Dockerfile", b"FROM scratch\n");
        writer.add_symlink("link", "app", SimpleFileOptions::default()).unwrap();
        add(writer, "link/file", b"x");
    });
    assert!(text.contains("behind a symbolic link"), "{text}");
}

#[test]
fn a_bomb_is_refused() {
    let text = refusal(|writer| {
        add(writer, "Dockerfile", b"FROM scratch\n");
        add(writer, "zeros", &vec![0; 80 << 20]);
    });
    assert!(text.contains("too much for its size"), "{text}");
}

#[test]
fn a_damaged_entry_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    add(&mut writer, "Dockerfile", b"FROM scratch\n");
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer.start_file("data", stored).unwrap();
    writer.write_all(b"needle in the hay").unwrap();
    let mut bytes = writer.finish().unwrap().into_inner();
    let at = bytes.windows(6).position(|window| window == b"needle").unwrap();
    bytes[at] ^= 1;
    let zip = directory.path().join("code.zip");
    std::fs::write(&zip, bytes).unwrap();
    let failure = to_tar(&zip, &directory.path().join("t"), &ArchiveLimits::default()).unwrap_err();
    assert!(failure.message.contains("damaged"), "{failure}");
}
