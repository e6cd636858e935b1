//! What there is on this host: QEMU, its version and machine types, an accelerator that works.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

use super::{ACCELERATOR_VARIABLE, Accelerator, Architecture};
use crate::error::{Error, Result};

/// First version that maps a snapshot's memory privately from a read-only descriptor
/// (`memory-backend-file` with `rom=off`).
const MINIMUM_VERSION: (u32, u32) = (8, 2);

/// How long the trial guest may take for its first sign of life. It needs some 20 ms where KVM
/// works, and seconds where the host is busy or is a virtual machine itself; too short a trial
/// would change the accelerator without need.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// KVM's device.
pub(super) const KVM: &str = "/dev/kvm";

/// The accelerator in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceleratorChoice {
    /// Which it is.
    pub accelerator: Accelerator,
    /// Why, as a sentence for people.
    pub reason: String,
}

/// Names of QEMU's program and of its Debian package for this host.
fn names() -> (&'static str, &'static str) {
    match Architecture::HOST {
        Architecture::X86_64 => ("qemu-system-x86_64", "qemu-system-x86"),
        Architecture::Aarch64 => ("qemu-system-aarch64", "qemu-system-arm"),
    }
}

/// The configured program, or the one in `PATH`; without symbolic links, as the jail does
/// not show all of them.
pub(super) fn find_program(configured: Option<&Path>) -> Result<PathBuf> {
    let (name, package) = names();
    let found = match configured {
        Some(program) => fs::canonicalize(program).ok(),
        None => std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .find_map(|directory| fs::canonicalize(directory.join(name)).ok()),
    };
    let program = configured.map_or(name.into(), |program| program.display().to_string());
    found.ok_or_else(|| Error::NotInstalled { program, package: package.to_owned() })
}

/// QEMU's version as text, if it is new enough.
pub(super) async fn version(program: &Path) -> Result<String> {
    let output = run(program, &["--version"]).await?;
    let (text, number) = parse_version(&output).ok_or_else(|| Error::Refused {
        command: format!("{} --version", program.display()),
        message: format!("no version in its answer: {}", output.lines().next().unwrap_or_default()),
    })?;
    if number < MINIMUM_VERSION {
        let wanted = format!("{}.{}", MINIMUM_VERSION.0, MINIMUM_VERSION.1);
        return Err(Error::TooOld { found: text, wanted });
    }
    Ok(text)
}

fn parse_version(output: &str) -> Option<(String, (u32, u32))> {
    let text = output.lines().next()?.split_once("version ")?.1.split(' ').next()?;
    let mut numbers = text.split('.').map(str::parse::<u32>);
    Some((text.to_owned(), (numbers.next()?.ok()?, numbers.next()?.ok()?)))
}

/// The versioned name behind `q35` or `virt`, so that a snapshot is restored with the machine it
/// was taken of even after an upgrade of QEMU.
pub(super) async fn machine_type(program: &Path) -> Result<String> {
    let alias = match Architecture::HOST {
        Architecture::X86_64 => "q35",
        Architecture::Aarch64 => "virt",
    };
    let output = run(program, &["-machine", "help"]).await?;
    Ok(parse_alias(&output, alias).unwrap_or_else(|| alias.to_owned()))
}

fn parse_alias(machine_help: &str, alias: &str) -> Option<String> {
    let line = machine_help.lines().find(|line| line.split(' ').next() == Some(alias))?;
    Some(line.split_once("(alias of ")?.1.trim_end_matches(')').to_owned())
}

async fn run(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().await;
    let output =
        output.map_err(|source| Error::File { action: "execute", path: program.to_path_buf(), source })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Which CPU guests see: the emulated model, or the host's.
pub(super) fn cpu(accelerator: Accelerator) -> String {
    match accelerator {
        Accelerator::Tcg => accelerator.cpu().to_owned(),
        Accelerator::Kvm => {
            let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            parse_cpu_model(&text).unwrap_or_else(|| "the host's CPU".to_owned())
        }
    }
}

/// The model in `/proc/cpuinfo`: a name on x86, the numbers of maker and part on ARM.
fn parse_cpu_model(text: &str) -> Option<String> {
    let member = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    let arm = || Some(format!("{} {}", member("CPU implementer")?, member("CPU part")?));
    member("model name").or_else(arm)
}

/// RAM of many guests only fits if swap space is not reserved for all of it
/// (`vm.overcommit_memory`, proc(5)).
pub(super) fn overcommit_allowed() -> bool {
    fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim() != "2")
}

/// Takes what the operator says, or what was found out since the host was started, or tries.
pub(super) async fn choose_accelerator(
    program: &Path,
    configured: Option<Accelerator>,
    version: &str,
    verdict_file: Option<&Path>,
) -> Result<AcceleratorChoice> {
    let variable = std::env::var(ACCELERATOR_VARIABLE).ok();
    let choice = |accelerator, reason: &str| Ok(AcceleratorChoice { accelerator, reason: reason.to_owned() });
    match (variable.as_deref(), configured) {
        (Some("kvm"), _) => choice(Accelerator::Kvm, &format!("{ACCELERATOR_VARIABLE} says so")),
        (Some("tcg"), _) => choice(Accelerator::Tcg, &format!("{ACCELERATOR_VARIABLE} says so")),
        (Some(other), _) if other != "auto" && !other.is_empty() => Err(Error::Refused {
            command: ACCELERATOR_VARIABLE.to_owned(),
            message: format!("{other} is none of auto, kvm and tcg"),
        }),
        (None, Some(accelerator)) => choice(accelerator, "the configuration says so"),
        _ => match try_kvm(program, &Verdict::here(version), verdict_file).await {
            Ok(reason) => choice(Accelerator::Kvm, reason),
            Err(reason) => {
                if Path::new(KVM).exists() {
                    tracing::warn!(
                        reason,
                        "/dev/kvm exists, but guests run under tcg, which is 10 to 20 times slower. Snapshots that \
                         were taken under kvm do not run. Set {ACCELERATOR_VARIABLE}=kvm to use it anyway, or \
                         {ACCELERATOR_VARIABLE}=tcg if this is what you want"
                    );
                }
                choice(Accelerator::Tcg, &reason)
            }
        },
    }
}

/// Whether a guest runs under KVM, and how that is known; the error is the reason why not.
async fn try_kvm(
    program: &Path,
    here: &Verdict,
    verdict_file: Option<&Path>,
) -> std::result::Result<&'static str, String> {
    if let Err(error) = fs::OpenOptions::new().read(true).write(true).open(KVM) {
        return Err(format!("{KVM} cannot be opened: {error}"));
    }
    // Some hosts offer a /dev/kvm that runs no stock guest although their CPU has no
    // virtualization extension.
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if Architecture::HOST == Architecture::X86_64 && !has_virtualization_flag(&cpu) {
        return Err("the CPU has neither svm nor vmx".to_owned());
    }
    if verdict_file.is_some_and(|file| here.is_remembered(file)) {
        return Ok("a trial guest has run under KVM since this host was started");
    }
    run_trial_guest(program, Accelerator::Kvm).await?;
    if let Some(file) = verdict_file {
        here.remember(file);
    }
    Ok("a trial guest runs under KVM")
}

/// That KVM works here. Only this is remembered: that it does not may have been the
/// fault of a busy moment.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Verdict {
    accelerator: String,
    /// Which start of the host.
    boot_id: String,
    kernel: String,
    qemu: String,
    cpu: String,
}

impl Verdict {
    fn here(qemu: &str) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self {
            accelerator: Accelerator::Kvm.name().to_owned(),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            kernel: read("/proc/sys/kernel/osrelease"),
            qemu: qemu.to_owned(),
            cpu: cpu(Accelerator::Kvm),
        }
    }

    fn is_remembered(&self, file: &Path) -> bool {
        let text = fs::read(file).unwrap_or_default();
        !self.boot_id.is_empty() && serde_json::from_slice::<Self>(&text).is_ok_and(|found| found == *self)
    }

    fn remember(&self, file: &Path) {
        let text = serde_json::to_vec(self).expect("invariant: a verdict is plain data");
        if let Err(error) = fs::write(file, text) {
            tracing::warn!(file = %file.display(), %error, "that KVM works could not be written down");
        }
    }
}

fn has_virtualization_flag(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().filter(|line| line.starts_with("flags"));
    flags.flat_map(str::split_whitespace).any(|flag| matches!(flag, "svm" | "vmx"))
}

/// Starts a guest without disks and waits for a sign that it executes code: the firmware's banner
/// on its debug port on x86. On ARM, where no such KVM is known, QEMU must start.
async fn run_trial_guest(program: &Path, accelerator: Accelerator) -> std::result::Result<(), String> {
    let mut command = Command::new(program);
    command.args(["-no-user-config", "-nodefaults", "-display", "none", "-m", "64M"]);
    command.args(["-accel", accelerator.name()]);
    command.args(["-cpu", &accelerator.cpu_option(true)]);
    match Architecture::HOST {
        Architecture::X86_64 => {
            command.args(["-machine", "q35", "-chardev", "stdio,id=debug"]);
            command.args(["-device", "isa-debugcon,iobase=0x402,chardev=debug"]);
        }
        Architecture::Aarch64 => {
            command.args(["-machine", "virt,gic-version=max", "-qmp", "stdio"]);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let name = accelerator.name();
    let mut child = command.spawn().map_err(|error| format!("the trial guest does not start: {error}"))?;
    let output = child.stdout.take().ok_or("the trial guest has no output")?;
    let seconds = TRIAL_TIMEOUT.as_secs();
    match tokio::time::timeout(TRIAL_TIMEOUT, sign_of_life(output)).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(format!("the trial guest under {name} ended at once")),
        Ok(Err(error)) => Err(format!("the trial guest under {name} cannot be watched: {error}")),
        Err(_) => Err(format!("the trial guest under {name} showed no sign of life in {seconds} s")),
    }
}

/// Reads until a line that only a guest (or on ARM, a QEMU) that works prints.
async fn sign_of_life(output: impl AsyncRead + Unpin) -> io::Result<bool> {
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next_line().await? {
        if line.contains("SeaBIOS") || line.contains("\"QMP\"") {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright (c)";
        assert_eq!(parse_version(debian), Some(("10.0.2".into(), (10, 0))));
        assert!(parse_version(debian).unwrap().1 > MINIMUM_VERSION);
        assert!(parse_version("QEMU emulator version 7.2.22").unwrap().1 < MINIMUM_VERSION);
        assert_eq!(parse_version("bash: no such thing"), None);
    }

    #[test]
    fn the_cpu_has_a_model_on_both_architectures() {
        let x86 = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Some CPU @ 2.00GHz\n";
        assert_eq!(parse_cpu_model(x86).as_deref(), Some("Some CPU @ 2.00GHz"));
        let arm = "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd0c\n";
        assert_eq!(parse_cpu_model(arm).as_deref(), Some("0x41 0xd0c"));
        assert_eq!(parse_cpu_model(""), None);
    }

    #[test]
    fn the_alias_leads_to_the_versioned_machine() {
        let help = "Supported machines are:\npc-q35-9.2           Standard PC\nq35                  \
            Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-10.0)\n";
        assert_eq!(parse_alias(help, "q35").as_deref(), Some("pc-q35-10.0"));
        assert_eq!(parse_alias(help, "virt"), None);
    }

    #[test]
    fn flags_are_whole_words() {
        assert!(has_virtualization_flag("flags\t\t: fpu svm sse\n"));
        assert!(!has_virtualization_flag("flags\t\t: fpu svm_lock vmxoff\nbugs: svm\n"));
    }

    #[test]
    fn a_verdict_holds_until_the_host_its_kernel_or_qemu_changes() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("accelerator.json");
        let here = Verdict::here("10.0.2");
        assert!(!here.is_remembered(&file));
        here.remember(&file);
        assert!(here.is_remembered(&file), "a busy moment later the same is chosen");
        let change: [fn(&mut Verdict); 4] = [
            |verdict| verdict.boot_id.push('x'),
            |verdict| verdict.kernel.push('x'),
            |verdict| verdict.qemu.push('x'),
            |verdict| verdict.cpu.push('x'),
        ];
        for change in change {
            let mut other = Verdict::here("10.0.2");
            change(&mut other);
            assert!(!other.is_remembered(&file), "{other:?}");
        }
        fs::write(&file, "{").unwrap();
        assert!(!here.is_remembered(&file));
    }

    #[tokio::test]
    async fn a_missing_program_names_its_package() {
        let error = find_program(Some(Path::new("/nonexistent/qemu"))).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/qemu is not installed"), "{error}");
    }

    #[tokio::test]
    async fn an_old_version_is_refused_with_both_numbers() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("qemu");
        // Written by another process: what this one, or a child that another test forks at that
        // moment, has open for writing cannot be executed (ETXTBSY, execve(2)).
        let write = r#"printf '#!/bin/sh\necho QEMU emulator version 7.2.22\n' >"$0" && chmod 755 "$0""#;
        let written = std::process::Command::new("sh").args(["-c", write]).arg(&program).status().unwrap();
        assert!(written.success());
        let error = version(&program).await.unwrap_err();
        assert_eq!(error.to_string(), "QEMU 7.2.22 is too old: 8.2 or later is needed");
    }

    #[tokio::test]
    async fn a_trial_guest_that_works_is_recognised() {
        let Ok(program) = find_program(None) else {
            eprintln!("skipped: QEMU is not installed");
            return;
        };
        // The same trial as for KVM, on the accelerator that works everywhere.
        assert_eq!(run_trial_guest(&program, Accelerator::Tcg).await, Ok(()));
        let error = run_trial_guest(Path::new("/bin/true"), Accelerator::Tcg).await.unwrap_err();
        assert_eq!(error, "the trial guest under tcg ended at once");
    }
}
