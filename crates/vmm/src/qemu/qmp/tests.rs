use std::os::fd::OwnedFd;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tokio::io::{AsyncWriteExt, Lines};
use tokio::time::Instant;

use super::*;
use crate::qemu::commands::{AddFd, QueryStatus, Stop};

const GREETING: &str = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n";

/// A server that is scripted line by line.
struct FakeQemu {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl FakeQemu {
    fn pair() -> (UnixStream, Self) {
        let (client, server) = UnixStream::pair().unwrap();
        let (reader, writer) = server.into_split();
        (client, Self { lines: BufReader::new(reader).lines(), writer })
    }

    async fn say(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.lines.next_line().await.unwrap().unwrap()).unwrap()
    }

    /// Greets, and answers the first command of every client.
    async fn greet(&mut self) {
        self.say(GREETING).await;
        assert_eq!(self.hear().await["execute"], "qmp_capabilities");
        self.say("{\"return\": {}, \"id\": 1}\n").await;
    }
}

async fn connected(timeout: Duration) -> (Qmp, FakeQemu) {
    let (client, mut qemu) = FakeQemu::pair();
    let (qmp, ()) = tokio::join!(Qmp::connect(client, timeout), qemu.greet());
    (qmp.unwrap(), qemu)
}

#[tokio::test]
async fn replies_find_their_commands_in_any_order_and_among_events() {
    let (qmp, mut qemu) = connected(Duration::from_secs(5)).await;
    let mut events = qmp.events();
    let server = async {
        let (first, second) = (qemu.hear().await, qemu.hear().await);
        assert_eq!((&first["execute"], &second["execute"]), (&"query-status".into(), &"stop".into()));
        qemu.say("{\"event\": \"STOP\", \"data\": {}, \"timestamp\": {}}\n").await;
        qemu.say("{\"event\": \"MIGRATION\", \"data\": {\"status\": \"completed\"}}\n").await;
        let error =
            format!("{{\"id\": {}, \"error\": {{\"class\": \"X\", \"desc\": \"busy\"}}}}\n", second["id"]);
        qemu.say(&error).await;
        qemu.say(&format!("{{\"id\": {}, \"return\": {{\"status\": \"paused\"}}}}\n", first["id"])).await;
    };
    let (status, stop, ()) = tokio::join!(qmp.execute(&QueryStatus {}), qmp.execute(&Stop {}), server);
    assert_eq!(status.unwrap().status, "paused");
    assert_eq!(stop.unwrap_err().to_string(), "stop was refused: busy");
    assert_eq!(events.recv().await.unwrap(), Event::Stopped);
    assert_eq!(events.recv().await.unwrap(), Event::Migration { status: "completed".into() });
}

#[tokio::test]
async fn a_descriptor_travels_with_its_command() {
    let (client, server) = UnixStream::pair().unwrap();
    let (_reader, writer) = client.into_split();
    let file = tempfile::tempfile().unwrap();
    send(&writer, b"hello\n", Some(file.as_fd())).await.unwrap();

    server.readable().await.unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 16];
    let mut buffers = [io::IoSliceMut::new(&mut bytes)];
    let received =
        rustix::net::recvmsg(server.as_fd(), &mut buffers, &mut control, RecvFlags::empty()).unwrap();
    assert_eq!(received.bytes, 6);
    let descriptors: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(descriptors.len(), 1);
}

#[tokio::test]
async fn garbage_ends_the_connection_for_all_callers() {
    for garbage in ["hello\n", "{}\n", "[1]\n", "{\"event\": 3}\n"] {
        let (qmp, mut qemu) = connected(Duration::from_secs(5)).await;
        let server = async {
            qemu.hear().await;
            qemu.say(garbage).await;
        };
        let (result, ()) = tokio::join!(qmp.execute(&Stop {}), server);
        let message = result.unwrap_err().to_string();
        assert!(message.starts_with("the connection is closed: not QMP"), "{garbage}: {message}");
        let again = qmp.execute(&Stop {}).await.unwrap_err().to_string();
        assert_eq!(again, message);
    }
}

#[tokio::test]
async fn an_endless_line_is_not_read_to_its_end() {
    let (qmp, mut qemu) = connected(Duration::from_secs(5)).await;
    let server = async {
        let block = "x".repeat(64 * 1024);
        while qemu.writer.write_all(block.as_bytes()).await.is_ok() {}
    };
    let client = async {
        let error = qmp.execute(&Stop {}).await.unwrap_err().to_string();
        drop(qmp);
        error
    };
    let (error, ()) = tokio::join!(client, server);
    assert_eq!(error, "the connection is closed: a line is too long");
}

/// The kind: what a guest that has taken its VMM over says is read at a bounded pace.
#[tokio::test(start_paused = true)]
async fn lines_without_end_are_read_at_a_pace() {
    let (qmp, mut qemu) = connected(Duration::from_secs(5)).await;
    let (mut events, began) = (qmp.events(), Instant::now());
    let flood = async {
        for _ in 0..4 * LINES_PER_SECOND {
            qemu.say("{\"event\": \"RTC_CHANGE\", \"data\": {}}\n").await;
        }
        qemu.say("{\"event\": \"STOP\", \"data\": {}}\n").await;
    };
    let ((), last) = tokio::join!(flood, events.recv());
    assert_eq!(last.unwrap(), Event::Stopped);
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_wrong_reply_is_an_error_of_that_command_only() {
    let (qmp, mut qemu) = connected(Duration::from_secs(5)).await;
    let server = async {
        let request = qemu.hear().await;
        qemu.say(&format!("{{\"id\": {}, \"return\": {{\"fdset-id\": \"one\"}}}}\n", request["id"])).await;
        let request = qemu.hear().await;
        qemu.say(&format!("{{\"id\": {}, \"return\": {{}}}}\n", request["id"])).await;
    };
    let client = async {
        let error = qmp.execute(&AddFd {}).await.unwrap_err();
        assert!(matches!(error, QmpError::Refused { command: "add-fd", .. }), "{error}");
        qmp.execute(&Stop {}).await.unwrap();
    };
    tokio::join!(client, server);
}

#[tokio::test(start_paused = true)]
async fn silence_is_an_error_after_the_timeout() {
    let (qmp, _qemu) = connected(Duration::from_secs(7)).await;
    let error = qmp.execute(&Stop {}).await.unwrap_err();
    assert_eq!(error.to_string(), "stop was not answered within 7 s");
}

#[tokio::test]
async fn the_end_of_the_process_is_the_end_of_the_connection() {
    let (qmp, mut qemu) = connected(Duration::from_secs(5)).await;
    let server = async move {
        qemu.hear().await;
        drop(qemu);
    };
    let (result, ()) = tokio::join!(qmp.execute(&Stop {}), server);
    assert_eq!(result.unwrap_err().to_string(), "the connection is closed: QEMU has closed it");

    let (client, qemu) = FakeQemu::pair();
    drop(qemu);
    let error = Qmp::connect(client, Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.to_string(), "the connection is closed: QEMU has closed it");
}

#[tokio::test]
async fn another_protocol_is_refused_at_once() {
    let (client, mut qemu) = FakeQemu::pair();
    let (result, ()) =
        tokio::join!(Qmp::connect(client, Duration::from_secs(5)), qemu.say("220 smtp ready\n"));
    assert_eq!(result.unwrap_err().to_string(), "the connection is closed: the greeting is not QMP");
}
