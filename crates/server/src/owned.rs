//! Whether a program that the server runs as root can be changed by somebody else.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};

/// Refuses a program that another user than root can change or replace, by itself or by a
/// directory above it. A server that is not root runs it as whoever started it, and what is
/// not there is not run.
pub(crate) fn check(program: &Path) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() || !program.exists() {
        return Ok(());
    }
    let real = program.canonicalize().with_context(|| format!("cannot look at {}", program.display()))?;
    for path in real.ancestors() {
        let metadata = path.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
        // In a sticky directory only owners replace what is there.
        let others_write = metadata.mode() & 0o022 != 0 && metadata.mode() & 0o1000 == 0;
        if metadata.uid() != 0 || others_write {
            bail!(
                "{} can be changed by others than root ({} belongs to user {}, mode {:o}), and the server would run it as root; \
                 `make build` puts it into /usr/local/lib/hearth, or name another one as build.store_tool",
                program.display(),
                path.display(),
                metadata.uid(),
                metadata.mode() & 0o7777
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    #[test]
    fn what_others_can_change_is_not_run_as_root() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root runs programs as root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("tool");
        check(&program).unwrap();
        std::fs::write(&program, "").unwrap();
        check(&program).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o775)).unwrap();
        assert!(check(&program).unwrap_err().to_string().contains("can be changed by others than root"));
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        chown(directory.path(), Some(65_533), None).unwrap();
        assert!(check(&program).unwrap_err().to_string().contains("belongs to user 65533"));
    }
}
