//! The name of this node in the records: made at the first start, kept in the data directory.

use std::io;
use std::path::Path;

use anyhow::Context as _;
use hearth_records::NodeId;

use crate::data_dir::write_private;

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
    write_private(&path, &id)?;
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
