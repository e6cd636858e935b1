//! The table of S3's operations in the documentation.

use hearth_companions::s3::SERVED;

#[test]
fn the_documentation_lists_what_is_served() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api-compatibility.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once("## Operations of S3\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | yes |"));
    let mut listed: Vec<&str> = rows.flat_map(|(names, _)| names.split(", ")).collect();
    let mut served = SERVED.to_vec();
    listed.sort_unstable();
    served.sort_unstable();
    assert_eq!(listed, served);
}
