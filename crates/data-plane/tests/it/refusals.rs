//! What the endpoint refuses by itself.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hearth_api::{MicrovmId, PortSpecification};
use hearth_auth::TokenKeys;
use hearth_node::Unreachable;
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{connect, describe, empty, get, request, serve_app, soon, text};
use crate::fake::{App, LABEL, World, host, key};

struct Expected(u16, &'static str, &'static str);

const MISSING: Expected = Expected(403, "UNAUTHORIZED", "Request missing authentication");
const REJECTED: Expected = Expected(403, "UNAUTHORIZED", "Token authentication failed");
const PORT_DENIED: Expected = Expected(403, "UNAUTHORIZED", "Access to port denied");
const BAD_REQUEST: Expected = Expected(400, "BAD_REQUEST", "Bad request");

/// Sends headers to a host over a connection with a server name, and checks the refusal.
async fn refused(world: &World, server_name: &str, headers: &[(&str, &str)], expected: &Expected) {
    let mut request = Request::builder().uri("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut sender = connect(world, server_name).await;
    let response = soon(sender.send_request(request.body(empty()).unwrap())).await.unwrap();
    let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(response.status(), expected.0, "{server_name} {headers:?}");
    assert_eq!(header("x-aws-proxy-error").as_deref(), Some(expected.1));
    assert_eq!(header("cache-control").as_deref(), Some("private, no-store"));
    assert!(header("x-amzn-requestid").is_some());
    assert_eq!(text(response).await, expected.2, "{server_name} {headers:?}");
}

#[tokio::test]
async fn without_a_right_token_nothing_is_woken_and_nothing_is_told() {
    let world = World::start().await;
    let (here, elsewhere) = (host(LABEL), host("ffffffff-6a8a-4f0c-9b57-3a1f5f0e7d11"));
    let good = world.token();
    let claims = world.claims();
    let foreign = world.issue(&hearth_auth::Claims { microvm: MicrovmId::new(), ..claims.clone() });
    let past = jiff::Timestamp::now().as_second() - 1;
    let expired = world.issue(&hearth_auth::Claims { expires_at_seconds: past, ..claims.clone() });
    let forged = TokenKeys::new(key(2), vec![]).issue(&claims).unwrap();
    let port = world.issue(&hearth_auth::Claims { ports: vec![PortSpecification::Port(5000)], ..claims });

    refused(&world, LABEL, &[("host", &here)], &MISSING).await;
    refused(&world, LABEL, &[("host", &here), ("x-aws-proxy-auth", "banana")], &MISSING).await;
    refused(&world, LABEL, &[("host", &here), ("authorization", &good)], &MISSING).await;
    let twice = [("host", &*here), ("x-aws-proxy-auth", &good), ("x-aws-proxy-auth", &good)];
    refused(&world, LABEL, &twice, &MISSING).await;
    for token in [&foreign, &expired, &forged] {
        refused(&world, LABEL, &[("host", &here), ("x-aws-proxy-auth", token)], &REJECTED).await;
    }
    refused(&world, LABEL, &[("host", &here), ("x-aws-proxy-auth", &port)], &PORT_DENIED).await;
    let other_port = [("host", &*here), ("x-aws-proxy-auth", &port), ("x-aws-proxy-port", "5001")];
    refused(&world, LABEL, &other_port, &PORT_DENIED).await;
    for bad in ["banana", "0", "70000", "-1", "1.5"] {
        let headers = [("host", &*here), ("x-aws-proxy-auth", &good), ("x-aws-proxy-port", bad)];
        refused(&world, LABEL, &headers, &BAD_REQUEST).await;
    }
    // Unknown endpoints answer as known ones do.
    let other = "ffffffff-6a8a-4f0c-9b57-3a1f5f0e7d11";
    refused(&world, other, &[("host", &elsewhere)], &MISSING).await;
    refused(&world, other, &[("host", &elsewhere), ("x-aws-proxy-auth", &good)], &REJECTED).await;
    // Server name and host disagree, in either way.
    refused(&world, other, &[("host", &here), ("x-aws-proxy-auth", &good)], &REJECTED).await;
    refused(&world, LABEL, &[("host", &elsewhere), ("x-aws-proxy-auth", &good)], &REJECTED).await;
    refused(&world, LABEL, &[("host", "localhost"), ("x-aws-proxy-auth", &good)], &REJECTED).await;
    refused(&world, LABEL, &[("x-aws-proxy-auth", &good)], &BAD_REQUEST).await;
    refused(&world, LABEL, &[("host", &here), ("host", &here), ("x-aws-proxy-auth", &good)], &BAD_REQUEST)
        .await;

    assert_eq!(world.node.asked.load(Ordering::SeqCst), 0);
    assert_eq!(world.app.traffic.load(Ordering::SeqCst), 0, "refused requests are no traffic");
}

async fn bad_gateway(world: &World, code: &str) {
    let response = get(world, "/").await;
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["x-aws-proxy-error"], code);
    assert_eq!(text(response).await, "");
}

#[tokio::test]
async fn a_microvm_that_takes_no_request_is_a_bad_gateway() {
    let world = World::start().await;
    for reason in
        [Unreachable::Suspended, Unreachable::Terminated, Unreachable::Failed, Unreachable::NotFound]
    {
        world.node.state.send_replace(Some(Err(reason)));
        bad_gateway(&world, "MICROVM_CONNECT_FAILED").await;
    }
    // Its VMM is gone, which is not known yet.
    world.app.ended.cancel();
    world.node.state.send_replace(Some(Ok(world.app.clone())));
    let told = async {
        while world.node.asked.load(Ordering::SeqCst) < 6 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.node.state.send_replace(Some(Err(Unreachable::Terminated)));
    };
    tokio::join!(bad_gateway(&world, "MICROVM_CONNECT_FAILED"), told);
}

#[tokio::test]
async fn an_app_that_does_not_speak_http_is_a_bad_gateway() {
    let world = World::start().await;
    bad_gateway(&world, "APP_CONNECT_FAILED").await;
    for answer in ["", "SSH-2.0-OpenSSH_9.2\r\n"] {
        let listener = world.listen(8080).await;
        let app = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        bad_gateway(&world, "APP_CONNECT_FAILED").await;
        app.await.unwrap();
    }
}

#[tokio::test]
async fn a_request_is_held_until_the_microvm_runs() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, describe);
    world.node.state.send_replace(None);
    let mut sender = connect(&world, LABEL).await;
    let held = tokio::spawn(sender.send_request(request(&world, "/").body(empty()).unwrap()));
    soon(async {
        while world.node.asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!held.is_finished());
    world.node.state.send_replace(Some(Ok(world.app.clone())));
    assert_eq!(soon(held).await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_request_that_meets_the_very_moment_of_suspension_is_held_as_well() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, describe);
    let ended = tokio_util::sync::CancellationToken::new();
    ended.cancel();
    world.node.state.send_replace(Some(Ok(App { ended, ..world.app.clone() })));
    *world.node.next_life.lock().unwrap() = Some(App { generation: 2, ..world.app.clone() });
    let response = get(&world, "/").await;
    assert_eq!(response.status(), 200);
    assert_eq!(world.node.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_host_that_cannot_open_connections_says_so() {
    let world = World::start().await;
    world.app.wanting.store(true, Ordering::SeqCst);
    let response = get(&world, "/").await;
    assert_eq!(response.status(), 500);
    assert_eq!(response.headers()["x-aws-proxy-error"], "INTERNAL_ERROR");
    assert_eq!(text(response).await, "Internal error");
}
