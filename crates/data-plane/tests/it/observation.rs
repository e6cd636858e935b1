//! What operators see of requests, and what they do about tokens.

use std::time::Duration;

use hearth_node::Unreachable;
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{connect, describe, empty, full, get, request, send, serve_app, soon, text};
use crate::fake::{LABEL, World, host};

/// The lines of the access log, once there are so many. A line is written when the last of a
/// request has gone, which its client does not see.
async fn log(world: &World, count: usize) -> Vec<serde_json::Value> {
    let lines = async {
        loop {
            let text = std::fs::read_to_string(&world.access_log).unwrap();
            assert!(!text.contains(&world.token()[..40]), "a token is in the log");
            if text.ends_with('\n') && text.lines().count() >= count {
                return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(lines).await
}

#[tokio::test]
async fn a_request_is_counted_and_logged_with_its_bytes() {
    let world = World::start().await;
    serve_app(world.listen(5000).await, async |request: Request<_>| {
        http_body_util::BodyExt::collect(request.into_body()).await.unwrap();
        Response::builder().status(201).body(full("answer")).unwrap()
    });
    let asked = request(&world, "/path/a?key=secret").method("POST").header("x-aws-proxy-port", "5000");
    let response = send(&world, asked.body(full("question")).unwrap()).await;
    let id = response.headers()["x-amzn-requestid"].to_str().unwrap().to_owned();
    assert_eq!(text(response).await, "answer");
    let line = &log(&world, 1).await[0];
    let expected = serde_json::json!({
        "time": line["time"], "requestId": id, "microvmId": world.app.id, "client": line["client"],
        "method": "POST", "path": "/path/a", "protocol": "HTTP/1.1", "port": 5000, "status": 201, "bytesIn": 8,
        "bytesOut": 6, "durationMs": line["durationMs"], "resumeWaitMs": null, "error": null,
    });
    assert_eq!(line, &expected);
    assert!(line["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert!(line["durationMs"].as_f64().unwrap() > 0.0);
    let counters = world.observation.counters.of(&world.app.id);
    assert_eq!((counters.requests, counters.errors, counters.resume_waits), (1, 0, 0));
    assert_eq!((counters.bytes_in, counters.bytes_out), (8, 6));
}

#[tokio::test]
async fn refusals_are_logged_and_counted_once_the_token_was_good() {
    let world = World::on_this_thread().await;
    let asked = Request::builder().uri("/?a").header("host", host(LABEL));
    assert_eq!(send(&world, asked.body(empty()).unwrap()).await.status(), 403);
    assert_eq!(get(&world, "/").await.status(), 502);
    world.node.state.send_replace(Some(Err(Unreachable::Suspended)));
    assert_eq!(get(&world, "/").await.status(), 502);
    let lines = log(&world, 3).await;
    let seen: Vec<_> = lines
        .iter()
        .map(|line| (line["microvmId"].is_null(), line["status"].as_u64(), line["error"].as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            (true, Some(403), Some("UNAUTHORIZED")),
            (false, Some(502), Some("APP_CONNECT_FAILED")),
            (false, Some(502), Some("MICROVM_CONNECT_FAILED")),
        ]
    );
    let counters = world.observation.counters.of(&world.app.id);
    assert_eq!((counters.requests, counters.errors), (2, 2));
}

#[tokio::test]
async fn a_wait_for_the_microvm_is_counted_with_its_length() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, describe);
    world.node.state.send_replace(None);
    let asking = soon(connect(&world, LABEL)).await.send_request(request(&world, "/").body(empty()).unwrap());
    let waking = async {
        while world.node.state.receiver_count() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        world.node.state.send_replace(Some(Ok(world.app.clone())));
    };
    let (response, ()) = soon(async { tokio::join!(asking, waking) }).await;
    assert_eq!(text(response.unwrap()).await.lines().next(), Some("GET / HTTP/1.1"));
    let waited = log(&world, 1).await[0]["resumeWaitMs"].as_f64().unwrap();
    assert!(waited >= 20.0, "{waited}");
    let counters = world.observation.counters.of(&world.app.id);
    assert_eq!(counters.resume_waits, 1);
    assert_eq!(counters.resume_wait_milliseconds, waited as u64);
}

#[tokio::test]
async fn revoked_tokens_are_refused_at_once_and_what_is_open_goes_on() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, crate::forwarding::upgrade_app);
    let old = world.token();
    let asked = request(&world, "/").header("connection", "upgrade").header("upgrade", "lines");
    let mut response = send(&world, asked.body(empty()).unwrap()).await;
    let mut tunnel = TokioIo::new(soon(hyper::upgrade::on(&mut response)).await.unwrap());
    let mut sender = connect(&world, LABEL).await;
    let mut ask = async |token: &str| {
        let asked = Request::builder().uri("/").header("host", host(LABEL)).header("x-aws-proxy-auth", token);
        let response = soon(sender.send_request(asked.body(empty()).unwrap())).await.unwrap();
        let status = response.status().as_u16();
        text(response).await;
        status
    };
    assert_eq!(ask(&old).await, 200);
    world.keys.revoke(&world.app.id, 1, jiff::Timestamp::now().as_second());
    assert_eq!(ask(&old).await, 403, "on the connection that it had opened");
    let new = world.issue(&hearth_auth::Claims { revocations: 1, ..world.claims() });
    assert_eq!(ask(&new).await, 200);

    tunnel.write_all(b"still").await.unwrap();
    let mut back = [0; 5];
    soon(tunnel.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"still");
    drop(tunnel);
    let lines = log(&world, 4).await;
    let upgraded = lines.iter().find(|line| line["status"] == 101).unwrap();
    assert_eq!((&upgraded["bytesIn"], &upgraded["bytesOut"]), (&5.into(), &5.into()));
}
