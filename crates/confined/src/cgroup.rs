//! Resource limits by control groups, version 2 or 1.
//!
//! Each confined process, a VM for instance, gets a group `hearth/<name>` below the root of the
//! hierarchy that the server sees. Where that cannot be made (no permission, a controller missing),
//! the reason is kept as a sentence and processes run without the limit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tracing::warn;

/// Parent of all groups.
const PARENT: &str = "hearth";

/// Time that `cpu` limits are measured over, in microseconds: the kernel's default.
const CPU_PERIOD_MICROSECONDS: u64 = 100_000;

/// How long the processes of a group that was killed may take to end, before the
/// group is left behind.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// How often they are looked for.
const END_PACE: Duration = Duration::from_millis(20);

/// Which controllers there are and how they are driven; the error is a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    /// Memory controller.
    pub memory: Result<Hierarchy, String>,
    /// CPU bandwidth controller.
    pub cpu: Result<Hierarchy, String>,
    /// Number of threads.
    pub pids: Result<Hierarchy, String>,
}

/// Where a controller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hierarchy {
    /// In the unified hierarchy; this is `hearth` in it.
    V2(PathBuf),
    /// In a hierarchy of its own; this is `hearth` in it.
    V1(PathBuf),
}

/// Limits of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory in MiB.
    pub memory_mib: Option<u32>,
    /// CPU time in hundredths of a CPU.
    pub cpu_percent: Option<u32>,
    /// Processes and threads.
    pub threads: u32,
}

/// The groups of one process, one per hierarchy.
#[derive(Debug, Default)]
pub struct Group {
    directories: Vec<PathBuf>,
}

impl Cgroups {
    /// Finds out what this host allows, by trying.
    pub fn probe() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let find = |controller| probe_controller(&mounts, controller);
        Self { memory: find("memory"), cpu: find("cpu"), pids: find("pids") }
    }

    /// Makes groups that no other process has or gets, for a child that is known by what it does
    /// (one word). They are found by a later server if this one is killed.
    pub fn create_for_child(&self, what: &str, limits: Limits) -> io::Result<Group> {
        self.create(&own_name("child", what), limits)
    }

    /// Makes the groups of a process with its limits. Limits that this host does not
    /// allow are left out.
    pub fn create(&self, name: &str, limits: Limits) -> io::Result<Group> {
        let mut group = Group::default();
        if let (Ok(hierarchy), Some(mib)) = (&self.memory, limits.memory_mib) {
            let bytes = (u64::from(mib) * 1024 * 1024).to_string();
            group.set(hierarchy, name, [("memory.max", &bytes)], [("memory.limit_in_bytes", &bytes)])?;
        }
        if let (Ok(hierarchy), Some(percent)) = (&self.cpu, limits.cpu_percent) {
            let quota = u64::from(percent) * CPU_PERIOD_MICROSECONDS / 100;
            let v2 = format!("{quota} {CPU_PERIOD_MICROSECONDS}");
            group.set(hierarchy, name, [("cpu.max", &v2)], [("cpu.cfs_quota_us", &quota.to_string())])?;
        }
        if let Ok(hierarchy) = &self.pids {
            let threads = limits.threads.to_string();
            group.set(hierarchy, name, [("pids.max", &threads)], [("pids.max", &threads)])?;
        }
        Ok(group)
    }
}

impl Group {
    fn set<const V1: usize, const V2: usize>(
        &mut self,
        hierarchy: &Hierarchy,
        name: &str,
        v2: [(&str, &str); V2],
        v1: [(&str, &str); V1],
    ) -> io::Result<()> {
        let (parent, values): (_, &[(&str, &str)]) = match hierarchy {
            Hierarchy::V2(parent) => (parent, &v2),
            Hierarchy::V1(parent) => (parent, &v1),
        };
        let directory = parent.join(name);
        create_if_missing(&directory)?;
        if !self.directories.contains(&directory) {
            self.directories.push(directory.clone());
        }
        for (file, value) in values {
            fs::write(directory.join(file), value)?;
        }
        Ok(())
    }

    /// Puts a process and its threads into the groups.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        for directory in &self.directories {
            fs::write(directory.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }

    /// Whether the kernel has ended a process of the group for want of memory: `memory.events` in
    /// version 2, `memory.oom_control` in version 1.
    pub fn ran_out_of_memory(&self) -> bool {
        let files = ["memory.events", "memory.oom_control"];
        let paths = self.directories.iter().flat_map(|directory| files.map(|file| directory.join(file)));
        paths.filter_map(|path| fs::read_to_string(path).ok()).any(|text| {
            let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
            kills.is_some_and(|kills| kills != "0")
        })
    }

    /// Removes the groups, which must be empty.
    pub fn remove(&self) {
        for directory in &self.directories {
            if let Err(error) = remove_directory(directory) {
                warn!(directory = %directory.display(), %error, "cannot remove the cgroup");
            }
        }
    }

    /// Removes the groups as soon as they are empty, in a thread of its own: processes that were
    /// killed end a moment later.
    pub fn remove_when_empty(self) {
        if self.directories.is_empty() {
            return;
        }
        std::thread::spawn(move || {
            let end = Instant::now() + END_PATIENCE;
            while self.directories.iter().any(|directory| remove_directory(directory).is_err()) {
                if Instant::now() > end {
                    return self.remove();
                }
                std::thread::sleep(END_PACE);
            }
        });
    }
}

fn remove_directory(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes the groups of a process in every hierarchy; what was never made is no error.
pub fn remove_named(name: &str) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let hierarchies = mounts.lines().filter_map(parse_mount).filter(|mount| mount.kind.starts_with("cgroup"));
    let directories = hierarchies.map(|mount| Path::new(mount.directory).join(PARENT).join(name)).collect();
    Group { directories }.remove();
}

/// Tries version 2 first, then version 1.
fn probe_controller(mounts: &str, controller: &str) -> Result<Hierarchy, String> {
    let mut reason = format!("no cgroup hierarchy with the {controller} controller is mounted");
    for mount in mounts.lines().filter_map(parse_mount) {
        let found = match mount.kind {
            "cgroup2" => probe_v2(Path::new(mount.directory), controller),
            "cgroup" if mount.options.split(',').any(|option| option == controller) => {
                probe_v1(Path::new(mount.directory), controller)
            }
            _ => continue,
        };
        match found {
            Ok(Some(hierarchy)) => return Ok(hierarchy),
            Ok(None) => {}
            Err(error) => {
                reason = format!("the {controller} cgroups at {} cannot be used: {error}", mount.directory);
            }
        }
    }
    Err(reason)
}

struct Mount<'a> {
    directory: &'a str,
    kind: &'a str,
    options: &'a str,
}

fn parse_mount(line: &str) -> Option<Mount<'_>> {
    let mut fields = line.split(' ').skip(1);
    Some(Mount { directory: fields.next()?, kind: fields.next()?, options: fields.next()? })
}

/// A controller works in `hearth/<name>` when it is enabled in the root and in `hearth`.
fn probe_v2(root: &Path, controller: &str) -> io::Result<Option<Hierarchy>> {
    let available = fs::read_to_string(root.join("cgroup.controllers"))?;
    if !available.split_whitespace().any(|word| word == controller) {
        return Ok(None);
    }
    let parent = root.join(PARENT);
    let enable = format!("+{controller}");
    fs::write(root.join("cgroup.subtree_control"), &enable)?;
    create_if_missing(&parent)?;
    remove_old(&parent)?;
    fs::write(parent.join("cgroup.subtree_control"), &enable)?;
    Ok(Some(Hierarchy::V2(parent)))
}

fn probe_v1(root: &Path, controller: &str) -> io::Result<Option<Hierarchy>> {
    let parent = root.join(PARENT);
    create_if_missing(&parent)?;
    remove_old(&parent)?;
    // Several drivers may look at the same time, in one process too.
    let trial = parent.join(own_name("probe", controller));
    create_if_missing(&trial)?;
    fs::remove_dir(&trial)?;
    Ok(Some(Hierarchy::V1(parent)))
}

/// A name that nobody else uses: `<kind>-<what>-<process id>-<number>`.
fn own_name(kind: &str, what: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{kind}-{what}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Removes the trials and the children's groups of processes that were killed in the middle of it.
fn remove_old(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let own = ["probe-", "child-"].iter().find_map(|kind| name.strip_prefix(kind));
        let process = own.and_then(|rest| rest.split('-').nth(1)?.parse::<u32>().ok());
        if process.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
            && let Err(error) = fs::remove_dir(&path)
            && !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ResourceBusy)
        {
            return Err(error);
        }
    }
    Ok(())
}

fn create_if_missing(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(memory_mib: u32, cpu_percent: u32) -> Limits {
        Limits { memory_mib: Some(memory_mib), cpu_percent: Some(cpu_percent), threads: 5 }
    }

    #[test]
    fn a_missing_controller_is_a_sentence() {
        let reason = probe_controller("proc /proc proc rw 0 0\n", "memory").unwrap_err();
        assert_eq!(reason, "no cgroup hierarchy with the memory controller is mounted");
    }

    #[test]
    fn version_2_is_used_when_the_controller_can_be_enabled() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "cpuset cpu memory pids\n").unwrap();
        let mounts = format!("none {} cgroup2 rw 0 0\n", root.path().display());
        let found = probe_controller(&mounts, "memory").unwrap();
        assert_eq!(found, Hierarchy::V2(root.path().join("hearth")));
        assert_eq!(fs::read_to_string(root.path().join("cgroup.subtree_control")).unwrap(), "+memory");
    }

    #[test]
    fn an_interrupted_trial_is_removed_by_the_next() {
        let root = tempfile::tempdir().unwrap();
        let mounts = format!("none {} cgroup rw,memory 0 0\n", root.path().display());
        let parent = root.path().join(PARENT);
        // Process ids are at most 2^22 (proc(5), pid_max); the other is this process.
        let (dead, alive) = ("probe-memory-4194305-0", format!("probe-cpu-{}-9", std::process::id()));
        for name in [dead, "child-fetch-4194305-1", &alive, "microvm"] {
            fs::create_dir_all(parent.join(name)).unwrap();
        }
        probe_controller(&mounts, "memory").unwrap();
        let mut left: Vec<_> =
            fs::read_dir(&parent).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["microvm", alive.as_str()]);
    }

    #[test]
    fn looking_from_several_threads_finds_the_same() {
        let root = tempfile::tempdir().unwrap();
        let mounts = format!("none {} cgroup rw,memory 0 0\n", root.path().display());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        probe_controller(&mounts, "memory").unwrap();
                    }
                });
            }
        });
    }

    #[test]
    fn limits_are_written_in_the_words_of_the_version() {
        let root = tempfile::tempdir().unwrap();
        let v1 = Hierarchy::V1(root.path().to_path_buf());
        let cgroups = Cgroups { memory: Ok(v1.clone()), cpu: Ok(v1.clone()), pids: Ok(v1) };
        let group = cgroups.create("vm-1", limits(3, 150)).unwrap();
        let read = |file: &str| fs::read_to_string(root.path().join("vm-1").join(file)).unwrap();
        assert_eq!(read("memory.limit_in_bytes"), "3145728");
        assert_eq!((read("cpu.cfs_quota_us"), read("pids.max")), ("150000".to_owned(), "5".to_owned()));
        assert_eq!(group.directories.len(), 1, "one hierarchy, one directory");
    }

    #[test]
    fn limits_that_the_host_cannot_enforce_are_left_out() {
        let reason = || Err("no".to_owned());
        let cgroups = Cgroups { memory: reason(), cpu: reason(), pids: reason() };
        let group = cgroups.create("vm-1", limits(1, 1)).unwrap();
        assert!(group.directories.is_empty());
    }

    #[test]
    fn a_group_that_ran_out_of_memory_says_so_in_either_version() {
        let root = tempfile::tempdir().unwrap();
        let group = Group { directories: vec![root.path().to_path_buf()] };
        assert!(!group.ran_out_of_memory());
        for (file, calm, killed) in [
            ("memory.events", "low 0\nmax 7\noom 1\noom_kill 0\n", "oom 1\noom_kill 1\noom_group_kill 0\n"),
            (
                "memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
                "under_oom 0\noom_kill 2\n",
            ),
        ] {
            fs::write(root.path().join(file), calm).unwrap();
            assert!(!group.ran_out_of_memory(), "{file}");
            fs::write(root.path().join(file), killed).unwrap();
            assert!(group.ran_out_of_memory(), "{file}");
            fs::remove_file(root.path().join(file)).unwrap();
        }
    }

    #[test]
    fn a_group_goes_when_the_last_process_has_gone() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("group");
        // A file stands in for a process: the directory cannot be removed meanwhile.
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("process"), "").unwrap();
        Group { directories: vec![directory.clone()] }.remove_when_empty();
        std::thread::sleep(3 * END_PACE);
        assert!(directory.exists());
        fs::remove_file(directory.join("process")).unwrap();
        while directory.exists() {
            std::thread::sleep(END_PACE);
        }
    }
}
