//! Work that ends when something else happens.
//!
//! `select!` looks at everything whenever anything happens. A connection has several things that may end it and hardly ever
//! do, and tokens of cancellation are looked at under locks that all connections share: that would be done many times for
//! each request.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// What wakes the end.
#[derive(Debug)]
struct Signal {
    has_woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.has_woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// Does `work` until `end` resolves, which comes first if both do. `end` is looked at only when it has asked for it. What is
/// not finished comes back as the `Err` of the end.
pub(crate) async fn until<T, E>(end: impl Future<Output = E>, work: impl Future<Output = T>) -> Result<T, E> {
    let (mut end, mut work) = (pin!(end), pin!(work));
    let signal = Arc::new(Signal { has_woken: AtomicBool::new(true), task: AtomicWaker::new() });
    let end_waker = Waker::from(Arc::clone(&signal));
    std::future::poll_fn(|context| {
        // Before the look, so that what wakes after it wakes the task.
        signal.task.register(context.waker());
        // The first look is cheap, and nearly always the only one.
        if signal.has_woken.load(Ordering::Relaxed)
            && signal.has_woken.swap(false, Ordering::Acquire)
            && let Poll::Ready(ended) = end.as_mut().poll(&mut Context::from_waker(&end_waker))
        {
            return Poll::Ready(Err(ended));
        }
        work.as_mut().poll(context).map(Ok)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::oneshot;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn the_end_is_looked_at_when_it_says_so_and_comes_first() {
        let (end, looks) = (CancellationToken::new(), AtomicUsize::new(0));
        let mut ended = pin!(end.cancelled());
        let ended = std::future::poll_fn(|context| {
            looks.fetch_add(1, Ordering::Relaxed);
            ended.as_mut().poll(context)
        });
        let (working_tx, working_rx) = oneshot::channel();
        let work = async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            working_tx.send(()).unwrap();
            std::future::pending::<()>().await;
        };
        let ending = async {
            working_rx.await.unwrap();
            assert_eq!(looks.load(Ordering::Relaxed), 1);
            end.cancel();
        };
        assert_eq!(tokio::join!(until(ended, work), ending).0, Err(()));
        assert_eq!(looks.load(Ordering::Relaxed), 2);
        assert_eq!(until(end.cancelled(), async {}).await, Err(()));
    }

    #[tokio::test]
    async fn work_that_is_done_ends_it() {
        let (done_tx, done_rx) = oneshot::channel();
        let work = tokio::spawn(until(std::future::pending::<()>(), done_rx));
        done_tx.send(5).unwrap();
        assert_eq!(work.await.unwrap(), Ok(Ok(5)));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_end_from_another_thread_is_never_missed() {
        for _ in 0..2000 {
            let end = CancellationToken::new();
            let waiting = tokio::spawn(until(end.clone().cancelled_owned(), async {
                loop {
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                    }
                    std::future::pending::<()>().await;
                }
            }));
            end.cancel();
            let ended = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
            assert!(ended.unwrap().unwrap().is_err());
        }
    }
}
