//! Stands in for the server when the tests of this crate fetch images: becomes the process
//! that fetches. Under some other names, it does what such a process would do that a
//! registry has taken over.
#![allow(clippy::unwrap_used, clippy::zombie_processes)]

use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use hearth_confined::allow_network_client;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socket};

/// Waits for the specification, by which time the process is in its groups.
fn hear() {
    assert!(std::io::stdin().read(&mut vec![0; 1 << 16]).unwrap() > 0);
}

fn executes() {
    std::process::Command::new("/bin/true").spawn().unwrap();
}

fn starts_a_thread() {
    std::thread::spawn(|| ()).join().unwrap();
}

fn listens() {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap();
}

fn leaves() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).unwrap();
}

/// Answers with status 200 if all of it fails with EPERM.
fn explores() {
    for (family, kind) in [
        (AddressFamily::Unix, SockType::Stream),
        (AddressFamily::Netlink, SockType::Raw),
        (AddressFamily::Packet, SockType::Raw),
        (AddressFamily::Inet, SockType::Raw),
        (AddressFamily::Inet6, SockType::Stream),
    ] {
        assert_eq!(socket(family, kind, SockFlag::empty(), None).unwrap_err(), Errno::EPERM, "{family:?}");
    }
    for error in [
        std::fs::remove_file("/nonexistent").unwrap_err(),
        std::fs::rename("/nonexistent", "/other").unwrap_err(),
        std::fs::read_link("/proc/self/exe").unwrap_err(),
    ] {
        assert_eq!(error.raw_os_error(), Some(Errno::EPERM as i32));
    }
    assert_eq!(nix::sys::signal::kill(nix::unistd::Pid::this(), None).unwrap_err(), Errno::EPERM);
    let answer = serde_json::json!({ "Failed": { "Status": 200 } }).to_string();
    send(std::io::stdin().as_raw_fd(), answer.as_bytes(), MsgFlags::empty()).unwrap();
}

fn allocates() {
    let all: Vec<_> = (0..1 << 10).map(|_| vec![1_u8; 1 << 20]).collect();
    std::hint::black_box(all);
}

fn main() {
    let name = std::env::args_os().next().map(PathBuf::from);
    let name = name.as_deref().and_then(|path| path.file_name()).and_then(|name| name.to_str());
    let behaviour: fn() = match name.unwrap_or_default() {
        "executes" => executes,
        "starts-a-thread" => starts_a_thread,
        "listens" => listens,
        "leaves" => leaves,
        "explores" => explores,
        "allocates" => {
            hear();
            return allocates();
        }
        _ => {
            hearth_image_pull::run_if_requested();
            eprintln!("this program is only of use to fetch an image");
            std::process::exit(2);
        }
    };
    hear();
    allow_network_client().unwrap();
    behaviour();
}
