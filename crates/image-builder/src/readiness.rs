//! When an app without a `ready` hook has started, so that its snapshot can be taken. Pure: what
//! was seen, in; a verdict, out.
//!
//! One listening port is not enough: an image may start a database first and its own server a
//! minute later. So the whole guest has to come to rest, and if the image says which port it serves
//! (EXPOSE), that port has to listen.

use std::time::Duration;

/// A guest that uses less than this share of one CPU is at rest.
const QUIET_SHARE: f64 = 0.2;
/// How long it has to be at rest once a port listens that the image exposes: a server may still be
/// starting its workers.
const QUIET_EXPOSED: Duration = Duration::from_secs(1);
/// How long without an exposed port: what listens may not be all that is to come.
const QUIET_ANY: Duration = Duration::from_secs(2);
/// How long while no exposed port listens: many images inherit an EXPOSE that they do not serve.
const QUIET_OTHER: Duration = Duration::from_secs(15);
/// A guest that is never at rest has started when no further port begins to listen for this long.
const BUSY: Duration = Duration::from_secs(30);
/// How long no further port may begin to listen while no exposed one does.
const BUSY_OTHER: Duration = Duration::from_mins(2);

/// What one look at the guest showed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look<'a> {
    /// Time since the first look.
    pub(crate) at: Duration,
    /// TCP ports that listen, in ascending order.
    pub(crate) ports: &'a [u16],
    /// CPUs' time used since the look before, as a share of one CPU.
    pub(crate) cpu_share: f64,
}

/// Watches an app start.
#[derive(Debug)]
pub(crate) struct Readiness {
    exposed: Vec<u16>,
    ports: Vec<u16>,
    changed_at: Duration,
    quiet_since: Option<Duration>,
    before: Duration,
}

/// Why the app counts as started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Started {
    /// The port that decided.
    port: u16,
    /// A port that the image exposes and that does not listen.
    missing: Option<u16>,
    busy: bool,
}

impl Readiness {
    /// For an app that is to serve one of the ports, if there are any.
    pub(crate) fn new(exposed: Vec<u16>) -> Self {
        Self {
            exposed,
            ports: Vec::new(),
            changed_at: Duration::ZERO,
            quiet_since: None,
            before: Duration::ZERO,
        }
    }

    /// Takes in a look; says when it is enough. Nothing is, before a port listens.
    pub(crate) fn look(&mut self, look: Look<'_>) -> Option<Started> {
        if look.ports != self.ports {
            self.ports = look.ports.to_vec();
            self.changed_at = look.at;
        }
        let began = self.before;
        self.before = look.at;
        self.quiet_since = if look.cpu_share < QUIET_SHARE { self.quiet_since.or(Some(began)) } else { None };
        let exposed = self.exposed.iter().copied().find(|port| self.ports.contains(port));
        let port = exposed.or_else(|| self.ports.first().copied())?;
        let missing = if exposed.is_none() { self.exposed.first().copied() } else { None };
        let (quiet, unchanged) = match (exposed, missing) {
            (Some(_), _) => (QUIET_EXPOSED, BUSY),
            (None, None) => (QUIET_ANY, BUSY),
            (None, Some(_)) => (QUIET_OTHER, BUSY_OTHER),
        };
        let at_rest = self.quiet_since.is_some_and(|since| look.at.saturating_sub(since) >= quiet);
        let busy = look.at.saturating_sub(self.changed_at) >= unchanged;
        (at_rest || busy).then_some(Started { port, missing, busy: !at_rest })
    }
}

impl std::fmt::Display for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Taking the snapshot: port {} listens", self.port)?;
        if let Some(port) = self.missing {
            write!(f, ", port {port}, which the image exposes, does not")?;
        }
        if self.busy {
            f.write_str("; the app is still busy, but no further port began to listen")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks each second; each is (ports, CPU share). The second of the verdict and what it says.
    fn watch(
        exposed: &[u16],
        looks: impl IntoIterator<Item = (&'static [u16], f64)>,
    ) -> Option<(u64, String)> {
        let mut readiness = Readiness::new(exposed.to_vec());
        (1..).zip(looks).find_map(|(second, (ports, cpu_share))| {
            let look = Look { at: Duration::from_secs(second), ports, cpu_share };
            Some((second, readiness.look(look)?.to_string()))
        })
    }

    fn seconds(
        count: usize,
        ports: &'static [u16],
        share: f64,
    ) -> impl Iterator<Item = (&'static [u16], f64)> {
        std::iter::repeat_n((ports, share), count)
    }

    #[test]
    fn a_database_that_listens_first_is_not_the_app() {
        let start =
            || seconds(5, &[], 1.0).chain(seconds(20, &[5432], 0.9)).chain(seconds(3, &[5432, 8080], 0.9));
        let (second, text) = watch(&[], start().chain(seconds(9, &[5432, 8080], 0.0))).unwrap();
        assert_eq!((second, text.as_str()), (30, "Taking the snapshot: port 5432 listens"));
        let (second, text) = watch(&[8080], start().chain(seconds(9, &[5432, 8080], 0.0))).unwrap();
        assert_eq!((second, text.as_str()), (29, "Taking the snapshot: port 8080 listens"));
    }

    #[test]
    fn a_pause_before_the_exposed_port_is_waited_for() {
        let start = seconds(10, &[6379], 0.0).chain(seconds(9, &[6379, 8080], 0.0));
        assert_eq!(watch(&[8080], start).unwrap().0, 11);
    }

    #[test]
    fn an_exposed_port_that_nobody_serves_does_not_hold_a_build_for_long() {
        let (second, text) = watch(&[80], seconds(60, &[3000], 0.0)).unwrap();
        assert_eq!(second, 15);
        assert_eq!(
            text,
            "Taking the snapshot: port 3000 listens, port 80, which the image exposes, does not"
        );
        assert_eq!(watch(&[80], seconds(200, &[3000], 1.0)).unwrap().0, 121);
    }

    #[test]
    fn an_app_that_is_always_busy_has_started_when_its_ports_stay_as_they_are() {
        let looks = seconds(20, &[1], 1.0).chain(seconds(100, &[1, 2], 1.0));
        let (second, text) = watch(&[], looks).unwrap();
        assert_eq!(second, 51);
        assert!(text.contains("still busy"), "{text}");
    }

    #[test]
    fn nothing_that_listens_is_never_started() {
        assert_eq!(watch(&[], seconds(1000, &[], 0.0)), None);
    }
}
