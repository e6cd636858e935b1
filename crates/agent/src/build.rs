//! A build as the agent sees it: starts the build stage, streams its output and reports its result.

use std::fs::File;
use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hearth_guest_protocol::{BuildSpec, Reply, chain};
use nix::unistd::sync;

use crate::build_stage::BuildResult;
use crate::children::{self, Child, Kind};
use crate::error::Error;
use crate::output::{Output, StreamEnd};

/// Runs the build; nothing is to be replied when the host has gone.
pub(crate) fn run(peer: &mut TcpStream, spec: &BuildSpec) -> io::Result<Option<Reply>> {
    let deadline = Instant::now() + Duration::from_secs(spec.timeout_seconds);
    let Child { pid, stdout, stderr, status } = match children::spawn(Kind::Build, spec) {
        Ok(child) => child,
        Err(error) => return Ok(Some(Reply::Error { message: chain(&error) })),
    };
    let output = Arc::new(Output::new());
    let collected = Arc::clone(&output);
    thread::Builder::new().spawn(move || collected.collect(stdout, stderr))?;
    let report = thread::Builder::new().spawn(move || {
        let mut text = String::new();
        File::from(status).read_to_string(&mut text).map(|_| text)
    })?;
    let streamed = output.stream(peer, 0, Some(deadline));
    if !matches!(streamed, Ok(StreamEnd::Closed)) {
        children::kill(pid);
    }
    let report = report.join().unwrap_or_else(|_| Err(io::Error::other("the reader panicked")))?;
    sync();
    Ok(match streamed? {
        StreamEnd::PeerGone => None,
        StreamEnd::TimedOut => {
            let error = Error::BuildTimeout { seconds: spec.timeout_seconds };
            Some(Reply::Error { message: chain(&error) })
        }
        StreamEnd::Closed => Some(reply(&report)),
    })
}

/// The stage reports its result as JSON, and anything that it could not do as a sentence.
fn reply(report: &str) -> Reply {
    match serde_json::from_str(report) {
        Ok(BuildResult { code, oci_config, root_bytes }) => Reply::Built { code, oci_config, root_bytes },
        Err(_) if report.is_empty() => Reply::Error { message: "the build was killed".into() },
        Err(_) => Reply::Error { message: report.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_result_or_a_sentence() {
        let result = r#"{"code":0,"oci_config":"{}","root_bytes":5}"#;
        assert_eq!(reply(result), Reply::Built { code: 0, oci_config: "{}".into(), root_bytes: 5 });
        assert_eq!(reply("no disk"), Reply::Error { message: "no disk".into() });
    }
}
