//! Good archives become tars with the same content; bad ones are refused with a sentence.

use std::io::Cursor;
use std::path::Path;

use zip::write::SimpleFileOptions;

use super::*;

mod compression;

type Writer = zip::ZipWriter<Cursor<Vec<u8>>>;
/// Path, mode and content, which is the target of a link.
type Entry = (String, u32, Vec<u8>);

fn rewrite(zip: &Path, tar: &Path) -> Result<Context, BuildFailure> {
    to_tar(File::open(zip).unwrap(), File::create(tar).unwrap(), &ArchiveLimits::default())
}

fn convert(build: impl FnOnce(&mut Writer)) -> Result<(Context, Vec<Entry>), BuildFailure> {
    convert_changed(build, |zip| zip)
}

fn convert_changed(
    build: impl FnOnce(&mut Writer),
    change: impl FnOnce(Vec<u8>) -> Vec<u8>,
) -> Result<(Context, Vec<Entry>), BuildFailure> {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    build(&mut writer);
    let zip = directory.path().join("code.zip");
    std::fs::write(&zip, change(writer.finish().unwrap().into_inner())).unwrap();
    let tar = directory.path().join("context.tar");
    let context = rewrite(&zip, &tar)?;
    let mut archive = tar::Archive::new(File::open(&tar).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mode = entry.header().mode().unwrap();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        data.extend(entry.link_name_bytes().iter().flat_map(|target| target.iter()));
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

/// What Windows writes: no permissions, only DOS attributes. The version byte says
/// who has made an entry.
fn made_by_windows(mut zip: Vec<u8>) -> Vec<u8> {
    let heads: Vec<usize> =
        zip.windows(4).enumerate().filter(|(_, four)| four == b"PK\x01\x02").map(|(at, _)| at).collect();
    for at in heads {
        zip[at + 5] = 0;
        zip[at + 38..at + 42].copy_from_slice(&0x20_u32.to_le_bytes());
    }
    zip
}

fn convert_bytes(zip: &[u8]) -> Result<(Context, Vec<Entry>), BuildFailure> {
    convert_changed(|_| {}, |_| zip.to_vec())
}

#[test]
fn names_are_taken_as_unzip_takes_them() {
    let (context, entries) = convert(|writer| {
        writer.add_directory("./", SimpleFileOptions::default()).unwrap();
        add(writer, "./Dockerfile", b"FROM scratch\n");
        add(writer, ".//app/./main.py", b"1");
        add(writer, "/srv/absolute", b"2");
        add(writer, "back\\slash", b"3");
    })
    .unwrap();
    assert_eq!(context.dockerfile, "FROM scratch\n");
    let names: Vec<_> = entries.iter().map(|entry| entry.0.as_str()).collect();
    assert_eq!(names, ["Dockerfile", "app/main.py", "srv/absolute", "back\\slash"]);
}

#[test]
fn names_are_bytes_of_any_length() {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    add(&mut writer, "Dockerfile", b"FROM scratch\n");
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    add(&mut writer, &long, b"1");
    add(&mut writer, &"Q".repeat(150), b"2");
    writer.add_symlink("l", "t".repeat(150), SimpleFileOptions::default()).unwrap();
    let mut zip = writer.finish().unwrap().into_inner();
    zip.iter_mut().filter(|byte| **byte == b'Q').for_each(|byte| *byte = 0xe9);
    let (_, entries) = convert_bytes(&zip).unwrap();
    let found: Vec<_> = entries[1..].iter().map(|entry| (entry.0.clone(), entry.2.clone())).collect();
    let latin = "\u{fffd}".repeat(150);
    let link = "t".repeat(150).into_bytes();
    assert_eq!(found, [(long, b"1".to_vec()), (latin, b"2".to_vec()), ("l".into(), link)]);
}

#[test]
fn zips_of_windows_have_backslashes_and_no_permissions() {
    let text = "\u{feff}# escape=`\r\nfrom scratch\r\n";
    let windows = |name: &str| {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        add(&mut writer, "Dockerfile", text.as_bytes());
        add(&mut writer, "app\\", b"");
        add(&mut writer, name, b"x");
        convert_bytes(&made_by_windows(writer.finish().unwrap().into_inner()))
    };
    let (context, entries) = windows("app\\deep\\text").unwrap();
    assert_eq!(context.dockerfile, text, "a byte order mark and line ends are the builder's business");
    assert_eq!(entries[0].1, 0o664);
    assert_eq!(entries[2], ("app/deep/text".into(), 0o664, b"x".to_vec()));
    let refused = windows("app\\..\\..\\evil").unwrap_err().to_string();
    assert!(refused.contains("points outside of it"), "{refused}");
}

#[test]
fn of_two_entries_with_one_name_the_last_counts() {
    let (_, entries) = convert(|writer| {
        add(writer, "Dockerfile", b"FROM scratch\n");
        add(writer, "a", b"old");
        add(writer, "./a", b"new");
    })
    .unwrap();
    assert_eq!(entries[1..], [("a".into(), 0o640, b"new".to_vec())]);
}

#[test]
fn without_a_dockerfile_the_sentence_says_what_is_there() {
    let begins = "ARCHIVE_DOCKERFILE_NOT_FOUND: The zip archive has no file named Dockerfile at its root.";
    for (name, rest) in [
        ("app/main.py", ""),
        (
            "app/Dockerfile",
            " It has \"app/Dockerfile\": zip what is in that directory, not the directory itself.",
        ),
        ("dockerfile", " It has \"dockerfile\": rename that to Dockerfile."),
        ("Dockerfile.txt", " It has \"Dockerfile.txt\": rename that to Dockerfile."),
    ] {
        assert_eq!(refusal(|writer| add(writer, name, b"FROM scratch\n")), format!("{begins}{rest}"));
    }
    let directory = refusal(|writer| add(writer, "Dockerfile/x", b"FROM scratch\n"));
    assert_eq!(directory, begins);
}

#[test]
fn links_are_carried_as_links_wherever_they_point_to() {
    let targets = ["/usr/bin/python3.12", "../../monorepo/shared", "../tool/cli.js", "7", "/tmp/socket.4711"];
    let (_, entries) = convert(|writer| {
        add(writer, "Dockerfile", b"FROM scratch\n");
        for (number, target) in targets.iter().enumerate() {
            writer.add_symlink(format!("d/{number}"), *target, SimpleFileOptions::default()).unwrap();
        }
    })
    .unwrap();
    let carried: Vec<_> = entries[1..].iter().map(|entry| (entry.1, entry.2.as_slice())).collect();
    assert_eq!(carried, targets.map(|target| (0o777, target.as_bytes())));
}

#[test]
fn the_dockerfile_may_be_a_link_inside_of_the_context() {
    let linked = |links: &[(&str, &str)]| {
        convert(|writer| {
            add(writer, "docker/prod.Dockerfile", b"FROM prod\n");
            for (name, target) in links {
                writer.add_symlink(*name, *target, SimpleFileOptions::default()).unwrap();
            }
        })
        .map(|(context, _)| context.dockerfile)
        .map_err(|failure| failure.to_string())
    };
    let found = Ok("FROM prod\n".to_owned());
    assert_eq!(linked(&[("Dockerfile", "docker/prod.Dockerfile")]), found);
    assert_eq!(linked(&[("Dockerfile", "./a/../d/prod.Dockerfile"), ("d", "docker")]), found);
    for (target, sentence) in [
        ("/etc/passwd", "points to \"/etc/passwd\", which is not in the zip archive."),
        ("../Dockerfile", "leads out of the zip archive."),
        ("Dockerfile", "leads from link to link without an end."),
        ("docker", "leads to \"docker\", which is no file in the zip archive."),
        ("nowhere", "leads to \"nowhere\", which is no file in the zip archive."),
    ] {
        let refused = linked(&[("Dockerfile", target)]).unwrap_err();
        let begins =
            "ARCHIVE_DOCKERFILE_NOT_FOUND: The Dockerfile of the zip archive is a symbolic link that";
        assert_eq!(refused, format!("{begins} {sentence}"));
    }
}

#[test]
fn what_is_no_zip_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let zip = directory.path().join("code.zip");
    std::fs::write(&zip, "hello").unwrap();
    let failure = rewrite(&zip, &directory.path().join("t")).unwrap_err();
    assert_eq!(failure.code, FailureCode::ArchiveInvalid);
}

#[test]
fn entries_that_leave_the_archive_are_refused() {
    for name in ["../evil", "a/../../evil", "/../evil"] {
        let text = refusal(|writer| {
            add(writer, "Dockerfile", b"FROM scratch\n");
            add(writer, name, b"x");
        });
        assert!(text.contains(&format!("{name:?} of the zip archive points outside of it")), "{text}");
    }
}

#[test]
fn entries_below_what_is_no_directory_are_refused() {
    let below = |links: &[&str]| {
        refusal(|writer| {
            add(writer, "Dockerfile", b"FROM scratch\n");
            add(writer, "link-2", b"");
            add(writer, "link.d/other", b"");
            for link in links {
                writer.add_symlink(*link, "/etc", SimpleFileOptions::default()).unwrap();
            }
            add(writer, "link/file", b"x");
            add(writer, "link-2/file", b"x");
        })
    };
    let text = below(&["link"]);
    assert!(
        text.contains("\"link/file\" of the zip archive lies below \"link\", which is a symbolic link"),
        "{text}"
    );
    let text = below(&[]);
    assert!(text.contains("lies below \"link-2\", which is a file"), "{text}");
}

#[test]
fn links_that_no_link_can_be_are_refused() {
    for target in ["", "a\0b", &"x".repeat(5000)] {
        let text = refusal(|writer| {
            add(writer, "Dockerfile", b"FROM scratch\n");
            writer.add_symlink("l", target, SimpleFileOptions::default()).unwrap();
        });
        assert!(text.contains("\"l\" of the zip archive has a target that no link can have"), "{text}");
    }
}

/// Bytes of a zip that is a directory of `entries` entries of five letters, with a
/// zip64 record if `wide`.
fn directory_only(entries: u64, wide: bool) -> Vec<u8> {
    let mut zip = b"PK\x03\x04".to_vec();
    zip.resize(30, 0);
    let start = zip.len() as u64;
    for number in 0..entries {
        let mut head = [0_u8; 46];
        head[..8].copy_from_slice(b"PK\x01\x02\x14\0\x14\0");
        head[28] = 5;
        zip.extend(head);
        zip.extend(format!("{:05x}", number & 0xf_ffff).bytes());
    }
    let (end, size) = (zip.len() as u64, zip.len() as u64 - start);
    if wide {
        zip.extend(b"PK\x06\x06");
        zip.extend(44_u64.to_le_bytes());
        zip.extend([45, 0, 45, 0]);
        zip.extend([0; 8]);
        zip.extend([entries, entries, size, start].map(u64::to_le_bytes).concat());
        zip.extend(b"PK\x06\x07\0\0\0\0");
        zip.extend(end.to_le_bytes());
        zip.extend(1_u32.to_le_bytes());
    }
    zip.extend(b"PK\x05\x06\0\0\0\0");
    let count = if wide { 0xffff } else { entries as u16 };
    zip.extend([count, count].map(u16::to_le_bytes).concat());
    let size = if wide { u32::MAX } else { size as u32 };
    zip.extend([size, start as u32].map(u32::to_le_bytes).concat());
    zip.extend([0, 0]);
    zip
}

#[test]
fn a_directory_is_counted_before_it_is_read() {
    let text = convert_bytes(&directory_only(4_000_000, true)).unwrap_err().to_string();
    assert_eq!(text, "ARCHIVE_INVALID: The zip archive has 4000000 entries; at most 100000 are allowed.");
    // Claims alone, without the entries.
    let mut claim = directory_only(1, true);
    let record = claim.windows(4).rposition(|four| four == b"PK\x06\x06").unwrap();
    claim[record + 40..record + 48].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    let text = convert_bytes(&claim).unwrap_err().to_string();
    assert!(text.contains("1099511627776 bytes of names and comments; at most 33554432"), "{text}");
}

#[test]
fn a_comment_that_looks_like_an_end_is_a_comment() {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    add(&mut writer, "Dockerfile", b"FROM scratch");
    let mut zip = writer.finish().unwrap().into_inner();
    let comment = b"PK\x05\x06PK\x05\x06PK\x05\x06PK\x05\x06 as in many zips\n".repeat(10);
    let at = zip.len() - 2;
    zip[at..].copy_from_slice(&(comment.len() as u16).to_le_bytes());
    zip.extend(comment);
    assert_eq!(convert_bytes(&zip).unwrap().0.dockerfile, "FROM scratch");
}

#[test]
fn a_directory_is_read_up_to_its_limit_whatever_it_claims() {
    // Every entry has a comment of 64 KiB, which the end record keeps to itself.
    let mut zip = directory_only(0, false);
    let end = zip.split_off(30);
    for number in 0..1000 {
        let mut head = [0_u8; 46];
        head[..8].copy_from_slice(b"PK\x01\x02\x14\0\x14\0");
        head[28] = 5;
        head[32..34].copy_from_slice(&0xffff_u16.to_le_bytes());
        zip.extend(head);
        zip.extend(format!("{number:05x}").bytes());
        zip.resize(zip.len() + 0xffff, b'x');
    }
    zip.extend(end);
    let at = zip.len() - 22;
    zip[at + 8..at + 16].copy_from_slice(&[0xe8, 3, 0xe8, 3, 46, 0, 0, 0]);
    let text = convert_bytes(&zip).unwrap_err().to_string();
    assert!(text.contains("directory is larger than is allowed"), "{text}");
}

#[test]
fn fuzz_zips() {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    add(&mut writer, "Dockerfile", b"FROM scratch\n");
    add(&mut writer, "app/main.py", &b"print()\n".repeat(20));
    writer.add_symlink("latest", "app", SimpleFileOptions::default()).unwrap();
    let zip = writer.finish().unwrap().into_inner();
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("zip"), directory.path().join("tar"));
    // Places and values: what is changed of a good archive; and what follows it.
    bolero::check!().with_type::<(Vec<(u16, u8)>, Vec<u8>)>().for_each(|(changes, rest)| {
        let mut zip = zip.clone();
        for (at, value) in changes {
            let at = usize::from(*at) % zip.len();
            zip[at] = *value;
        }
        zip.extend(rest);
        std::fs::write(&input, zip).unwrap();
        if rewrite(&input, &output).is_ok() {
            let mut tar = tar::Archive::new(File::open(&output).unwrap());
            for entry in tar.entries().unwrap() {
                let path = entry.unwrap().path().unwrap().into_owned();
                let inside = |part| matches!(part, std::path::Component::Normal(_));
                assert!(path.components().all(inside), "{}", path.display());
            }
        }
    });
}
