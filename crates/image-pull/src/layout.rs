//! Writes an OCI image layout (OCI image specification, "Image Layout") with one image.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use crate::manifest::Digest;

/// A layout that is being written.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// In an empty directory.
    pub(crate) fn create(root: PathBuf) -> io::Result<Self> {
        fs::create_dir(root.join("blobs"))?;
        fs::create_dir(root.join("blobs/sha256"))?;
        Ok(Self { root })
    }

    /// A new file for a blob.
    pub(crate) fn blob(&self, digest: &Digest) -> io::Result<File> {
        File::create_new(self.root.join("blobs/sha256").join(digest.hex()))
    }

    /// Names the manifest, which becomes a blob too, as the layout's image. The last thing to do.
    pub(crate) fn finish(&self, manifest: &[u8], media_type: &str) -> io::Result<()> {
        let digest = Digest::of(manifest);
        self.blob(&digest)?.write_all(manifest)?;
        let index = serde_json::json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": media_type,
                "digest": format!("sha256:{}", digest.hex()),
                "size": manifest.len(),
            }],
        });
        fs::write(self.root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        fs::write(self.root.join("index.json"), serde_json::to_vec(&index)?)
    }
}
