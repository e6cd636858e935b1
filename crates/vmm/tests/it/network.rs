//! A network namespace with a TAP for a test VM, and a way into it.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use hearth_vmm::{GuestChannel, GuestStream, NetworkInterface};
use nix::sched::CloneFlags;

/// The guest's address; the same in every namespace.
const GUEST: ([u8; 4], u16) = ([10, 0, 0, 2], 5000);

/// `struct ifreq` with flags, as `TUNSETIFF` takes it (linux/if_tun.h).
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    padding: [u8; 22],
}

const IFF_TAP_NO_PI_VNET_HDR: u16 = 0x0002 | 0x1000 | 0x4000;

nix::ioctl_write_int!(tun_set_interface, b'T', 202);

/// A namespace.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    namespace: Arc<OwnedFd>,
}

impl Network {
    /// Makes a namespace, with a TAP that has the address 10.0.0.1.
    pub(crate) fn new() -> (Self, NetworkInterface) {
        // A thread changes its own namespace only; programs it starts inherit it.
        let make = || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let tap = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
            let mut name = [0; 16];
            name[..4].copy_from_slice(b"tap0");
            let request = InterfaceRequest { name, flags: IFF_TAP_NO_PI_VNET_HDR, padding: [0; 22] };
            // SAFETY: the request lives during the call.
            unsafe { tun_set_interface(tap.as_raw_fd(), std::ptr::from_ref(&request) as u64) }.unwrap();
            ip(&["address", "add", "10.0.0.1/24", "dev", "tap0"]);
            ip(&["link", "set", "tap0", "up"]);
            let namespace = File::open("/proc/thread-self/ns/net").unwrap();
            (OwnedFd::from(namespace), OwnedFd::from(tap))
        };
        let (namespace, tap) = thread::spawn(make).join().unwrap();
        let guest_mac = [2, 0, 0, 0, 0, 2];
        (Self { namespace: Arc::new(namespace) }, NetworkInterface { tap, guest_mac })
    }

    /// The namespace's descriptor.
    pub(crate) fn namespace(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.namespace)
    }
}

#[async_trait]
impl GuestChannel for Network {
    async fn connect(&self) -> io::Result<Box<dyn GuestStream>> {
        let namespace = self.namespace();
        let connect = move || {
            nix::sched::setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
            let stream = TcpStream::connect_timeout(&SocketAddr::from(GUEST), Duration::from_secs(2))?;
            stream.set_nonblocking(true)?;
            Ok::<_, io::Error>(stream)
        };
        let stream =
            tokio::task::spawn_blocking(move || thread::spawn(connect).join().unwrap()).await.unwrap()?;
        Ok(Box::new(tokio::net::TcpStream::from_std(stream)?))
    }
}

fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {arguments:?}");
}
