//! Calls a lifecycle hook of the app: a POST of HTTP/1.1 on a connection of its own.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hearth_guest_protocol::HookResult;

/// A head longer than this is not one.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// POSTs `body` to `path`. The calling thread must be in the app's network namespace.
pub(crate) fn call(port: u16, path: &str, body: &str, timeout_ms: u64) -> HookResult {
    let deadline = Instant::now() + Duration::from_millis(timeout_ms);
    match exchange(port, &request(port, path, body), deadline) {
        Ok(code) => HookResult::Status { code },
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => HookResult::Refused,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => HookResult::TimedOut,
            _ => HookResult::Broken,
        },
    }
}

fn request(port: u16, path: &str, body: &str) -> String {
    let content_type = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{content_type}content-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn exchange(port: u16, request: &str, deadline: Instant) -> io::Result<u16> {
    let mut app = connect(port, deadline)?;
    app.set_write_timeout(Some(time_left(deadline)?))?;
    app.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    loop {
        if let Some(code) = complete(&answer) {
            return Ok(code);
        }
        if answer.len() > MAX_ANSWER_BYTES {
            return status(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
        match read_some(&mut app, &mut answer, deadline) {
            Ok(0) => return status(&answer).ok_or_else(|| io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            // The status counts; an app that does not end its answer has answered anyway.
            Err(error) => return status(&answer).ok_or(error),
        }
    }
}

fn read_some(app: &mut TcpStream, answer: &mut Vec<u8>, deadline: Instant) -> io::Result<usize> {
    let mut buffer = [0; 4096];
    app.set_read_timeout(Some(time_left(deadline)?))?;
    let length = app.read(&mut buffer)?;
    answer.extend_from_slice(&buffer[..length]);
    Ok(length)
}

fn connect(port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let try_address =
        |address: IpAddr| TcpStream::connect_timeout(&SocketAddr::new(address, port), time_left(deadline)?);
    match try_address(Ipv4Addr::LOCALHOST.into()) {
        // A guest without IPv6 has another error for ::1, which would hide this one.
        Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
            try_address(Ipv6Addr::LOCALHOST.into()).map_err(|_| refused)
        }
        result => result,
    }
}

fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The status once the head has arrived, from `HTTP/1.x CODE …`.
fn status(answer: &[u8]) -> Option<u16> {
    let (head, _) = split_head(answer)?;
    let rest = head.strip_prefix("HTTP/1.")?;
    let code = rest.get(1..)?.strip_prefix(' ')?.split([' ', '\r']).next()?;
    code.parse().ok().filter(|code| (100..600).contains(code))
}

/// The status once the whole answer has arrived, as far as its length can be told.
fn complete(answer: &[u8]) -> Option<u16> {
    let code = status(answer)?;
    let (head, body) = split_head(answer)?;
    let header = |wanted: &str| {
        head.split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find_map(|(name, value)| name.eq_ignore_ascii_case(wanted).then(|| value.trim()))
    };
    let whole = match (header("content-length"), header("transfer-encoding")) {
        _ if code == 204 || code == 304 => true,
        (Some(length), _) => length.parse().is_ok_and(|length: usize| body.len() >= length),
        (None, Some(_)) => body.ends_with(b"0\r\n\r\n"),
        (None, None) => false,
    };
    whole.then_some(code)
}

fn split_head(answer: &[u8]) -> Option<(&str, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((std::str::from_utf8(&answer[..end]).ok()?, &answer[end + 4..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// Calls a hook on a server that reads the request's head and then writes `answer`;
    /// returns the request too.
    fn call_server(answer: &'static [u8], body: &str, timeout_ms: u64) -> (HookResult, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let length = request(port, "/run", body).len();
        let server = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = vec![0; length];
            client.read_exact(&mut request).unwrap();
            client.write_all(answer).unwrap();
            // Only the caller closes.
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            String::from_utf8(request).unwrap()
        });
        (call(port, "/run", body, timeout_ms), server.join().unwrap())
    }

    #[test]
    fn the_request_is_a_bare_post_or_json() {
        let (result, sent) = call_server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "", 5000);
        assert_eq!(result, HookResult::Status { code: 200 });
        assert!(sent.starts_with("POST /run HTTP/1.1\r\nHost: localhost:"), "{sent}");
        assert!(sent.contains("content-length: 0\r\n") && !sent.contains("content-type"), "{sent}");
        let (_, sent) = call_server(b"HTTP/1.1 204 No Content\r\n\r\n", "{}", 5000);
        assert!(sent.contains("content-type: application/json\r\ncontent-length: 2\r\n"), "{sent}");
    }

    #[test]
    fn the_answer_may_have_any_form_of_body() {
        let chunked = b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n";
        assert_eq!(call_server(chunked, "", 5000).0, HookResult::Status { code: 503 });
        let endless = b"HTTP/1.0 409 Conflict\r\n\r\nnot closed";
        assert_eq!(call_server(endless, "", 50).0, HookResult::Status { code: 409 });
    }

    #[test]
    fn silence_nonsense_and_absence_are_told_apart() {
        assert_eq!(call_server(b"HTTP/1.1 200", "", 50).0, HookResult::TimedOut);
        assert_eq!(call_server(b"SSH-2.0-x\r\n\r\n", "", 50).0, HookResult::TimedOut);
        let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert_eq!(call(unused, "/", "", 1000), HookResult::Refused);
    }

    #[test]
    fn a_status_line_must_be_one_of_http() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.1 200\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.1 abc\r\n\r\n"), None);
        assert_eq!(status(b"HTTP/2 200 OK\r\n\r\n"), None);
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
