//! The stage that becomes the app: PID 1 of its own namespaces, as Docker would start it.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use hearth_guest_protocol::{APP_GUEST, AppSpec, RESOLVER};
use nix::libc;
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{AccessFlags, access, chdir, execve, sethostname, setsid};

use crate::disks::device_with_serial;
use crate::error::Error;
use crate::{mounts, privileges, stage, user};

/// Where the root disk is mounted before it becomes the root.
const ROOT: &str = "/run/app-root";

/// The stage's whole life; the app's program replaces it.
pub(crate) fn main() -> ! {
    stage::run(|spec: AppSpec, _| become_app(&spec))
}

fn become_app(spec: &AppSpec) -> Result<(), Error> {
    let [command, ..] = spec.argv.as_slice() else { return Err(Error::NoCommand) };
    setsid().map_err(|errno| Error::Privileges { what: "session", source: errno.into() })?;
    sethostname(&spec.hostname)
        .map_err(|errno| Error::Privileges { what: "host name", source: errno.into() })?;
    umask(Mode::from_bits_truncate(0o022));
    mounts::isolate()?;
    let device = device_with_serial(&spec.root_disk)?;
    fs::create_dir_all(ROOT).map_err(|source| Error::Write { path: ROOT.into(), source })?;
    mounts::mount_disk(&device, ROOT, MsFlags::MS_NODEV)?;
    mounts::enter_container(ROOT, spec.capabilities)?;
    write_etc(&spec.hostname)?;

    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let identity = user::resolve(&spec.user, &read("/etc/passwd"), &read("/etc/group"))?;
    enter_working_dir(&spec.working_dir)?;
    privileges::reduce(&identity, spec.capabilities)?;
    let mut env = spec.env.clone();
    env.entry("HOME".into()).or_insert(identity.home);
    let program = find_program(command, env.get("PATH").map_or("", String::as_str))?;
    execute(&program, &spec.argv, &env)
}

/// Writes the three files that Docker provides. A link in the image is replaced, never followed.
fn write_etc(hostname: &str) -> Result<(), Error> {
    let failed = |path: &str, source| Error::Write { path: path.into(), source };
    fs::create_dir_all("/etc").map_err(|source| failed("/etc", source))?;
    // A second IPv4 address of `localhost` would be listened on by servers that take all of them.
    let own = match hostname {
        "localhost" => String::new(),
        name => format!("{}\t{name}\n", Ipv4Addr::from(APP_GUEST)),
    };
    let hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{own}");
    let resolv_conf = format!("nameserver {}\n", Ipv4Addr::from(RESOLVER));
    let files = [
        ("/etc/hosts", hosts),
        ("/etc/hostname", format!("{hostname}\n")),
        ("/etc/resolv.conf", resolv_conf),
    ];
    for (path, text) in files {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(path, error)),
            _ => fs::write(path, text).map_err(|source| failed(path, source))?,
        }
    }
    Ok(())
}

fn enter_working_dir(path: &str) -> Result<(), Error> {
    let path = if path.is_empty() { "/" } else { path };
    fs::create_dir_all(path)
        .and_then(|()| Ok(chdir(path)?))
        .map_err(|source| Error::WorkingDir { path: path.into(), source })
}

/// A command with a slash is a path; any other is looked up in PATH, as execvp(3) does it.
pub(crate) fn find_program(command: &str, path: &str) -> Result<String, Error> {
    if command.contains('/') {
        return Ok(command.into());
    }
    let found = path
        .split(':')
        .map(|dir| if dir.is_empty() { format!("./{command}") } else { format!("{dir}/{command}") })
        .find(|file| Path::new(file).is_file() && access(file.as_str(), AccessFlags::X_OK).is_ok());
    found.ok_or_else(|| Error::CommandNotFound { command: command.into(), path: path.into() })
}

pub(crate) fn execute(program: &str, argv: &[String], env: &BTreeMap<String, String>) -> Result<(), Error> {
    let c_string = |text: String| CString::new(text).map_err(|_| Error::NulByte);
    let argv = argv.iter().cloned().map(c_string).collect::<Result<Vec<_>, _>>()?;
    let envp =
        env.iter().map(|(name, value)| c_string(format!("{name}={value}"))).collect::<Result<Vec<_>, _>>()?;
    let path = c_string(program.into())?;
    // SAFETY: sets no handler. Rust ignores SIGPIPE, and an ignored signal stays
    // ignored in the program.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let Err(errno) = execve(&path, &argv, &envp);
    Err(Error::Execute { command: program.into(), hint: hint(program, errno), source: errno.into() })
}

/// What most often causes an error of execve(2) that says little by itself.
fn hint(program: &str, errno: nix::Error) -> &'static str {
    match errno {
        nix::Error::ENOENT if Path::new(program).exists() => {
            " (its interpreter or dynamic loader is missing in the image)"
        }
        nix::Error::ENOEXEC => " (it is neither a program for this machine nor a script that begins with #!)",
        nix::Error::EACCES => " (it is not executable for the image's USER)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn commands_are_looked_up_in_path() {
        let dir = std::env::temp_dir().join(format!("hearth-agent-path-{}", std::process::id()));
        fs::create_dir_all(dir.join("first/app")).unwrap();
        fs::create_dir_all(dir.join("second")).unwrap();
        fs::write(dir.join("second/app"), "").unwrap();
        fs::set_permissions(dir.join("second/app"), fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{0}/none:{0}/first:{0}/second", dir.display());
        let found = find_program("app", &path);
        let missing = find_program("other", &path);
        let direct = find_program("./app", "");
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(found.unwrap(), format!("{}/second/app", dir.display()));
        assert!(matches!(missing, Err(Error::CommandNotFound { command, .. }) if command == "other"));
        assert_eq!(direct.unwrap(), "./app");
    }

    #[test]
    fn errors_of_execve_are_explained() {
        assert!(hint("/bin/sh", nix::Error::ENOENT).contains("interpreter"));
        assert_eq!(hint("/nowhere", nix::Error::ENOENT), "");
    }
}
