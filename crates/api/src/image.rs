//! Images, their versions and builds on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::microvm::Logging;

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// Spelling on the wire and in the database.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Reads the spelling of `as_str`.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}
pub(crate) use wire_enum;

wire_enum!(
    /// State of an image.
    ImageState {
        /// First version being built.
        Creating => "CREATING",
        /// Has a usable first version.
        Created => "CREATED",
        /// The first version failed.
        CreateFailed => "CREATE_FAILED",
        /// A later version is being built or deleted.
        Updating => "UPDATING",
        /// The latest change succeeded.
        Updated => "UPDATED",
        /// The latest change failed.
        UpdateFailed => "UPDATE_FAILED",
        /// Being deleted.
        Deleting => "DELETING",
        /// Could not be deleted.
        DeleteFailed => "DELETE_FAILED",
        /// Gone.
        Deleted => "DELETED",
    }
);
wire_enum!(
    /// State of an image version.
    ImageVersionState {
        /// Waits for its build.
        Pending => "PENDING",
        /// Being built.
        InProgress => "IN_PROGRESS",
        /// Built.
        Successful => "SUCCESSFUL",
        /// The build failed; the reason is on the build record.
        Failed => "FAILED",
        /// Being deleted.
        Deleting => "DELETING",
        /// Gone.
        Deleted => "DELETED",
        /// Could not be deleted.
        DeleteFailed => "DELETE_FAILED",
    }
);
wire_enum!(
    /// Whether a version may be launched; set by the user.
    ImageVersionStatus {
        /// May be launched.
        Active => "ACTIVE",
        /// May not be launched.
        Inactive => "INACTIVE",
    }
);
wire_enum!(
    /// State of a build.
    BuildState {
        /// Not begun.
        Pending => "PENDING",
        /// Running.
        InProgress => "IN_PROGRESS",
        /// Done.
        Successful => "SUCCESSFUL",
        /// Failed; see `stateReason`.
        Failed => "FAILED",
    }
);
wire_enum!(
    /// CPU architecture.
    Architecture {
        /// AArch64.
        Arm64 => "ARM_64",
        /// x86-64.
        X86_64 => "X86_64",
    }
);
wire_enum!(
    /// CPU family of a build.
    Chipset {
        /// Arm.
        Graviton => "GRAVITON",
        /// x86.
        Intel => "INTEL",
    }
);
wire_enum!(
    /// Whether a hook is called.
    HookState {
        /// Not called.
        Disabled => "DISABLED",
        /// Called.
        Enabled => "ENABLED",
    }
);

impl Architecture {
    /// The host's own.
    pub fn host() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::X86_64 }
    }

    /// The chipset that builds of this architecture name.
    pub fn chipset(self) -> Chipset {
        match self {
            Self::Arm64 => Chipset::Graviton,
            Self::X86_64 => Chipset::Intel,
        }
    }
}

/// Everything that CreateMicrovmImage fixes for a version, and that the version echoes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageConfiguration {
    /// Managed base image.
    pub base_image_arn: String,
    /// Version of the base image: `1` is sent, `1.0` is read.
    pub base_image_version: Option<String>,
    /// Role of the build.
    pub build_role_arn: String,
    /// Free text.
    pub description: Option<String>,
    /// The zip.
    pub code_artifact: CodeArtifact,
    /// Where build logs go.
    pub logging: Option<Logging>,
    /// At most one egress connector.
    pub egress_network_connectors: Option<Vec<String>>,
    /// Wanted architectures.
    pub cpu_configurations: Option<Vec<CpuConfiguration>>,
    /// Size.
    pub resources: Option<Vec<Resources>>,
    /// `["ALL"]` or nothing.
    pub additional_os_capabilities: Option<Vec<String>>,
    /// Hooks.
    pub hooks: Option<Hooks>,
    /// Environment of the app.
    pub environment_variables: Option<BTreeMap<String, String>>,
}

/// Where the zip is (`CodeArtifact` union of the model).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeArtifact {
    /// `s3://bucket/key`.
    pub uri: String,
}

/// One wanted architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuConfiguration {
    /// Architecture.
    pub architecture: Architecture,
}

/// Size of a microVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// 512, 1024, 2048, 4096 or 8192 MiB.
    #[serde(rename = "minimumMemoryInMiB")]
    pub minimum_memory_in_mi_b: u32,
}

/// Hooks of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// Port that serves them; required as soon as one is enabled.
    pub port: Option<u16>,
    /// Hooks of a microVM's life.
    pub microvm_hooks: Option<MicrovmHooks>,
    /// Hooks of the build.
    pub microvm_image_hooks: Option<MicrovmImageHooks>,
}

/// Hooks of a microVM's life; timeouts 1 to 60 s, 1 s by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "each pair is named after its hook and has the same meaning")]
pub struct MicrovmHooks {
    pub run: Option<HookState>,
    pub run_timeout_in_seconds: Option<u32>,
    pub resume: Option<HookState>,
    pub resume_timeout_in_seconds: Option<u32>,
    pub suspend: Option<HookState>,
    pub suspend_timeout_in_seconds: Option<u32>,
    pub terminate: Option<HookState>,
    pub terminate_timeout_in_seconds: Option<u32>,
}

/// Hooks of the build; timeouts 1 to 3600 s.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "each pair is named after its hook and has the same meaning")]
pub struct MicrovmImageHooks {
    pub ready: Option<HookState>,
    pub ready_timeout_in_seconds: Option<u32>,
    pub validate: Option<HookState>,
    pub validate_timeout_in_seconds: Option<u32>,
}

/// Sizes of a build: all of a successful one, that of the code alone when a hook failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotBuild {
    /// Bytes of guest memory in the snapshot.
    pub memory_snapshot_size_in_bytes: Option<u64>,
    /// Bytes of the root file system that the Dockerfile made.
    pub code_install_size_in_bytes: Option<u64>,
    /// Bytes that the app changed on disk until the snapshot was taken.
    pub disk_snapshot_size_in_bytes: Option<u64>,
}
