//! The guest's two network interfaces, told apart by their MAC addresses.
//!
//! The control NIC stays in the initial network namespace, where nothing but the agent's listener
//! lives. The app NIC moves into a second namespace as `eth0`; the agent's worker threads and the
//! app live there. The host's end is a permanent entry in both neighbour tables, because its MAC
//! address is fixed too: nothing has to be asked by ARP after a restore.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;

use hearth_guest_protocol::{APP_GATEWAY, APP_GUEST, APP_MAC, CONTROL_GUEST, CONTROL_HOST, CONTROL_MAC};
use nix::libc;
use nix::sched::{CloneFlags, unshare};

use crate::endpoint_path;
use crate::error::Error;
use crate::netlink::Netlink;
use crate::sysctl;

const APP_INTERFACE: &str = "eth0";

/// Brings up both networks and returns the app's network namespace. A NIC that is
/// absent is left out.
pub(crate) fn configure() -> Result<OwnedFd, Error> {
    let app_namespace = make_app_namespace().map_err(step("make the app's namespace"))?;
    // Neighbour discovery and router solicitations would be the only traffic of IPv6, and cost
    // time in every clone.
    sysctl::write("net/ipv6/conf/default/disable_ipv6", "1");
    let mut netlink = Netlink::open().map_err(step("open netlink"))?;
    netlink.set_up(interface_index("lo").map_err(step("find lo"))?).map_err(step("bring up lo"))?;
    if let Some(name) = interface_with_mac(CONTROL_MAC) {
        sysctl::write(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1");
        let index = interface_index(&name).map_err(step("find the control NIC"))?;
        netlink.configure(index, CONTROL_GUEST, CONTROL_HOST).map_err(step("configure the control NIC"))?;
    }
    let app_nic = interface_with_mac(APP_MAC);
    if let Some(name) = &app_nic {
        let index = interface_index(name).map_err(step("find the app NIC"))?;
        netlink.move_to(index, &app_namespace, APP_INTERFACE).map_err(step("move the app NIC"))?;
    }
    let has_nic = app_nic.is_some();
    in_namespace(&app_namespace, move || configure_app_network(has_nic))
        .map_err(step("enter the app's namespace"))??;
    Ok(app_namespace)
}

fn configure_app_network(has_nic: bool) -> Result<(), Error> {
    // As Docker sets them for its containers: low ports and ping need no privilege.
    sysctl::write("net/ipv4/ip_unprivileged_port_start", "0");
    sysctl::write("net/ipv4/ping_group_range", "0 2147483647");
    let mut netlink = Netlink::open().map_err(step("open netlink in the app's namespace"))?;
    netlink.set_up(interface_index("lo").map_err(step("find lo"))?).map_err(step("bring up the app's lo"))?;
    // The kernel's command line disables IPv6, but apps that listen on ::1 only are common, and
    // nothing leaves by lo.
    sysctl::write("net/ipv6/conf/lo/disable_ipv6", "0");
    if has_nic {
        sysctl::write(&format!("net/ipv6/conf/{APP_INTERFACE}/disable_ipv6"), "1");
        let index = interface_index(APP_INTERFACE).map_err(step("find the app's eth0"))?;
        netlink.configure(index, APP_GUEST, APP_GATEWAY).map_err(step("configure the app's eth0"))?;
        netlink
            .add_default_route(libc::RT_TABLE_MAIN, APP_GATEWAY)
            .map_err(step("add the app's default route"))?;
        if let Err(error) = endpoint_path::open(&mut netlink, APP_INTERFACE) {
            // A kernel may lack nftables. The agent leads all connections to the app then.
            eprintln!("hearth-agent: the endpoint has no way to the app past this agent: {error}");
        }
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
