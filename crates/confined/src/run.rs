//! Starting a confined process.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cgroup::{self, Cgroups};
use crate::child::{SUBCOMMAND, Spec};
use crate::spawn::{SpawnRequest, spawn};
use crate::uid::UidPool;
use crate::watch::{Child, Pipes};
use crate::{Error, Limits};

/// Starts confined processes; clones are the same.
#[derive(Debug, Clone)]
pub struct Confinement {
    program: PathBuf,
    uids: UidPool,
    cgroups: Arc<Cgroups>,
}

/// What a child is to do.
#[derive(Debug)]
pub struct Job {
    /// Name of the [`crate::Work`].
    pub work: &'static str,
    /// What it is asked.
    pub question: Vec<u8>,
    /// Files that it is handed, opened for what it may do with them.
    pub files: Vec<File>,
    /// What it may take.
    pub limits: Limits,
}

impl Confinement {
    /// Children are this program, with user ids of the pool.
    pub fn new(uids: UidPool) -> Self {
        Self::with_program(PathBuf::from("/proc/self/exe"), uids)
    }

    /// Children are another program, which calls [`crate::run_if_requested`] first of all.
    pub fn with_program(program: PathBuf, uids: UidPool) -> Self {
        Self { program, uids, cgroups: Arc::new(Cgroups::probe()) }
    }

    /// Why children have no memory limit beside that of their address space, if so.
    pub fn memory_limit(&self) -> Result<(), String> {
        self.cgroups.memory.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    /// Has the work done and returns its answer. When the future is dropped, the child is killed.
    pub async fn run(&self, job: Job) -> Result<Vec<u8>, Error> {
        let (stopped, keep) = io::pipe().map_err(Error::Start)?;
        let confinement = self.clone();
        let done =
            tokio::task::spawn_blocking(move || confinement.run_here(&job, &OwnedFd::from(stopped))).await;
        drop(keep);
        done.map_err(|error| Error::Watch(io::Error::other(error)))?
    }

    /// The child ends with the thread that has started it, which therefore does all of this.
    fn run_here(&self, job: &Job, stopped: &OwnedFd) -> Result<Vec<u8>, Error> {
        let uid = self.uids.take();
        let limits = cgroup::Limits {
            memory_mib: Some(u32::try_from(job.limits.memory_bytes >> 20).unwrap_or(u32::MAX)),
            cpu_percent: None,
            threads: 1,
        };
        // Not named by the user id: another server of this host may have the same pool.
        let group = self.cgroups.create_for_child("reader", limits).map_err(Error::Start)?;
        let result = self.start(job, uid.get()).map_err(Error::Start).and_then(|(pid, child, pipes)| {
            group.add(pid).map_err(Error::Start)?;
            child.converse(&job.question, pipes, stopped.as_fd(), &job.limits)
        });
        group.remove();
        result
    }

    fn start(&self, job: &Job, uid: u32) -> io::Result<(u32, Child, Pipes)> {
        let files: Vec<RawFd> = job.files.iter().map(File::as_raw_fd).collect();
        let spec = Spec {
            work: job.work.to_owned(),
            uid,
            files,
            question_bytes: job.question.len(),
            limits: job.limits,
        };
        let arguments = ["hearth", SUBCOMMAND, &serde_json::to_string(&spec)?];
        let arguments = arguments.map(CString::new).into_iter().collect::<Result<Vec<_>, _>>()?;
        let program = CString::new(self.program.as_os_str().as_bytes())?;
        let (stdin, question) = io::pipe()?;
        let (answer, stdout) = io::pipe()?;
        let (errors, stderr) = io::pipe()?;
        let (pid, pidfd) = spawn(&SpawnRequest {
            program: &program,
            arguments: &arguments,
            inherit: &spec.files,
            stdin: stdin.as_fd(),
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
        })?;
        let pipes = Pipes {
            question: Some(File::from(OwnedFd::from(question))),
            answer: Some(File::from(OwnedFd::from(answer))),
            errors: Some(File::from(OwnedFd::from(errors))),
        };
        Ok((pid, Child::new(pidfd), pipes))
    }
}
