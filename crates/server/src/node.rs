//! The name of this node in the records: made at the first start, kept in the data directory.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use anyhow::{Context as _, bail};
use hearth_records::{Microvms, NodeId};

use crate::data_dir::write_private;

const FILE: &str = "node";

/// Reads the name, or makes one.
pub(crate) async fn id(data_dir: &Path, records: &dyn Microvms) -> anyhow::Result<NodeId> {
    if let Some(id) = read(data_dir)? {
        return Ok(id);
    }
    let alive = records.microvms_alive().await?.into_iter();
    make(data_dir, &alive.map(|record| record.owner.node).collect::<Vec<_>>())
}

/// Reads the name; `None` if there is none, as before the first start.
fn read(data_dir: &Path) -> anyhow::Result<Option<NodeId>> {
    let path = data_dir.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(id) => Ok(Some(id.trim()).filter(|id| !id.is_empty()).map(NodeId::from_stored)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Makes the name where there is none: that of the owners of the microVMs on record, or a new one.
/// It is on the disk before anything is recorded under it.
///
/// # Errors
/// When the records know several nodes.
fn make(data_dir: &Path, owners: &[NodeId]) -> anyhow::Result<NodeId> {
    let path = data_dir.join(FILE);
    let owners = owners.iter().filter(|node| **node != NodeId::nobody());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_name() {
        let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(read(directory.path()).unwrap(), None);
        let first = make(directory.path(), &[NodeId::nobody()]).unwrap();
        assert_eq!(read(directory.path()).unwrap().as_ref(), Some(&first));
        assert_ne!(make(other.path(), &[]).unwrap(), first);
    }

    #[test]
    fn a_name_that_is_lost_is_that_of_the_records_if_they_know_one() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (NodeId::from_stored("one"), NodeId::from_stored("two"));
        let file = directory.path().join(FILE);
        // A power failure in a file system that does not keep its promises.
        std::fs::write(&file, "").unwrap();
        assert_eq!(read(directory.path()).unwrap(), None);
        let error = make(directory.path(), &[two.clone(), one.clone()]).unwrap_err().to_string();
        assert!(error.ends_with("write into it which of one, two this one is"), "{error}");
        assert_eq!(make(directory.path(), &[one.clone(), NodeId::nobody(), one.clone()]).unwrap(), one);
        assert_eq!(std::fs::read_to_string(file).unwrap(), "one");
    }
}
