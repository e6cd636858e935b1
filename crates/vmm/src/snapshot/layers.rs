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
    directory: PathBuf,
    page_size: usize,
    layers: Vec<Layer>,
    /// Page number → index of the newest layer that has it, and the entry there.
    newest: HashMap<u32, (usize, Entry)>,
}

impl LayerStack {
    /// Opens the layers that a manifest names.
    pub(crate) fn open(directory: &Path, manifest: &Manifest) -> Result<Self> {
        let mut stack = Self::empty(directory);
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
    pub(crate) fn empty(directory: &Path) -> Self {
        let page_size = rustix::param::page_size();
        Self { directory: directory.to_path_buf(), page_size, layers: Vec::new(), newest: HashMap::new() }
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
        name: &str,
        pages: &[u64],
        source: &dyn PageSource,
    ) -> Result<LayerFile> {
        write_layer(&self.directory, name, self.page_size, pages, source, &|page| self.known_hash(page))
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
    previous: Option<Manifest>,
}

impl LayerSnapshot {
    /// Begins the snapshot after the one in the directory, if any.
    pub(crate) fn begin(directory: &Path) -> Result<Self> {
        let previous = Manifest::read(directory)?;
        let generation = previous.as_ref().map_or(0, Manifest::generation) + 1;
        Ok(Self { directory: directory.to_path_buf(), generation, previous })
    }

    /// The layers so far.
    pub(crate) fn open_layers(&self) -> Result<LayerStack> {
        match &self.previous {
            Some(manifest) => LayerStack::open(&self.directory, manifest),
            None => Ok(LayerStack::empty(&self.directory)),
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

    /// Makes the new files the snapshot and removes those it replaces.
    pub(crate) fn commit(
        self,
        base: &Manifest,
        layers: Vec<LayerFile>,
        device_state: DeviceState,
        disks: Vec<DiskState>,
    ) -> Result<SnapshotInfo> {
        let page_size = rustix::param::page_size() as u64;
        let newest = layers.last().map_or(0, |layer| u64::from(layer.data_pages));
        let info = SnapshotInfo { memory_bytes: newest * page_size, device_state_bytes: device_state.bytes };
        let memory = MemoryLayout::Layers { base_blake3: base.base_digest().to_owned(), layers };
        let manifest = Manifest::new(base.platform.clone(), base.memory_bytes, memory, device_state, disks);
        manifest.commit(&self.directory)?;
        remove_unnamed(&self.directory, &manifest);
        Ok(info)
    }

    /// The layers of the snapshot before, with a new one on top.
    pub(crate) fn layers_with(&self, layer: LayerFile) -> Vec<LayerFile> {
        let mut layers =
            self.previous.as_ref().map_or(Vec::new(), |manifest| manifest.layer_files().to_vec());
        layers.push(layer);
        layers
    }

    /// Removes what a failed attempt has written.
    pub(crate) fn discard(&self) {
        for name in [self.layer_name(), self.device_state_name(), "manifest.json.new".to_owned()] {
            remove(&self.directory.join(name));
        }
    }
}

/// Removes layers and device states that the manifest does not name: of older snapshots,
/// or of one that failed.
pub(super) fn remove_unnamed(directory: &Path, manifest: &Manifest) {
    let Ok(files) = fs::read_dir(directory) else { return };
    for name in files.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let ours = name.starts_with("device-state.") || name.starts_with("memory.");
        let named = name == manifest.device_state.file
            || manifest.layer_files().iter().any(|layer| layer.file == name);
        if ours && !named {
            remove(&directory.join(name));
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        let error = file_error("remove", path, error);
        tracing::warn!(%error, "a superseded snapshot file stays");
    }
}

#[cfg(test)]
mod tests;
