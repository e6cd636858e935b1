//! Quotas of the account and the capacity of the host.

use hearth_api::MicrovmState;
use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{ACCOUNT, Api, Reply, configuration, image_arn, limit, with};

fn assert_exceeded(reply: &Reply, sentence: &str) {
    assert_eq!(
        (reply.status, reply.error_type()),
        (StatusCode::PAYMENT_REQUIRED, "ServiceQuotaExceededException")
    );
    assert!(reply.message().contains(sentence), "{}", reply.message());
    for member in ["resourceId", "resourceType", "serviceCode", "quotaCode"] {
        assert_eq!(reply.body.get(member), Some(&Value::Null), "{member}");
    }
}

async fn create(api: &Api, name: &str) -> Reply {
    api.call("POST", "microvm-images", with(configuration(), json!({ "name": name }))).await
}

#[tokio::test]
async fn images_and_versions_are_counted() {
    let api = Api::start_with(|config| {
        limit(config, |quotas| quotas.images = 1);
        limit(config, |quotas| quotas.versions_per_image = 2);
    })
    .await;
    api.built_image("app", |_| ()).await;
    assert_exceeded(&create(&api, "other").await, "maximum number of MicroVM images (1)");
    let taken = create(&api, "app").await;
    assert_eq!(taken.message(), "A MicroVM image with the name 'app' already exists in this account");

    let image = format!("microvm-images/{}", image_arn("app"));
    assert_eq!(api.call("PUT", &image, configuration()).await.status, StatusCode::OK);
    api.wait(&image, |body| body["state"] == "UPDATE_FAILED").await;
    assert_exceeded(&api.call("PUT", &image, configuration()).await, "maximum number of versions (2)");
    assert_eq!(api.get(&image).await.body["state"], "UPDATE_FAILED", "nothing has begun");
}

#[tokio::test]
async fn builds_that_have_not_ended_are_counted() {
    let api = Api::start_with(|config| limit(config, |quotas| quotas.concurrent_builds = 0)).await;
    assert_exceeded(&create(&api, "app").await, "maximum number of concurrent builds (0)");
    assert_eq!(api.get("microvm-images").await.body["items"], json!([]));
}

#[tokio::test]
async fn what_images_and_layer_caches_take_on_the_disk_is_counted() {
    let api = Api::start().await;
    api.built_image("app", |_| ()).await;
    let first = with(configuration(), json!({ "name": "first", "clientToken": "first" }));
    assert_eq!(api.call("POST", "microvm-images", first.clone()).await.status, StatusCode::CREATED);
    let write = |account: &str, bytes: usize| {
        let directory = api.directory.path().join("build-cache").join(account);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("app.ext4"), vec![1; bytes]).unwrap();
    };
    write("999999999999", 3 << 20);
    let image = format!("microvm-images/{}", image_arn("app"));
    assert_eq!(api.call("PUT", &image, configuration()).await.status, StatusCode::OK, "another account's");
    api.wait(&image, |body| body["state"] == "UPDATE_FAILED").await;

    write(ACCOUNT, 2 << 20);
    let sentence =
        "take 2 MiB on the disk and may take 1 MiB (quotas.images_gib); delete images or versions first.";
    assert_exceeded(&create(&api, "other").await, sentence);
    assert_exceeded(&api.call("PUT", &image, configuration()).await, sentence);
    assert_eq!(api.get(&image).await.body["state"], "UPDATE_FAILED", "nothing has begun");
    let again = api.call("POST", "microvm-images", first).await;
    assert_eq!(again.status, StatusCode::CREATED, "what was begun before is told again");

    let caches = api.directory.path().join("build-cache").join(ACCOUNT);
    std::fs::remove_dir_all(caches).unwrap();
    assert_eq!(create(&api, "other").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn memory_is_counted_until_a_microvm_has_ended() {
    let api = Api::start_with(|config| limit(config, |quotas| quotas.memory_mib = 4096)).await;
    api.built_image("app", |_| ()).await;
    api.recorded_microvm(MicrovmState::Suspended).await;
    api.recorded_microvm(MicrovmState::Terminated).await;
    let run = async || api.call("POST", "microvms", json!({ "imageIdentifier": image_arn("app") })).await;
    // 2048 MiB are taken, 2048 more fit; it ends at once, for lack of a network, and frees them.
    let fits = run().await;
    assert_eq!(fits.status, StatusCode::OK, "{}", fits.message());
    let id = fits.body["microvmId"].as_str().unwrap().to_owned();
    api.wait(&format!("microvms/{id}"), |body| body["state"] == "TERMINATED").await;
    api.recorded_microvm(MicrovmState::Running).await;
    assert_exceeded(
        &run().await,
        "The base maximum allocated memory limit has been reached for this account.",
    );
}

#[tokio::test]
async fn a_full_host_launches_nothing() {
    let api = Api::start_with(|config| config.minimum_available_memory_mib = u64::MAX).await;
    api.built_image("app", |_| ()).await;
    let reply = api.call("POST", "microvms", json!({ "imageIdentifier": image_arn("app") })).await;
    assert_eq!(reply.error_type(), "InsufficientCapacityException");
    assert!(reply.message().contains("MiB of memory left"), "{}", reply.message());
    assert_eq!(api.get("microvms").await.body["items"], json!([]));
}

#[tokio::test]
async fn who_calls_much_too_fast_is_refused_for_a_second() {
    let api = Api::start_with(|config| config.rates.get_microvm = 2).await;
    let get = || api.get("microvms/microvm-none");
    let replies = futures::future::join_all((0..20).map(|_| get())).await;
    let (refused, served): (Vec<&Reply>, Vec<&Reply>) =
        replies.iter().partition(|reply| reply.status == StatusCode::TOO_MANY_REQUESTS);
    // At least the two that may come at once; how many more is a matter of time.
    assert!(served.len() >= 2 && !refused.is_empty(), "{} of 20 refused", refused.len());
    for reply in refused {
        assert_eq!((reply.error_type(), reply.message()), ("ThrottlingException", "Rate exceeded"));
        assert_eq!(reply.headers["retry-after"], "1");
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(get().await.status, StatusCode::NOT_FOUND);
}
