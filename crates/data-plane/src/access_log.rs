//! The access log: a line of JSON for each request, in a file of the operator's choice.
//!
//! Lines are written by a thread of its own, which requests never wait for: what does not fit its
//! queue is dropped, and the log says how much that was.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use hearth_api::MicrovmId;
use http::{HeaderValue, Method, Uri, Version};
use jiff::Timestamp;
use serde::Serialize;

/// Lines that wait to be written.
const QUEUE: usize = 8192;
/// Longest path that is logged, in bytes.
const MAXIMUM_PATH: usize = 2048;
/// Bytes that are gathered before they are written, while there is more to come.
const BUFFER: usize = 64 * 1024;

/// What is known of a request when it is over.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) time: Timestamp,
    pub(crate) request_id: HeaderValue,
    pub(crate) microvm: Option<MicrovmId>,
    pub(crate) client: SocketAddr,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) port: Option<u16>,
    pub(crate) status: Option<u16>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) duration_milliseconds: f64,
    pub(crate) resume_wait_milliseconds: Option<f64>,
    pub(crate) error: Option<&'static str>,
}

/// A line. There is no member for the query, which may hold secrets.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    time: Timestamp,
    request_id: &'a str,
    microvm_id: Option<&'a str>,
    client: SocketAddr,
    method: &'a str,
    path: &'a str,
    protocol: &'a str,
    port: Option<u16>,
    status: Option<u16>,
    bytes_in: u64,
    bytes_out: u64,
    duration_ms: f64,
    resume_wait_ms: Option<f64>,
    error: Option<&'a str>,
}

/// Says that lines are missing.
#[derive(Debug, Serialize)]
struct DroppedLine {
    time: Timestamp,
    dropped: u64,
}

/// The log. Dropping it writes what waits.
#[derive(Debug)]
pub struct AccessLog {
    queue: Option<SyncSender<Message>>,
    state: Arc<State>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct State {
    dropped: AtomicU64,
    reopen: AtomicBool,
}

#[derive(Debug)]
enum Message {
    Entry(Box<Entry>),
    /// Look at [`State::reopen`].
    Wake,
}

impl AccessLog {
    /// Opens the file (mode 0600 if it is made) and starts the writer.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::with_queue(path, QUEUE)
    }

    fn with_queue(path: &Path, length: usize) -> io::Result<Self> {
        let file = open(path)?;
        let (queue, entries) = sync_channel(length);
        let state = Arc::new(State::default());
        let mut writer = Writer {
            path: path.to_owned(),
            file: Some(file),
            buffer: Vec::new(),
            lines: 0,
            state: Arc::clone(&state),
            failing: false,
        };
        let thread = std::thread::Builder::new().name("access-log".into());
        let writer = thread.spawn(move || writer.run(&entries))?;
        Ok(Self { queue: Some(queue), state, writer: Mutex::new(Some(writer)) })
    }

    /// Writes to a file that is opened anew under the same name; call it after the
    /// old one was renamed.
    pub fn reopen(&self) {
        self.state.reopen.store(true, Ordering::Release);
        if let Some(queue) = &self.queue {
            // A full queue wakes the writer as well.
            let _ = queue.try_send(Message::Wake);
        }
    }

    pub(crate) fn write(&self, entry: Entry) {
        let sent =
            self.queue.as_ref().is_some_and(|queue| queue.try_send(Message::Entry(entry.into())).is_ok());
        if !sent {
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.queue = None;
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the writer of the access log broke off");
        }
    }
}

struct Writer {
    path: PathBuf,
    /// `None` when it could not be opened again.
    file: Option<File>,
    buffer: Vec<u8>,
    /// Lines in the buffer.
    lines: u64,
    state: Arc<State>,
    /// The last write failed, and that has been said.
    failing: bool,
}

impl Writer {
    fn run(&mut self, entries: &Receiver<Message>) {
        while let Ok(message) = entries.recv() {
            self.take(message);
            while self.buffer.len() < BUFFER
                && let Ok(message) = entries.try_recv()
            {
                self.take(message);
            }
            self.say_dropped();
            self.flush();
        }
    }

    fn take(&mut self, message: Message) {
        if self.state.reopen.swap(false, Ordering::AcqRel) {
            self.flush();
            self.reopen();
        }
        if let Message::Entry(entry) = message {
            self.line(&Line::of(&entry));
            self.lines += 1;
        }
    }

    fn line(&mut self, line: &impl Serialize) {
        serde_json::to_writer(&mut self.buffer, line).expect("invariant: a line has string keys only");
        self.buffer.push(b'\n');
    }

    fn say_dropped(&mut self) {
        let dropped = self.state.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            self.line(&DroppedLine { time: Timestamp::now(), dropped });
            tracing::warn!(dropped, "lines of the access log were dropped");
        }
    }

    fn reopen(&mut self) {
        match open(&self.path) {
            Ok(file) => self.file = Some(file),
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "the access log could not be opened again");
                self.file = None;
            }
        }
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let written = match &mut self.file {
            Some(file) => file.write_all(&self.buffer),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        match written {
            Ok(()) => self.failing = false,
            Err(error) => {
                self.state.dropped.fetch_add(self.lines, Ordering::Relaxed);
                if !self.failing {
                    tracing::error!(path = %self.path.display(), %error, "the access log could not be written");
                    self.failing = true;
                }
            }
        }
        self.buffer.clear();
        self.lines = 0;
    }
}

impl<'a> Line<'a> {
    fn of(entry: &'a Entry) -> Self {
        let path = entry.uri.path();
        Self {
            time: entry.time,
            request_id: entry.request_id.to_str().unwrap_or_default(),
            microvm_id: entry.microvm.as_ref().map(MicrovmId::as_str),
            client: entry.client,
            method: entry.method.as_str(),
            path: &path[..path.floor_char_boundary(MAXIMUM_PATH)],
            protocol: protocol(entry.version),
            port: entry.port,
            status: entry.status,
            bytes_in: entry.bytes_in,
            bytes_out: entry.bytes_out,
            duration_ms: entry.duration_milliseconds,
            resume_wait_ms: entry.resume_wait_milliseconds,
            error: entry.error,
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2",
        _ => "-",
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> Entry {
        Entry {
            time: Timestamp::UNIX_EPOCH,
            request_id: HeaderValue::from_static("id"),
            microvm: Some(MicrovmId::from_stored("microvm-a")),
            client: SocketAddr::from(([192, 0, 2, 1], 4711)),
            method: Method::GET,
            uri: path.parse().unwrap(),
            version: Version::HTTP_2,
            port: Some(8080),
            status: Some(200),
            bytes_in: 1,
            bytes_out: 2,
            duration_milliseconds: 1.5,
            resume_wait_milliseconds: None,
            error: None,
        }
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_has_the_path_and_no_query() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let log = AccessLog::open(&path).unwrap();
        log.write(entry("/a/b?token=secret"));
        log.write(Entry { microvm: None, status: None, error: Some("BAD_REQUEST"), ..entry("/") });
        drop(log);
        let lines = lines(&path);
        let expected = serde_json::json!({
            "time": "1970-01-01T00:00:00Z", "requestId": "id", "microvmId": "microvm-a", "client": "192.0.2.1:4711",
            "method": "GET", "path": "/a/b", "protocol": "HTTP/2", "port": 8080, "status": 200, "bytesIn": 1,
            "bytesOut": 2, "durationMs": 1.5, "resumeWaitMs": null, "error": null,
        });
        assert_eq!(lines[0], expected);
        assert_eq!(
            (&lines[1]["microvmId"], &lines[1]["error"]),
            (&None::<&str>.into(), &"BAD_REQUEST".into())
        );
    }

    #[test]
    fn it_goes_on_in_a_new_file_after_it_was_renamed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, old) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
        let log = AccessLog::open(&path).unwrap();
        log.write(entry("/old"));
        while std::fs::metadata(&path).unwrap().len() == 0 {
            std::thread::yield_now();
        }
        std::fs::rename(&path, &old).unwrap();
        log.reopen();
        log.write(entry("/new"));
        drop(log);
        assert_eq!(
            (lines(&old)[0]["path"].as_str(), lines(&path)[0]["path"].as_str()),
            (Some("/old"), Some("/new"))
        );
    }

    /// A FIFO whose reader does not read stands for a disk that does not take anything.
    #[test]
    fn who_logs_never_waits_and_what_is_dropped_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        // Opened for both, so that the writer's open does not wait for it.
        let mut reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let log = AccessLog::with_queue(&path, 4).unwrap();
        let cut = "/".to_owned() + &"a".repeat(MAXIMUM_PATH + 10);
        for _ in 0..1000 {
            log.write(entry(&cut));
        }
        assert!(log.state.dropped.load(Ordering::Relaxed) > 0, "the pipe holds far less than that");
        // The writer, and the end of the test: nothing but reading lets it finish.
        let closing = std::thread::spawn(move || drop(log));
        let mut text = Vec::new();
        let mut piece = [0; 4096];
        while !closing.is_finished() || !text.ends_with(b"}\n") {
            let length = io::Read::read(&mut reader, &mut piece).unwrap();
            text.extend_from_slice(&piece[..length]);
            if text.ends_with(b"}\n") && dropped(&text) + paths(&text) == 1000 {
                break;
            }
        }
        assert!(dropped(&text) > 0);
        assert!(String::from_utf8(text).unwrap().lines().all(|line| line.len() < MAXIMUM_PATH + 400));
    }

    fn dropped(text: &[u8]) -> u64 {
        let parsed = parse(text);
        parsed.iter().filter_map(|line| line["dropped"].as_u64()).sum()
    }

    fn paths(text: &[u8]) -> u64 {
        parse(text).iter().filter(|line| line["path"].is_string()).count() as u64
    }

    fn parse(text: &[u8]) -> Vec<serde_json::Value> {
        text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}
