//! Uploads by HTML forms (PostObject), which are refused before `s3s` takes their file into memory.

use http::header::CONTENT_TYPE;
use http::{Extensions, HeaderMap, Method, Uri};
use s3s::route::S3Route;
use s3s::{Body, S3Request, S3Response, S3Result, s3_error};

/// Takes every form.
#[derive(Debug)]
pub(super) struct Forms;

#[async_trait::async_trait]
impl S3Route for Forms {
    fn is_match(&self, method: &Method, _: &Uri, headers: &HeaderMap, _: &mut Extensions) -> bool {
        let form = |value: &http::HeaderValue| {
            value.as_bytes().to_ascii_lowercase().starts_with(b"multipart/form-data")
        };
        method == Method::POST && headers.get_all(CONTENT_TYPE).iter().any(form)
    }

    async fn check_access(&self, _: &mut S3Request<Body>) -> S3Result<()> {
        Ok(())
    }

    async fn call(&self, _: S3Request<Body>) -> S3Result<S3Response<Body>> {
        Err(s3_error!(NotImplemented, "Uploads by HTML forms (PostObject) are not served here."))
    }
}
