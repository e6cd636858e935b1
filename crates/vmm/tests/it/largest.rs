//! The largest size of a microVM: 8 GiB of memory and a disk of 32 GiB.

use crate::guest::{ask, missing};
use crate::qemu::Host;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_size_sleeps_and_wakes_within_its_limits() {
    if let Some(reason) = missing() {
        eprintln!("skipped: {reason}");
        return;
    }
    let host = Host::of_size("largest", 8192, 32 << 30).await;
    let base = host.make_base().await;
    let vm = host.launch("largest", &base).await;
    assert_eq!(ask(&*vm, "fill 64 5").await.unwrap(), "filled");
    let sum = ask(&*vm, "sum").await.unwrap();
    assert_eq!(ask(&*vm, "write large").await.unwrap(), "4096");
    host.suspend("largest", &*vm).await;
    let vm = host.launch("largest", &base).await;
    assert_eq!(ask(&*vm, "sum").await.unwrap(), sum);
    assert_eq!(ask(&*vm, "read").await.unwrap(), "large");
    vm.kill().await.unwrap();
}
