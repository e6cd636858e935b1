//! All layers of a microVM as one: what each page is now, restoring it, adding a layer.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::layer::{Entry, Layer, PageHash, PageSink, PageSource, in_batches, write_layer};
use super::manifest::{DeviceState, LayerFile, Manifest, MemoryLayout};
use super::{DiskState, damaged, file_error};
use crate::error::Result;
use crate::vm::SnapshotInfo;

/// The layers of one snapshot, opened and indexed.
#[derive(Debug)]
pub(crate) struct LayerStack {
    page_size: usize,
    layers: Vec<Layer>,
    /// Page number → index of the newest layer that has it, and the entry there.
    newest: HashMap<u32, (usize, Entry)>,
}

impl LayerStack {
    /// Opens the layers that a manifest names.
    pub(crate) fn open(directory: &Path, manifest: &Manifest) -> Result<Self> {
        let mut stack = Self::empty();
        for described in manifest.layer_files() {
            let layer = Layer::open(directory, described, stack.page_size)?;
            stack.newest.reserve(layer.entries.len());
            for entry in &layer.entries {
                let end = (u64::from(entry.page) + 1) * stack.page_size as u64;
                if end > manifest.memory_bytes {
                    let path = directory.join(&described.file);
                    return Err(damaged(&path, format!("page {} lies outside of the RAM", entry.page)));
                }
                stack.newest.insert(entry.page, (stack.layers.len(), *entry));
            }
            stack.layers.push(layer);
        }
        Ok(stack)
    }

    /// The stack of a clone that was never snapshotted.
    pub(crate) fn empty() -> Self {
        let page_size = rustix::param::page_size();
        Self { page_size, layers: Vec::new(), newest: HashMap::new() }
    }

    /// Number of pages whose content the layers must hold.
    pub(super) fn live_data_pages(&self) -> usize {
        self.newest.values().filter(|(_, entry)| entry.slot.is_some()).count()
    }

    /// Numbers of all pages that differ from the base, rising.
    pub(super) fn pages(&self) -> Vec<u64> {
        let mut pages: Vec<u64> = self.newest.keys().map(|page| u64::from(*page)).collect();
        pages.sort_unstable();
        pages
    }

    pub(super) fn page_size(&self) -> usize {
        self.page_size
    }

    fn known_hash(&self, page: u64) -> Option<PageHash> {
        self.newest.get(&(page as u32)).map(|(_, entry)| entry.hash)
    }

    /// Begins to restore all pages.
    pub(crate) fn into_restoration(self) -> Restoration {
        // In the order of the files, so that reads are long.
        let mut found: Vec<(usize, Entry)> = self.newest.values().copied().collect();
        found.sort_unstable_by_key(|(layer, entry)| (*layer, entry.slot, entry.page));
        Restoration { stack: self, found }
    }

    /// Reads entries, in runs of neighbouring slots of one layer.
    fn read_found(&self, found: &[(usize, Entry)], buffer: &mut [u8]) -> Result<()> {
        let neighbours = |left: &(usize, Entry), right: &(usize, Entry)| match (left.1.slot, right.1.slot) {
            (Some(before), Some(after)) => left.0 == right.0 && before + 1 == after,
            (None, None) => left.0 == right.0,
            _ => false,
        };
        let mut rest = buffer;
        for run in found.chunk_by(neighbours) {
            let (bytes, after) = rest.split_at_mut(run.len() * self.page_size);
            let entries: Vec<Entry> = run.iter().map(|(_, entry)| *entry).collect();
            self.layers[run[0].0].read_run(&entries, bytes)?;
            rest = after;
        }
        Ok(())
    }

    /// Writes a new layer with those of `pages` (private pages of the VM) that are not what the
    /// layers hold already.
    pub(crate) fn write_layer(
        &self,
        directory: &Path,
        name: &str,
        pages: &[u64],
        source: &dyn PageSource,
    ) -> Result<LayerFile> {
        write_layer(directory, name, self.page_size, pages, source, &|page| self.known_hash(page))
    }
}

/// The pages of a snapshot on their way into a VM.
#[derive(Debug)]
pub(crate) struct Restoration {
    stack: LayerStack,
    found: Vec<(usize, Entry)>,
}

impl Restoration {
    /// Writes every page into `sink`, each checked before.
    pub(crate) fn write_into(&self, sink: &dyn PageSink) -> Result<()> {
        in_batches(&self.found, self.stack.page_size, |batch, buffer| {
            self.stack.read_found(batch, buffer)?;
            let numbers: Vec<u64> = batch.iter().map(|(_, entry)| u64::from(entry.page)).collect();
            sink.write_pages(&numbers, buffer)
        })
    }

    /// Checks every page.
    pub(crate) fn verify(&self) -> Result<()> {
        struct Discard;
        impl PageSink for Discard {
            fn write_pages(&self, _pages: &[u64], _buffer: &[u8]) -> Result<()> {
                Ok(())
            }
        }
        self.write_into(&Discard)
    }
}

impl PageSource for LayerStack {
    fn read_pages(&self, pages: &[u64], buffer: &mut [u8]) -> Result<()> {
        for (page, bytes) in pages.iter().zip(buffer.chunks_mut(self.page_size)) {
            let found =
                self.newest.get(&(*page as u32)).expect("invariant: only pages of the index are asked for");
            self.read_found(&[*found], bytes)?;
        }
        Ok(())
    }
}

/// Names and adds up what a snapshot in layers consists of, while it is being made.
#[derive(Debug)]
pub(crate) struct LayerSnapshot {
    directory: PathBuf,
    generation: u32,
    /// The one before, with its directory.
    previous: Option<(PathBuf, Manifest)>,
}

impl LayerSnapshot {
    /// Begins the snapshot after the one in `previous`, if any, in a directory where there is none.
    pub(crate) fn begin(directory: &Path, previous: Option<&Path>) -> Result<Self> {
        let read = |previous: &Path| Ok((previous.to_path_buf(), Manifest::read_existing(previous)?));
        let previous = previous.map(read).transpose()?;
        let generation = previous.as_ref().map_or(0, |(_, manifest)| manifest.generation()) + 1;
        Ok(Self { directory: directory.to_path_buf(), generation, previous })
    }

    /// Where it is made.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The layers so far.
    pub(crate) fn open_layers(&self) -> Result<LayerStack> {
        match &self.previous {
            Some((directory, manifest)) => LayerStack::open(directory, manifest),
            None => Ok(LayerStack::empty()),
        }
    }

    /// Name of the new layer.
    pub(crate) fn layer_name(&self) -> String {
        format!("memory.{:04}.layer", self.generation)
    }

    /// Name of the new device state.
    pub(crate) fn device_state_name(&self) -> String {
        format!("device-state.{:04}", self.generation)
    }

    /// Makes the new files and the layers before them the snapshot.
    pub(crate) fn commit(
        self,
        base: &Manifest,
        layer: LayerFile,
        device_state: DeviceState,
        disks: Vec<DiskState>,
    ) -> Result<SnapshotInfo> {
        let memory_bytes = u64::from(layer.data_pages) * rustix::param::page_size() as u64;
        let info = SnapshotInfo { memory_bytes, device_state_bytes: device_state.bytes };
        let mut layers = Vec::new();
        if let Some((previous, manifest)) = &self.previous {
            for layer in manifest.layer_files() {
                link(previous, &self.directory, &layer.file)?;
                layers.push(layer.clone());
            }
        }
        layers.push(layer);
        let memory = MemoryLayout::Layers { base_blake3: base.base_digest().to_owned(), layers };
        Manifest::new(base.platform.clone(), base.memory_bytes, memory, device_state, disks)
            .commit(&self.directory)?;
        Ok(info)
    }
}

/// Another name for a file that is never written again.
pub(super) fn link(from: &Path, to: &Path, name: &str) -> Result<()> {
    let (from, to) = (from.join(name), to.join(name));
    fs::hard_link(&from, &to).map_err(|source| file_error("link", &from, source))
}

#[cfg(test)]
mod tests;
