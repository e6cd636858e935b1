//! Requests that meet a microVM at every moment of its being suspended, woken, and
//! suspended again: a model of the lifecycle, with random times, in front of an app that
//! counts what it is delivered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tokio::time::sleep;

use crate::client::{TestBody, connect, connect_http2, full, request, request_http2, serve_app, soon};
use crate::fake::{App, LABEL, World};
use http::{Request, Response};
use tokio_util::sync::CancellationToken;

/// How often each POST was delivered.
type Deliveries = Arc<Mutex<HashMap<String, usize>>>;

/// Numbers that look random, the same ones for the same seed (xorshift, Marsaglia 2003).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    async fn pause(&mut self, milliseconds: u64) {
        let microseconds = self.below(milliseconds * 1000 + 1);
        sleep(Duration::from_micros(microseconds)).await;
    }
}

/// What the lifecycle does with a microVM, as fast as it never is: a suspend that lets requests
/// finish, a time in which it sleeps, and a resume if somebody waits. A guest that was just resumed
/// takes no connections at times.
async fn live(world: &World, mut numbers: Numbers, over: &AtomicBool) {
    let mut app = world.app.clone();
    while !over.load(Ordering::SeqCst) {
        numbers.pause(6).await;
        world.node.state.send_replace(None);
        app.requests.drain(tokio::time::Instant::now).await;
        app.ended.cancel();
        numbers.pause(3).await;
        app = App {
            generation: app.generation + 1,
            ended: CancellationToken::new(),
            requests: hearth_node::Requests::default(),
            unreachable: Arc::new(AtomicBool::new(numbers.below(3) == 0)),
            ..app
        };
        world.node.state.send_replace(Some(Ok(app.clone())));
        if app.unreachable.load(Ordering::SeqCst) {
            numbers.pause(8).await;
            app.unreachable.store(false, Ordering::SeqCst);
        }
    }
}

enum Client {
    Http1(http1::SendRequest<TestBody>),
    Http2(http2::SendRequest<TestBody>),
}

impl Client {
    async fn post(&mut self, world: &World, name: &str) -> hyper::Result<Response<Incoming>> {
        let post = |builder: http::request::Builder| -> Request<TestBody> {
            builder.method("POST").header("x-name", name).body(full(name.to_owned())).unwrap()
        };
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(post(request(world, "/"))).await
            }
            Self::Http2(sender) => sender.send_request(post(request_http2(world, "/"))).await,
        }
    }
}

/// Everything but the app's own answer is a fault.
async fn ask(world: &World, mut client: Client, number: u64, over: &AtomicBool) -> Vec<String> {
    let mut numbers = Numbers(0x9e37_79b9 + number);
    let mut names = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let name = format!("{number}-{}", names.len());
        let response = soon(client.post(world, &name)).await.expect("a kept connection stays open");
        let (head, body) = response.into_parts();
        let body = soon(body.collect()).await.expect("the answer comes to its end").to_bytes();
        assert_eq!((head.status.as_u16(), &*body), (200, name.as_bytes()), "{name}: {:?}", head.headers);
        names.push(name);
        numbers.pause(4).await;
    }
    names
}

#[tokio::test]
async fn a_connection_that_is_dead_when_it_is_opened_costs_no_request() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, |request: Request<Incoming>| async {
        let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        Response::new(full(body.unwrap_or_default()))
    });
    for mut client in
        [Client::Http1(connect(&world, LABEL).await), Client::Http2(connect_http2(&world).await)]
    {
        for name in ["first", "second"] {
            world.app.dead_connections.store(1, Ordering::SeqCst);
            let response = soon(client.post(&world, name)).await.unwrap();
            assert_eq!(response.status(), 200, "{name}: {:?}", response.headers());
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), name);
        }
    }
}

#[tokio::test]
async fn an_app_that_does_nothing_but_close_is_told_of() {
    let world = World::start().await;
    let _listener = world.listen(8080).await;
    world.app.dead_connections.store(usize::MAX, Ordering::SeqCst);
    let mut client = Client::Http1(connect(&world, LABEL).await);
    let response = soon(client.post(&world, "none")).await.unwrap();
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["x-aws-proxy-error"], "APP_CONNECT_FAILED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_meets_suspends_and_wakes_is_delivered_once_and_answered() {
    const LIVES: u64 = 40;
    const REQUESTS: usize = 300;
    let world = World::start().await;
    let deliveries = Deliveries::default();
    let counter = Arc::clone(&deliveries);
    serve_app(world.listen(8080).await, move |request: Request<Incoming>| {
        let counter = Arc::clone(&counter);
        async move {
            let name = request.headers()["x-name"].to_str().unwrap().to_owned();
            *counter.lock().unwrap().entry(name.clone()).or_default() += 1;
            let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
            sleep(Duration::from_millis(u64::from(name.as_bytes()[name.len() - 1]) % 4)).await;
            Response::new(full(body.unwrap_or_default()))
        }
    });
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Client::Http1(connect(&world, LABEL).await));
        clients.push(Client::Http2(connect_http2(&world).await));
    }
    let over = AtomicBool::new(false);
    let asking = clients.into_iter().zip(0..).map(|(client, number)| ask(&world, client, number, &over));
    let enough = async {
        let is_enough = || {
            let lives =
                world.node.state.borrow().clone().and_then(Result::ok).map_or(0, |app| app.generation);
            lives > LIVES && deliveries.lock().unwrap().len() > REQUESTS
        };
        while !is_enough() {
            sleep(Duration::from_millis(5)).await;
        }
        over.store(true, Ordering::SeqCst);
    };
    let living = live(&world, Numbers(0x2545_f491), &over);
    let (asked, (), ()) = tokio::join!(futures::future::join_all(asking), living, enough);
    let sent: Vec<String> = asked.into_iter().flatten().collect();
    let deliveries = deliveries.lock().unwrap();
    for name in &sent {
        assert_eq!(deliveries.get(name), Some(&1), "{name}");
    }
    assert_eq!(deliveries.len(), sent.len());
}
