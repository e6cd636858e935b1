//! Which TCP ports the app listens on.

use std::collections::BTreeSet;
use std::fs;

use hearth_guest_protocol::MAX_LISTENING;

/// `st` of a listening socket in `/proc/net/tcp` (`TCP_LISTEN` of the kernel's
/// `tcp_states.h`, proc(5)).
const LISTEN: &str = "0A";

/// The TCP ports that somebody listens on in the network namespace of the calling
/// thread, in ascending order.
pub(crate) fn ports() -> Vec<u16> {
    let tables = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];
    let texts: Vec<_> = tables.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let ports: BTreeSet<_> = texts.iter().flat_map(|table| listening_ports(table)).collect();
    ports.into_iter().take(MAX_LISTENING).collect()
}

fn listening_ports(table: &str) -> impl Iterator<Item = u16> {
    table.lines().filter_map(listening_port)
}

/// The port of a line `sl: ADDRESS:PORT REMOTE:PORT st …` when its socket listens.
fn listening_port(line: &str) -> Option<u16> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (_, port) = fields.next()?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    if state == LISTEN { u16::from_str_radix(port, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 2 1 0 100 0 0 10 0
   2: 0100007F:0050 0100007F:8EFA 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 20 4 30 10 -1
";
    const TABLE_V6: &str = "\
  sl  local_address                         remote_address                        st tx_queue
   0: 00000000000000000000000001000000:0BB8 00000000000000000000000000000000:0000 0A 00000000:00000000
";

    #[test]
    fn listening_ports_are_found() {
        assert_eq!(listening_ports(TABLE).collect::<Vec<_>>(), [8080, 5000]);
        assert_eq!(listening_ports(TABLE_V6).collect::<Vec<_>>(), [3000]);
        assert_eq!(listening_ports(TABLE.lines().next().unwrap()).count(), 0);
    }
}
