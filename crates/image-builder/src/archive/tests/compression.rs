//! What entries are compressed by, and what they unpack to.

use super::*;

/// The zip with another number of a compression method at every entry (APPNOTE 4.4.5).
fn with_method(mut zip: Vec<u8>, method: u16) -> Vec<u8> {
    for (signature, offset) in [(b"PK\x03\x04", 8), (b"PK\x01\x02", 10)] {
        let heads: Vec<usize> =
            zip.windows(4).enumerate().filter(|(_, four)| four == signature).map(|(at, _)| at).collect();
        for at in heads {
            zip[at + offset..at + offset + 2].copy_from_slice(&method.to_le_bytes());
        }
    }
    zip
}

#[test]
fn what_unzip_unpacks_is_unpacked() {
    let bzip2 = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Bzip2);
    let (_, entries) = convert(|writer| {
        add(writer, "Dockerfile", b"FROM scratch\n");
        writer.start_file("data", bzip2).unwrap();
        writer.write_all(&[7; 10_000]).unwrap();
    })
    .unwrap();
    assert_eq!(entries[1].2, [7; 10_000]);
    // Without long matches deflate64 (Windows, for large files) has the same codes as deflate.
    let text: Vec<u8> = (0..=255).cycle().take(200).collect();
    let build = |writer: &mut Writer| {
        add(writer, "Dockerfile", b"FROM scratch\n");
        add(writer, "data", &text);
    };
    let (_, entries) = convert_changed(build, |zip| with_method(zip, 9)).unwrap();
    assert_eq!(entries[1].2, text);
    let refused = convert_changed(build, |zip| with_method(zip, 14)).unwrap_err();
    assert!(
        refused.message.contains("of the zip archive is compressed by a method that is not supported"),
        "{refused}"
    );
    assert!(refused.message.contains("Make the zip with deflate"), "{refused}");
}

#[test]
fn bombs_of_other_methods_are_refused() {
    let bzip2 = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Bzip2);
    let text = refusal(|writer| {
        add(writer, "Dockerfile", b"FROM scratch\n");
        writer.start_file("zeros", bzip2).unwrap();
        writer.write_all(&vec![0; 80 << 20]).unwrap();
    });
    assert!(text.contains("too much for its size"), "{text}");
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
    let failure = rewrite(&zip, &directory.path().join("t")).unwrap_err();
    assert!(failure.message.contains("damaged"), "{failure}");
}
