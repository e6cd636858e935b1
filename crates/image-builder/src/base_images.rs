//! Where the images of FROM come from: a mirror table of prepared stores, or a registry.
//!
//! A prepared store is an ext4 disk with a read-only containers-storage, which the build microVM mounts as it is: no
//! import, whatever the image's size. What comes from a registry is pulled once, by digest, and made into such a disk
//! by `guest/store-image.sh`, which never runs or unpacks anything of it as root.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_guest_protocol::chain;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::failure::{BuildFailure, FailureCode};

/// Settings of [`BaseImages`].
#[derive(Debug, Clone)]
pub struct BaseImagesConfig {
    /// JSON list of prepared stores that `make setup` writes: `[{"reference": …, "store": …}]`.
    pub mirror_table: PathBuf,
    /// Registries to ask instead of the named ones: `docker.io` → `http://127.0.0.1:5000`.
    pub registry_mirrors: Vec<(String, String)>,
    /// The program `guest/store-image.sh`.
    pub store_tool: PathBuf,
    /// Where pulled images are kept, by digest.
    pub cache: PathBuf,
    /// PEM file of further certificates to trust when pulling.
    pub ca_bundle: Option<PathBuf>,
}

/// How long a registry may take for its next byte.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(30);

/// Finds base images.
#[derive(Debug)]
pub struct BaseImages {
    config: BaseImagesConfig,
    /// One pull at a time: two builds from the same new image pull it once.
    pulling: Mutex<()>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Mirror {
    reference: String,
    store: PathBuf,
}

impl BaseImages {
    /// With these settings.
    pub fn new(config: BaseImagesConfig) -> Self {
        Self { config, pulling: Mutex::new(()) }
    }

    /// The store disks that a build from `images` needs, without duplicates.
    pub(crate) async fn stores(&self, images: &BTreeSet<String>) -> Result<Vec<PathBuf>, BuildFailure> {
        let table = self.mirror_table()?;
        let mut stores = BTreeSet::new();
        for image in images {
            let reference: Reference = image
                .parse()
                .map_err(|error| unknown(image, &format!("it is no image reference ({error})")))?;
            let name = reference.whole();
            let prepared = table.iter().find(|mirror| mirror.reference == name);
            stores.insert(match prepared {
                Some(mirror) => mirror.store.clone(),
                None => self.pulled(image, &reference).await?,
            });
        }
        Ok(stores.into_iter().collect())
    }

    fn mirror_table(&self) -> Result<Vec<Mirror>, BuildFailure> {
        let path = &self.config.mirror_table;
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| BuildFailure::platform("read the mirror table of base images", &error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(BuildFailure::platform("read the mirror table of base images", &error)),
        }
    }

    async fn pulled(&self, image: &str, reference: &Reference) -> Result<PathBuf, BuildFailure> {
        let _one_at_a_time = self.pulling.lock().await;
        let (client, source) = self.client(reference)?;
        let auth = RegistryAuth::Anonymous;
        let (manifest, digest) = client
            .pull_image_manifest(&source, &auth)
            .await
            .map_err(|error| unknown(image, &chain(&error)))?;
        let digest = digest.replace(':', "-");
        // The name is part of the store: the same image under two names makes two stores.
        let name = blake3::hash(reference.whole().as_bytes()).to_hex();
        let store = self.config.cache.join(format!("{digest}-{}.ext4", &name[..16]));
        if store.exists() {
            return Ok(store);
        }
        let failed =
            |error: &dyn std::error::Error| BuildFailure::platform("keep a pulled base image", error);
        std::fs::create_dir_all(&self.config.cache).map_err(|error| failed(&error))?;
        let layout = tempfile::tempdir_in(&self.config.cache).map_err(|error| failed(&error))?;
        pull_layout(&client, &source, &manifest, layout.path())
            .await
            .map_err(|error| unknown(image, &chain(&*error)))?;
        self.make_store(layout.path(), &reference.whole(), &store).await?;
        Ok(store)
    }

    async fn make_store(&self, layout: &Path, name: &str, store: &Path) -> Result<(), BuildFailure> {
        // The tool's own users have to read what it makes; the server's umask is for the server's files.
        let output = tokio::process::Command::new("sh")
            .args(["-c", r#"umask 022 && exec "$0" "$@""#])
            .arg(&self.config.store_tool)
            .args([layout.as_os_str(), name.as_ref(), store.as_os_str()])
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| BuildFailure::platform("start guest/store-image.sh", &error))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(BuildFailure::new(
            FailureCode::ContainerBuildFailed,
            format!("The base image {name} could not be used: {}.", said.trim().trim_end_matches('.')),
        ))
    }

    /// A client for the image, and its reference in the registry that is really asked.
    fn client(&self, reference: &Reference) -> Result<(Client, Reference), BuildFailure> {
        let mirror = self.config.registry_mirrors.iter().find(|(name, _)| name == reference.registry());
        let mut protocol = ClientProtocol::Https;
        let mut source = reference.clone();
        if let Some((_, address)) = mirror {
            let host =
                address.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
            if address.starts_with("http://") {
                protocol = ClientProtocol::HttpsExcept(vec![host.to_owned()]);
            }
            let repository = reference.repository().to_owned();
            source = if let Some(digest) = reference.digest() {
                Reference::with_digest(host.to_owned(), repository, digest.to_owned())
            } else {
                let tag = reference.tag().unwrap_or("latest").to_owned();
                Reference::with_tag(host.to_owned(), repository, tag)
            };
        }
        let extra_root_certificates = match &self.config.ca_bundle {
            None => Vec::new(),
            Some(path) => certificates(path)?,
        };
        let config = ClientConfig {
            protocol,
            extra_root_certificates,
            connect_timeout: Some(REGISTRY_TIMEOUT),
            read_timeout: Some(REGISTRY_TIMEOUT),
            ..ClientConfig::default()
        };
        Ok((Client::new(config), source))
    }
}

/// Splits a PEM bundle, because a certificate of the client is one certificate.
fn certificates(path: &Path) -> Result<Vec<Certificate>, BuildFailure> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = std::fs::read_to_string(path)
        .map_err(|error| BuildFailure::platform("read the configured CA bundle", &error))?;
    let pieces = text.split_inclusive(END).filter(|piece| piece.contains("-----BEGIN CERTIFICATE-----"));
    let pem =
        |piece: &str| Certificate { encoding: CertificateEncoding::Pem, data: piece.as_bytes().to_vec() };
    Ok(pieces.map(pem).collect())
}

fn unknown(image: &str, detail: &str) -> BuildFailure {
    BuildFailure::new(
        FailureCode::ContainerBuildFailed,
        format!(
            "The base image {image} of a FROM or COPY --from is not available: {}.",
            detail.trim().trim_end_matches('.')
        ),
    )
}

/// Writes an OCI image layout (OCI image specification, "Image Layout") with one image.
async fn pull_layout(
    client: &Client,
    source: &Reference,
    manifest: &OciImageManifest,
    layout: &Path,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    for descriptor in manifest.layers.iter().chain([&manifest.config]) {
        pull_blob(client, source, descriptor, &blobs).await?;
    }
    let text = serde_json::to_vec(manifest)?;
    let digest = sha256_hex(&text);
    std::fs::write(blobs.join(&digest), &text)?;
    let media_type = manifest.media_type.as_deref().unwrap_or("application/vnd.oci.image.manifest.v1+json");
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": text.len() }],
    });
    std::fs::write(layout.join("index.json"), serde_json::to_vec(&index)?)?;
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    readable_by_all(layout)?;
    Ok(())
}

async fn pull_blob(
    client: &Client,
    source: &Reference,
    descriptor: &OciDescriptor,
    blobs: &Path,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let digest = descriptor.digest.strip_prefix("sha256:").ok_or("a layer has no SHA-256 digest")?;
    if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("a layer has a malformed digest".into());
    }
    let file = tokio::fs::File::create(blobs.join(digest)).await?;
    client.pull_blob(source, descriptor, file).await?;
    Ok(())
}

fn sha256_hex(data: &[u8]) -> String {
    use std::fmt::Write as _;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data);
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

/// The tool that reads the layout runs as nobody.
fn readable_by_all(layout: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for directory in [layout.to_owned(), layout.join("blobs"), layout.join("blobs/sha256")] {
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))?;
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o644))?;
            }
        }
    }
    Ok(())
}
