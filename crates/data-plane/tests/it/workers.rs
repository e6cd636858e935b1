//! The threads that serve connections.

use std::collections::HashSet;
use std::convert::Infallible;

use hearth_api::MicrovmId;
use hearth_auth::Claims;
use http::{Request, Response};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::client::{connect, describe, empty, full, request, serve_app, soon, text};
use crate::fake::{ENDED, LABEL, World, host};

#[tokio::test]
async fn connections_are_spread_and_what_wakes_a_microvm_runs_elsewhere() {
    let world = World::start().await;
    serve_app(world.listen(8080).await, describe);
    let mut senders = [connect(&world, LABEL).await, connect(&world, LABEL).await];
    for sender in &mut senders {
        let asked = sender.send_request(request(&world, "/").body(empty()).unwrap());
        text(soon(asked).await.unwrap()).await;
    }
    let serving: HashSet<_> = world.node.asked_on.lock().unwrap().drain(..).collect();
    assert_eq!(serving.len(), 2);
    let own = std::thread::current().id();
    assert!(!serving.contains(&own));
    world.node.state.send_replace(None);
    *world.node.next_life.lock().unwrap() = Some(world.app.clone());
    let woken = senders[0].send_request(request(&world, "/").body(empty()).unwrap());
    assert_eq!(soon(woken).await.unwrap().status(), 200);
    assert_eq!(*world.node.woken_on.lock().unwrap(), [own]);
}

#[tokio::test]
async fn what_has_ended_is_looked_up_elsewhere() {
    let world = World::start().await;
    let ended = MicrovmId::new();
    world.node.ended.lock().unwrap().insert(ended.clone(), ENDED.to_owned());
    // The endpoint was not the first one's.
    for (microvm, status) in [(MicrovmId::new(), 403), (ended, 502)] {
        let token = world.issue(&Claims { microvm, ..world.claims() });
        let asked = Request::builder().uri("/").header("host", host(ENDED)).header("x-aws-proxy-auth", token);
        let mut sender = connect(&world, ENDED).await;
        let answer = soon(sender.send_request(asked.body(empty()).unwrap())).await.unwrap();
        assert_eq!(answer.status(), status);
        text(answer).await;
    }
    let own = std::thread::current().id();
    assert_eq!(*world.node.looked_up_on.lock().unwrap(), [own, own]);
}

#[tokio::test]
async fn an_app_of_one_connection_at_a_time_is_shared_by_all_workers() {
    let world = World::start().await;
    let listener = world.listen(8080).await;
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(full("answer"))));
            // How the connection ends is the client's business.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    });
    let mut senders = [connect(&world, LABEL).await, connect(&world, LABEL).await];
    // A connection is kept from the moment at which its answer has been read to the
    // end; poll until it was.
    soon(async {
        loop {
            let before = world.connects();
            for sender in &mut senders {
                sender.ready().await.unwrap();
                let asked = sender.send_request(request(&world, "/").body(empty()).unwrap());
                assert_eq!(text(asked.await.unwrap()).await, "answer");
            }
            if world.connects() == before {
                break;
            }
        }
    })
    .await;
}
