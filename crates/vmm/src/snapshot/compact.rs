//! Merging the layers of a suspended microVM, so that its disk use stays in
//! proportion to what it changed.

use std::path::Path;

use super::layer::write_layer;
use super::layers::{LayerStack, link};
use super::manifest::{Manifest, MemoryLayout};
use crate::error::Result;

/// Superseded bytes that are not worth a merge.
const TOLERATED_BYTES: u64 = 4 * 1024 * 1024;
/// Superseded bytes are tolerated up to this part of the live ones, if that is more.
const TOLERATED_PART: u64 = 4;
/// A restore opens all layers; beyond this number they are merged whatever their size.
const MAX_LAYERS: usize = 16;

/// Makes a snapshot like the one in `directory`, with its layers merged into one, in the directory
/// `to` on the same file system, if too much of them is superseded; answers whether it did. It may
/// leave files there when it has failed.
pub fn compact(directory: &Path, to: &Path) -> Result<bool> {
    let mut manifest = Manifest::read_existing(directory)?;
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
    let name = format!("memory.{:04}-merged.layer", manifest.generation());
    let merged = write_layer(to, &name, stack.page_size(), &stack.pages(), &stack, &|_| None)?;
    if let MemoryLayout::Layers { layers, .. } = &mut manifest.memory {
        *layers = vec![merged];
    }
    link(directory, to, &manifest.device_state.file)?;
    manifest.commit(to)?;
    Ok(true)
}
