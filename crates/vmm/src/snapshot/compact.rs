//! Merging the layers of a suspended microVM, so that its disk use stays in
//! proportion to what it changed.

use std::path::Path;

use super::layer::write_layer;
use super::layers::{LayerStack, remove_unnamed};
use super::manifest::{Manifest, MemoryLayout};
use crate::error::Result;

/// Superseded bytes that are not worth a merge.
const TOLERATED_BYTES: u64 = 4 * 1024 * 1024;
/// Superseded bytes are tolerated up to this part of the live ones, if that is more.
const TOLERATED_PART: u64 = 4;
/// A restore opens all layers; beyond this number they are merged whatever their size.
const MAX_LAYERS: usize = 16;

/// Merges the layers in a microVM's directory into one if too much of them is superseded; answers
/// whether it did. To be called by the directory's owner after the VM is gone. A failure leaves
/// the snapshot as it was.
pub fn compact(directory: &Path) -> Result<bool> {
    let Some(mut manifest) = Manifest::read(directory)? else { return Ok(false) };
    let MemoryLayout::Layers { layers, .. } = &mut manifest.memory else { return Ok(false) };
    let all_pages: u64 = layers.iter().map(|layer| u64::from(layer.data_pages)).sum();
    let count = layers.len();
    let stack = LayerStack::open(directory, &manifest)?;
    let page_size = stack.page_size() as u64;
    let live = stack.live_data_pages() as u64 * page_size;
    let superseded = all_pages * page_size - live;
    if count <= 1 || (superseded <= TOLERATED_BYTES.max(live / TOLERATED_PART) && count <= MAX_LAYERS) {
        return Ok(false);
    }
    // Not one of the names in use: those files are read from while this one is written.
    let name = format!("memory.{:04}-merged.layer", manifest.generation());
    let merged = write_layer(directory, &name, stack.page_size(), &stack.pages(), &stack, &|_| None)?;
    if let MemoryLayout::Layers { layers, .. } = &mut manifest.memory {
        *layers = vec![merged];
    }
    manifest.commit(directory)?;
    remove_unnamed(directory, &manifest);
    Ok(true)
}
