//! Platforms (`linux/amd64`), as containerd's `platforms` package reads them.

/// This machine's architecture in the words of images.
pub(super) fn architecture() -> &'static str {
    known(std::env::consts::ARCH)
}

/// This machine's platform, which all builds are for.
pub(super) fn own() -> String {
    format!("linux/{}", architecture())
}

/// The variables that builders set by themselves, and their values.
pub(super) fn variables() -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for side in ["BUILD", "TARGET"] {
        for (part, value) in [
            ("PLATFORM", own()),
            ("OS", "linux".into()),
            ("ARCH", architecture().into()),
            ("VARIANT", String::new()),
        ] {
            variables.push((format!("{side}{part}"), value));
        }
    }
    variables
}

/// Whether a variable is one of these.
pub(super) fn is_variable(name: &str) -> bool {
    ["BUILD", "TARGET"].iter().any(|side| {
        name.strip_prefix(side).is_some_and(|part| matches!(part, "PLATFORM" | "OS" | "ARCH" | "VARIANT"))
    })
}

/// Whether this is another name for this machine's platform. Variants are not looked at: an image
/// of the same architecture is taken, whatever its variant.
pub(super) fn is_own(platform: &str) -> bool {
    let platform = platform.to_ascii_lowercase();
    let mut parts = platform.split('/');
    match (parts.next(), parts.next()) {
        (Some("linux"), None) => true,
        (Some("linux"), Some(name)) | (Some(name), None) => known(name) == architecture(),
        _ => false,
    }
}

/// The usual name of an architecture.
fn known(name: &str) -> &str {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
