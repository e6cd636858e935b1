//! Uploads to S3: the part of it that builds need.

use bytes::Bytes;
use http::Method;

use crate::client::{Call, Client, encode, is_exception};

/// Puts `body` at `s3://<bucket>/<key>`, making the bucket when there is none.
pub(crate) async fn put_object(client: &Client, bucket: &str, key: &str, body: Bytes) -> anyhow::Result<()> {
    let path = format!("/{}/{}", encode(bucket), key.split('/').map(encode).collect::<Vec<_>>().join("/"));
    match client.send(put(path.clone(), body.clone())).await {
        Err(error) if is_exception(&error, "NoSuchBucket") => {
            client.send(put(format!("/{}", encode(bucket)), Bytes::new())).await?;
            client.send(put(path, body)).await.map(drop)
        }
        other => other.map(drop),
    }
}

fn put(path: String, body: Bytes) -> Call<'static> {
    Call { service: "s3", method: Method::PUT, path, query: String::new(), headers: Vec::new(), body }
}
