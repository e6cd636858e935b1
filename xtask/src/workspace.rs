//! The crates of the workspace, as `cargo metadata` describes them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// A crate of ours.
#[derive(Debug, Clone, Default)]
pub(crate) struct Package {
    /// Name without the `hearth-` before it.
    pub(crate) name: String,
    /// Directory, from the root of the repository.
    pub(crate) directory: String,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

/// One line of a `Cargo.toml`.
#[derive(Debug, Clone)]
pub(crate) struct Dependency {
    /// Name of the package.
    pub(crate) name: String,
    /// Name that the code has for it.
    pub(crate) crate_name: String,
    /// Only tests, examples and benches may use it.
    pub(crate) for_tests: bool,
    /// It is a crate of ours.
    pub(crate) ours: bool,
}

/// Something that is compiled: a library, a program, a test.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Its first file, from the root of the repository.
    pub(crate) root: String,
    /// Test, example or bench.
    pub(crate) for_tests: bool,
}

impl Package {
    /// All crates of the workspace at `root`.
    pub(crate) fn of_workspace(root: &Path) -> anyhow::Result<Vec<Self>> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let cargo = cargo.args(["metadata", "--format-version=1", "--no-deps", "--offline"]);
        let output = cargo.current_dir(root).output().context("cargo cannot be started")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        }
        let metadata: Value = serde_json::from_slice(&output.stdout).context("metadata of cargo")?;
        let root = format!("{}/", root.display());
        list(&metadata["packages"]).iter().map(|package| Self::read(package, &root)).collect()
    }

    fn read(package: &Value, root: &str) -> anyhow::Result<Self> {
        let relative = |value: &Value| -> anyhow::Result<String> {
            let path = text(value)?;
            Ok(path.strip_prefix(root).with_context(|| format!("{path} is elsewhere"))?.to_owned())
        };
        let manifest = relative(&package["manifest_path"])?;
        Ok(Self {
            name: short(text(&package["name"])?),
            directory: manifest.trim_end_matches("/Cargo.toml").to_owned(),
            dependencies: list(&package["dependencies"])
                .iter()
                .map(Dependency::read)
                .collect::<Result<_, _>>()?,
            targets: list(&package["targets"])
                .iter()
                .map(|target| {
                    let for_tests = ["test", "example", "bench"];
                    let kinds = list(&target["kind"]).iter().filter_map(Value::as_str);
                    Ok(Target {
                        root: relative(&target["src_path"])?,
                        for_tests: kinds.into_iter().any(|kind| for_tests.contains(&kind)),
                    })
                })
                .collect::<anyhow::Result<_>>()?,
        })
    }

    /// Whether a file belongs to it.
    pub(crate) fn contains(&self, path: &str) -> bool {
        path.strip_prefix(&*self.directory).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl Dependency {
    fn read(value: &Value) -> anyhow::Result<Self> {
        let name = text(&value["name"])?;
        let used = value["rename"].as_str().unwrap_or(name);
        Ok(Self {
            name: short(name),
            crate_name: used.replace('-', "_"),
            for_tests: value["kind"] == "dev",
            ours: value["path"].is_string(),
        })
    }
}

fn short(name: &str) -> String {
    name.strip_prefix("hearth-").unwrap_or(name).to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> anyhow::Result<&str> {
    value.as_str().context("cargo's metadata lack a text")
}
