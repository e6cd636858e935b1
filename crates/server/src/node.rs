//! The name of this node in the records: made at the first start, kept in the data directory.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use hearth_records::NodeId;

const FILE: &str = "node";

/// Reads the name, or makes one. It is on the disk before anything is recorded under it.
pub(crate) fn id(data_dir: &Path) -> anyhow::Result<NodeId> {
    let path = data_dir.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return Ok(NodeId::from_stored(id.trim())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let id = uuid::Uuid::new_v4().to_string();
    let mut file = tempfile::NamedTempFile::new_in(data_dir).context("cannot write the node's name")?;
    writeln!(file, "{id}")
        .and_then(|()| file.as_file().sync_all())
        .context("cannot write the node's name")?;
    file.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::File::open(data_dir)
        .and_then(|directory| directory.sync_all())
        .with_context(|| format!("cannot sync {}", data_dir.display()))?;
    Ok(NodeId::from_stored(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_name() {
        let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = id(directory.path()).unwrap();
        assert_eq!(id(directory.path()).unwrap(), first);
        assert_ne!(id(other.path()).unwrap(), first);
        // A power failure in a file system that does not keep its promises.
        std::fs::write(other.path().join(FILE), "").unwrap();
        assert_ne!(id(other.path()).unwrap(), NodeId::nobody());
    }
}
