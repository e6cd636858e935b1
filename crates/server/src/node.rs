//! The name of this node in the records: made at the first start, kept in the data directory.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use anyhow::{Context as _, bail};
use hearth_records::NodeId;

use crate::data_dir::write_private;

const FILE: &str = "node";

/// Reads the name. Where there is none, it is that of the owners of the microVMs on record, or a
/// new one. It is on the disk before anything is recorded under it.
///
/// # Errors
/// When the name is lost, and the records know several nodes.
pub(crate) fn id(data_dir: &Path, owners: &[NodeId]) -> anyhow::Result<NodeId> {
    let path = data_dir.join(FILE);
    let owners = owners.iter().filter(|node| **node != NodeId::nobody());
    if let Some(id) = read(&path)? {
        let others = owners.filter(|node| **node != id).count();
        if others > 0 {
            tracing::warn!(
                node = %id, microvms = others,
                "microVMs on record belong to other nodes, and only those can suspend, resume and end them; is {} the file of \
                 this data directory?",
                path.display()
            );
        }
        return Ok(id);
    }
    let owners: BTreeSet<&str> = owners.map(NodeId::as_str).collect();
    let id = match Vec::from_iter(owners).as_slice() {
        [] => uuid::Uuid::new_v4().to_string(),
        [owner] => {
            tracing::warn!(node = owner, "{} was missing; its name is that of the records", path.display());
            (*owner).to_owned()
        }
        several => bail!(
            "{} is missing or empty, and the records know several nodes: write into it which of {} this one is",
            path.display(),
            several.join(", ")
        ),
    };
    write_private(&path, &id)?;
    Ok(NodeId::from_stored(id))
}

fn read(path: &Path) -> anyhow::Result<Option<NodeId>> {
    match std::fs::read_to_string(path) {
        Ok(id) => Ok(Some(id.trim()).filter(|id| !id.is_empty()).map(NodeId::from_stored)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_name() {
        let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = id(directory.path(), &[NodeId::nobody()]).unwrap();
        assert_eq!(id(directory.path(), &[]).unwrap(), first);
        assert_eq!(id(directory.path(), &[NodeId::from_stored("of others")]).unwrap(), first);
        assert_ne!(id(other.path(), &[]).unwrap(), first);
    }

    #[test]
    fn a_name_that_is_lost_is_that_of_the_records_if_they_know_one() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (NodeId::from_stored("one"), NodeId::from_stored("two"));
        let file = directory.path().join(FILE);
        // A power failure in a file system that does not keep its promises.
        std::fs::write(&file, "").unwrap();
        let error = id(directory.path(), &[two.clone(), one.clone()]).unwrap_err().to_string();
        assert!(error.ends_with("write into it which of one, two this one is"), "{error}");
        assert_eq!(id(directory.path(), &[one.clone(), NodeId::nobody(), one.clone()]).unwrap(), one);
        assert_eq!(std::fs::read_to_string(file).unwrap(), "one");
    }
}
