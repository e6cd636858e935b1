//! `hearth doctor`: what this host can do, and what to install or change for the rest. Every answer
//! comes from trying, not from names or versions, wherever trying leaves nothing behind.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hearth_guest::Artefacts;
use hearth_vmm::{Accelerator, Qemu, QemuConfig, Vmm as _};
use serde::Serialize;

use crate::build_config::BuildConfig;
use crate::cache_dir::cache_dir;
use crate::config::{Config, GuestConfig};

/// Below this much free space builds are likely to fail.
const LOW_DISK_BYTES: u64 = 10 << 30;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// As wanted.
    Good,
    /// `hearth serve` works, with less speed, protection or comfort.
    Limited,
    /// `hearth serve` does not work.
    Missing,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    status: Status,
    detail: String,
    /// What mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn good(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, status: Status::Good, detail: detail.into(), remedy: None }
    }

    fn limited(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, status: Status::Limited, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn missing(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, status: Status::Missing, detail: detail.into(), remedy: Some(remedy.into()) }
    }
}

/// Prints what this host can do; exit code 1 when something required is missing.
pub(crate) async fn run(json: bool) -> anyhow::Result<ExitCode> {
    let mut findings = vec![root(), cpu(), memory()];
    findings.extend(vmm().await);
    findings.extend([tun(), network_namespaces()]);
    findings.extend([program("mke2fs", "e2fsprogs"), artefacts(), base_images()]);
    findings.extend([disk_space(), reflinks(), names()]);
    let config = Config::default();
    findings.push(port("API port", config.api_addr, "--api-addr 127.0.0.1:0"));
    findings.push(port("endpoint port", config.endpoint_addr, "--endpoint-addr 127.0.0.1:8443"));

    let ready = findings.iter().all(|finding| finding.status != Status::Missing);
    let text = if json {
        format!("{:#}\n", serde_json::json!({ "ready": ready, "findings": findings }))
    } else {
        render(&findings, ready)
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render(findings: &[Finding], ready: bool) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    let mut lines = Vec::new();
    for Finding { check, status, detail, remedy } in findings {
        let mark = match status {
            Status::Good => "good",
            Status::Limited => "limited",
            Status::Missing => "MISSING",
        };
        lines.push(format!("{mark:<8} {check:<width$}  {detail}"));
        lines.extend(remedy.iter().map(|remedy| format!("{:<8} {:<width$}  -> {remedy}", "", "")));
    }
    lines.push(String::new());
    lines.push(if ready {
        "`hearth serve` can run here.".to_owned()
    } else {
        "`hearth serve` cannot run here until what is MISSING is there; `make setup` installs most of it."
            .to_owned()
    });
    lines.join("\n") + "\n"
}

fn root() -> Finding {
    if rustix::process::geteuid().is_root() {
        Finding::good("root", "yes; VMM processes give it up")
    } else {
        let reason = "no; namespaces and TAP devices need it";
        Finding::missing("root", reason, "run `hearth serve` with sudo")
    }
}

fn cpu() -> Finding {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    let flags = info.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let extension = flags.split_whitespace().find(|flag| matches!(*flag, "svm" | "vmx"));
    match extension {
        Some(extension) => Finding::good("CPU", format!("{count} CPUs with {extension}")),
        None if cfg!(target_arch = "aarch64") => Finding::good("CPU", format!("{count} CPUs")),
        None => Finding::limited(
            "CPU",
            format!("{count} CPUs without svm or vmx"),
            "switch virtualization on in the firmware, or nested virtualization when this is a virtual machine",
        ),
    }
}

fn memory() -> Finding {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let mib = |name: &str| -> u64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim_start_matches(':').trim_end_matches("kB").trim().parse::<u64>().unwrap_or_default() / 1024
    };
    let detail = format!("{} MiB available of {}", mib("MemAvailable"), mib("MemTotal"));
    let overcommit = fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default();
    if overcommit.trim() == "2" {
        let remedy = "sysctl vm.overcommit_memory=0";
        return Finding::limited(
            "memory",
            format!("{detail}; all of a guest's RAM is reserved at once"),
            remedy,
        );
    }
    Finding::good("memory", detail)
}

/// QEMU, its accelerator, and the limits on its processes.
async fn vmm() -> Vec<Finding> {
    let package = if cfg!(target_arch = "aarch64") { "qemu-system-arm" } else { "qemu-system-x86" };
    let qemu = match Qemu::new(QemuConfig::default()).await {
        Ok(qemu) => qemu,
        Err(error) => {
            let remedy = format!(
                "apt-get install --no-install-recommends {package} (Debian 12: -t bookworm-backports; `make setup` does it)"
            );
            return vec![Finding::missing("QEMU", format!("{:#}", anyhow::Error::new(error)), remedy)];
        }
    };
    let capabilities = qemu.capabilities();
    let choice = qemu.accelerator();
    let accelerator = match choice.accelerator {
        Accelerator::Kvm => Finding::good("accelerator", format!("kvm: {}", choice.reason)),
        Accelerator::Tcg => Finding::limited(
            "accelerator",
            format!("tcg, which is slower: {}", choice.reason),
            if Path::new("/dev/kvm").exists() {
                "HEARTH_ACCELERATOR=kvm uses /dev/kvm without a trial, if it works; otherwise give this machine one that runs guests"
            } else {
                "give this machine a /dev/kvm that runs guests (modprobe kvm_amd or kvm_intel)"
            },
        ),
    };
    let version = cgroup_version();
    let limit = |check, limit: &Result<(), String>| match limit {
        Ok(()) => Finding::good(check, format!("enforced by cgroups, version {version}")),
        Err(reason) => Finding::limited(
            check,
            format!("not enforced: {reason}"),
            "mount the cgroup hierarchy writable, or run `hearth serve` where systemd does",
        ),
    };
    vec![
        Finding::good("QEMU", &capabilities.description),
        accelerator,
        limit("memory limits", &capabilities.memory_limit),
        limit("CPU limits", &capabilities.cpu_limit),
    ]
}

/// Version 2 when it is what is mounted at the usual place.
fn cgroup_version() -> u8 {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { 2 } else { 1 }
}

fn tun() -> Finding {
    match fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => Finding::good("TAP devices", "/dev/net/tun opens"),
        Err(error) => Finding::missing("TAP devices", format!("/dev/net/tun: {error}"), "modprobe tun"),
    }
}

/// What of nftables microVMs need, by the names of the kernel's modules.
const NFTABLES: &str = "nf_tables nft_ct nft_connlimit nft_limit nft_log nfnetlink_log nft_masq nft_nat nft_redir \
                        nft_reject_inet";

/// Makes a network namespace, and the table of a microVM inside it, on a thread that takes both
/// with it.
fn network_namespaces() -> Finding {
    const CHECK: &str = "network namespaces";
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).map_err(|error| {
            let remedy = "run as root, in a container only with CAP_SYS_ADMIN";
            Finding::missing(CHECK, format!("cannot be made: {error}"), remedy)
        })?;
        match hearth_host_net::try_table() {
            Ok(()) => Ok(Finding::good(CHECK, "can be made, with nftables")),
            Err(hearth_host_net::Error::NftNotRun(error)) => {
                Err(Finding::missing("nftables", format!("nft: {error}"), "apt-get install nftables"))
            }
            Err(error) => {
                let message = error.to_string();
                let message = message.lines().next().unwrap_or_default().to_owned();
                Err(Finding::missing("nftables", message, format!("modprobe -a {NFTABLES}")))
            }
        }
    });
    match thread.join() {
        Ok(Ok(finding) | Err(finding)) => finding,
        Err(_) => Finding::missing(CHECK, "the trial ended in a panic", "report it with this output"),
    }
}

fn program(name: &'static str, package: &str) -> Finding {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where the server looks, too: not every user's PATH has sbin.
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file());
    match found {
        Some(file) => Finding::good(name, file.display().to_string()),
        None => Finding::missing(name, "not in PATH", format!("apt-get install {package}")),
    }
}

fn artefacts() -> Finding {
    let GuestConfig { directory, initrd, .. } = GuestConfig::default();
    match Artefacts::load(&directory, &initrd) {
        Ok(found) => {
            let detail = format!("version {} in {}, key {}", found.version, directory.display(), found.key);
            Finding::good("guest files", detail)
        }
        Err(error) => Finding::missing("guest files", error.to_string(), "make build"),
    }
}

/// Images for `FROM` that need no registry.
fn base_images() -> Finding {
    let table = BuildConfig::default().mirror_table;
    let entries =
        fs::read(&table).ok().and_then(|text| serde_json::from_slice::<Vec<serde_json::Value>>(&text).ok());
    let names: Vec<String> = entries
        .unwrap_or_default()
        .iter()
        .filter_map(|entry| {
            Some(entry["reference"].as_str()?.trim_start_matches("docker.io/library/").to_owned())
        })
        .collect();
    if names.is_empty() {
        let detail = format!("none in {}; every FROM is pulled from a registry", table.display());
        return Finding::limited("base images", detail, "make setup");
    }
    Finding::good("base images", names.join(", "))
}

/// The nearest directory that exists.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("/")).to_path_buf()
}

fn disk_space() -> Finding {
    let directory = existing(&cache_dir());
    let free = match fs4::available_space(&directory) {
        Ok(free) => free,
        Err(error) => {
            return Finding::limited("disk space", format!("{}: {error}", directory.display()), "make room");
        }
    };
    let detail = format!("{} GiB free in {}", free >> 30, directory.display());
    if free < LOW_DISK_BYTES {
        return Finding::limited("disk space", detail, "make room: images of a few GiB are usual");
    }
    Finding::good("disk space", detail)
}

fn reflinks() -> Finding {
    let directory = existing(&cache_dir());
    let trial = || -> io::Result<()> {
        let mut source = tempfile::tempfile_in(&directory)?;
        source.write_all(&[1; 4096])?;
        let target = tempfile::tempfile_in(&directory)?;
        Ok(rustix::fs::ioctl_ficlone(&target, &source)?)
    };
    match trial() {
        Ok(()) => Finding::good("reflinks", format!("{} shares blocks between files", directory.display())),
        // Nothing needs them: clones of a snapshot share its files by overlays.
        Err(_) => Finding::good("reflinks", format!("none in {}; they are not needed", directory.display())),
    }
}

fn names() -> Finding {
    match ("x.localhost", 443).to_socket_addrs().map(Iterator::count) {
        Ok(1..) => Finding::good("names under localhost", "resolve to this machine"),
        Ok(0) | Err(_) => Finding::limited(
            "names under localhost",
            "do not resolve; `hearth curl`, curl and browsers do not care, other clients do",
            "apt-get install libnss-myhostname",
        ),
    }
}

fn port(check: &'static str, address: SocketAddr, remedy: &str) -> Finding {
    debug_assert_eq!(address.ip(), Ipv4Addr::LOCALHOST, "invariant: nothing else listens by default");
    match TcpListener::bind(address) {
        Ok(_) => Finding::good(check, format!("{address} is free")),
        Err(error) => {
            let remedy = format!("stop what uses it, or `hearth serve {remedy}`");
            Finding::limited(check, format!("{address}: {error}"), remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_comes_with_another_one() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let finding = port("API port", address, "--api-addr 127.0.0.1:0");
        assert_eq!(finding.status, Status::Limited);
        assert!(finding.remedy.unwrap().contains("--api-addr 127.0.0.1:0"));
        drop(listener);
        assert_eq!(port("API port", address, "").status, Status::Good);
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let finding = program("hearth-no-such-program", "some-package");
        assert_eq!(finding.status, Status::Missing);
        assert_eq!(finding.remedy.as_deref(), Some("apt-get install some-package"));
    }

    #[test]
    fn remedies_stand_below_what_they_mend() {
        let findings = [Finding::good("a", "fine"), Finding::missing("long", "gone", "apt-get install x")];
        let text = render(&findings, false);
        assert!(
            text.starts_with(
                "good     a     fine\nMISSING  long  gone\n               -> apt-get install x\n"
            )
        );
        assert!(text.contains("cannot run here"));
    }
}
