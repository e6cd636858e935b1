//! The guest's two network interfaces, told apart by their MAC addresses.
//!
//! The control NIC stays in the initial network namespace, where nothing but the agent's listener lives. The
//! app NIC moves into a second namespace as `eth0`; the agent's worker threads and the app live there. The
//! host's end is a permanent entry in both neighbour tables, because its MAC address is fixed too: nothing
//! has to be asked by ARP after a restore.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use hearth_guest_protocol::{
    APP_GATEWAY, APP_GUEST, APP_MAC, CONTROL_GUEST, CONTROL_HOST, CONTROL_MAC, HOST_MAC,
};
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::error::Error;

const APP_INTERFACE: &str = "eth0";
/// Both networks are a /30.
const PREFIX_LENGTH: u8 = 30;

/// Brings up both networks and returns the app's network namespace. A NIC that is absent is left out.
pub(crate) fn configure() -> Result<OwnedFd, Error> {
    let app_namespace = make_app_namespace().map_err(step("make the app's namespace"))?;
    // Neighbour discovery and router solicitations would be the only traffic of IPv6, and cost time in every
    // clone.
    write_sysctl("net/ipv6/conf/default/disable_ipv6", "1");
    let mut netlink = Netlink::open().map_err(step("open netlink"))?;
    netlink.set_up(interface_index("lo").map_err(step("find lo"))?).map_err(step("bring up lo"))?;
    if let Some(name) = interface_with_mac(CONTROL_MAC) {
        write_sysctl(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1");
        let index = interface_index(&name).map_err(step("find the control NIC"))?;
        netlink.configure(index, CONTROL_GUEST, CONTROL_HOST).map_err(step("configure the control NIC"))?;
    }
    let app_nic = interface_with_mac(APP_MAC);
    if let Some(name) = &app_nic {
        let index = interface_index(name).map_err(step("find the app NIC"))?;
        netlink.move_to(index, &app_namespace).map_err(step("move the app NIC"))?;
    }
    let has_nic = app_nic.is_some();
    in_namespace(&app_namespace, move || configure_app_network(has_nic))
        .map_err(step("enter the app's namespace"))??;
    Ok(app_namespace)
}

fn configure_app_network(has_nic: bool) -> Result<(), Error> {
    // As Docker sets them for its containers: low ports and ping need no privilege.
    write_sysctl("net/ipv4/ip_unprivileged_port_start", "0");
    write_sysctl("net/ipv4/ping_group_range", "0 2147483647");
    let mut netlink = Netlink::open().map_err(step("open netlink in the app's namespace"))?;
    netlink.set_up(interface_index("lo").map_err(step("find lo"))?).map_err(step("bring up the app's lo"))?;
    if has_nic {
        write_sysctl(&format!("net/ipv6/conf/{APP_INTERFACE}/disable_ipv6"), "1");
        let index = interface_index(APP_INTERFACE).map_err(step("find the app's eth0"))?;
        netlink.configure(index, APP_GUEST, APP_GATEWAY).map_err(step("configure the app's eth0"))?;
        netlink.add_default_route(APP_GATEWAY).map_err(step("add the app's default route"))?;
    }
    Ok(())
}

fn step(step: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Network { step, source }
}

/// Runs `work` on a thread of its own inside the namespace.
pub(crate) fn in_namespace<T: Send + 'static>(
    namespace: &OwnedFd,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let namespace = namespace.try_clone()?;
    let thread = std::thread::spawn(move || {
        nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    });
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

fn make_app_namespace() -> io::Result<OwnedFd> {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    });
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

fn interface_with_mac(mac: [u8; 6]) -> Option<String> {
    let wanted = mac.map(|byte| format!("{byte:02x}")).join(":");
    let interfaces = fs::read_dir("/sys/class/net").ok()?;
    interfaces.flatten().find_map(|entry| {
        let address = fs::read_to_string(entry.path().join("address")).ok()?;
        (address.trim() == wanted).then(|| entry.file_name().to_string_lossy().into_owned())
    })
}

fn interface_index(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

/// Settings that a kernel may lack; the guest works without them.
fn write_sysctl(name: &str, value: &str) {
    if let Err(error) = fs::write(format!("/proc/sys/{name}"), value) {
        eprintln!("hearth-agent: cannot set {name}: {error}");
    }
}

/// A route netlink socket in the namespace of the thread that opened it (rtnetlink(7)).
struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    fn open() -> io::Result<Self> {
        let kind = (SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
        Ok(Self { socket: socket(AddressFamily::Netlink, kind.0, kind.1, kind.2)? })
    }

    fn set_up(&mut self, index: u32) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        self.request(libc::RTM_NEWLINK, 0, &link_header(index, up), &[])
    }

    fn move_to(&mut self, index: u32, namespace: &OwnedFd) -> io::Result<()> {
        let attributes = [
            (libc::IFLA_NET_NS_FD, namespace.as_raw_fd().to_ne_bytes().to_vec()),
            (libc::IFLA_IFNAME, format!("{APP_INTERFACE}\0").into_bytes()),
        ];
        self.request(libc::RTM_NEWLINK, 0, &link_header(index, 0), &attributes)
    }

    /// Gives the interface its address, brings it up and enters the host's MAC address.
    fn configure(&mut self, index: u32, guest: [u8; 4], host: [u8; 4]) -> io::Result<()> {
        let family = libc::AF_INET as u8;
        let mut header = vec![family, PREFIX_LENGTH, 0, libc::RT_SCOPE_UNIVERSE];
        header.extend(index.to_ne_bytes());
        let address = [(libc::IFA_LOCAL, guest.to_vec()), (libc::IFA_ADDRESS, guest.to_vec())];
        self.request(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &header, &address)?;
        self.set_up(index)?;
        let mut header = vec![family, 0, 0, 0];
        header.extend(index.to_ne_bytes());
        header.extend(libc::NUD_PERMANENT.to_ne_bytes());
        header.extend([0, 0]);
        let neighbour = [(libc::NDA_DST, host.to_vec()), (libc::NDA_LLADDR, HOST_MAC.to_vec())];
        self.request(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &header, &neighbour)
    }

    fn add_default_route(&mut self, gateway: [u8; 4]) -> io::Result<()> {
        let header = [
            libc::AF_INET as u8,
            0,
            0,
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_BOOT,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNICAST,
            0,
            0,
            0,
            0,
        ];
        let attributes = [(libc::RTA_GATEWAY, gateway.to_vec())];
        self.request(libc::RTM_NEWROUTE, libc::NLM_F_CREATE, &header, &attributes)
    }

    /// Sends one message (16 bytes of header, `header`, attributes) and waits for its acknowledgement.
    fn request(
        &mut self,
        kind: u16,
        flags: libc::c_int,
        header: &[u8],
        attributes: &[(u16, Vec<u8>)],
    ) -> io::Result<()> {
        let mut message = vec![0; 16];
        message.extend(header);
        for (number, value) in attributes {
            message.extend((4 + value.len() as u16).to_ne_bytes());
            message.extend(number.to_ne_bytes());
            message.extend(value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        let length = message.len() as u32;
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        message[..4].copy_from_slice(&length.to_ne_bytes());
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[6..8].copy_from_slice(&flags.to_ne_bytes());
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = [0; 4096];
        let length = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        acknowledgement(&answer[..length])
    }
}

/// `struct ifinfomsg` with one flag to be set.
fn link_header(index: u32, flags: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    header.extend(index.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    header
}

/// Reads `struct nlmsgerr`: zero or a negative error number behind the 16 bytes of header.
pub(crate) fn acknowledgement(answer: &[u8]) -> io::Result<()> {
    let number = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match number {
        Some(0) => Ok(()),
        Some(number) => Err(io::Error::from_raw_os_error(-number)),
        None => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_carries_the_error_number() {
        let mut answer = [0; 36];
        assert!(acknowledgement(&answer).is_ok());
        answer[16..20].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        assert_eq!(acknowledgement(&answer).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(acknowledgement(&answer[..10]).is_err());
    }
}
