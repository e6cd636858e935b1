//! From the kernel's initial file system to a guest with its modules loaded and a root that
//! containers can leave.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot, dup2_stderr, dup2_stdin, dup2_stdout};

use crate::error::Error;
use crate::mounts::mount_on;

const MODULES: &str = "/lib/modules";
const NEW_ROOT: &str = "/newroot";

/// Mounts the kernel's file systems, loads the modules and moves off the initial root.
pub(crate) fn boot() -> Result<(), Error> {
    mount_on("devtmpfs", "/dev", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, Some("mode=0755"))?;
    open_console();
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_on("proc", "/proc", plain, None)?;
    mount_on("sysfs", "/sys", plain, None)?;
    load_modules()?;
    change_root()?;
    mount_on("tmpfs", "/run", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755"))?;
    mount_on("tmpfs", "/tmp", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, None)
}

/// The agent's own lines go to the console. The kernel opens none for an init whose initial root
/// has no /dev/console.
fn open_console() {
    let console = OpenOptions::new().read(true).write(true).open("/dev/console");
    if let Ok(file) = console.or_else(|_| OpenOptions::new().read(true).write(true).open("/dev/null")) {
        // Without a console there is nobody to tell.
        let _ = (dup2_stdin(&file), dup2_stdout(&file), dup2_stderr(&file));
    }
}

/// Loads `/lib/modules/NNN-name.ko` in the order of their names, then deletes them to free
/// the memory they take.
fn load_modules() -> Result<(), Error> {
    let Ok(entries) = fs::read_dir(MODULES) else {
        return Ok(());
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "ko")) {
        load_module(path).map_err(|source| Error::Module { path: path.display().to_string(), source })?;
    }
    fs::remove_dir_all(MODULES).map_err(|source| Error::Write { path: MODULES.into(), source })
}

fn load_module(path: &Path) -> std::io::Result<()> {
    let file = File::open(path)?;
    match finit_module(file.as_fd(), c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// `pivot_root` cannot leave the kernel's initial root, so a tmpfs takes its place, as
/// `switch_root` does it.
fn change_root() -> Result<(), Error> {
    create_dir(NEW_ROOT)?;
    mount_on("tmpfs", NEW_ROOT, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755"))?;
    for name in ["dev", "proc", "sys"] {
        let target = format!("{NEW_ROOT}/{name}");
        create_dir(&target)?;
        mount(
            Some(format!("/{name}").as_str()),
            target.as_str(),
            None::<&str>,
            MsFlags::MS_MOVE,
            None::<&str>,
        )
        .map_err(|errno| Error::ChangeRoot(errno.into()))?;
    }
    for name in ["run", "tmp"] {
        create_dir(&format!("{NEW_ROOT}/{name}"))?;
    }
    let switch = || -> nix::Result<()> {
        chdir(NEW_ROOT)?;
        mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
        chroot(".")?;
        chdir("/")
    };
    switch().map_err(|errno| Error::ChangeRoot(errno.into()))
}

fn create_dir(path: &str) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::Write { path: path.into(), source })
}
