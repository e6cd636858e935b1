//! What every stage does first and last: reading its specification and reporting to the agent.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};

use hearth_guest_protocol::chain;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde::de::DeserializeOwned;

use crate::children::{SPEC_FD, STATUS_FD};
use crate::error::Error;

/// Exit code of a stage that could not do its work.
const FAILED: i32 = 125;

/// Runs `work` on the specification that the agent passed, and ends the process; an error
/// is sent to the agent.
pub(crate) fn run<T: DeserializeOwned>(work: impl FnOnce(T, &mut File) -> Result<(), Error>) -> ! {
    // SAFETY: the agent passes these two descriptors to every stage, and nobody else in
    // this process knows them.
    let (spec, status) = unsafe { (OwnedFd::from_raw_fd(SPEC_FD), OwnedFd::from_raw_fd(STATUS_FD)) };
    let mut status = File::from(status);
    let result = read_spec(spec, &status).and_then(|spec| work(spec, &mut status));
    let Err(error) = result else { std::process::exit(0) };
    // When the agent is gone, so is this namespace.
    let _ = status.write_all(chain(&error).as_bytes());
    std::process::exit(FAILED)
}

fn read_spec<T: DeserializeOwned>(spec: OwnedFd, status: &File) -> Result<T, Error> {
    let failed = |source| Error::Read { path: "the specification".into(), source };
    fcntl(status, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|errno| failed(errno.into()))?;
    serde_json::from_reader(File::from(spec)).map_err(|error| failed(error.into()))
}
