//! What is taken before `s3s` looks for an operation of S3: S3 Control, and uploads by HTML forms
//! (PostObject), which are refused before their file is in memory.

use http::header::CONTENT_TYPE;
use http::{Extensions, HeaderMap, Method, Uri};
use s3s::route::S3Route;
use s3s::{Body, S3Request, S3Response, S3Result, s3_error};

use super::access::Gate;
use super::control;

/// Whom both pass, or not.
#[derive(Debug)]
pub(super) struct Routes(pub(super) Gate);

#[async_trait::async_trait]
impl S3Route for Routes {
    fn is_match(&self, method: &Method, uri: &Uri, headers: &HeaderMap, _: &mut Extensions) -> bool {
        is_form(method, headers) || control::is_control(uri, headers)
    }

    /// Control asks the gate itself, and nobody may post a form.
    async fn check_access(&self, _: &mut S3Request<Body>) -> S3Result<()> {
        Ok(())
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        if is_form(&request.method, &request.headers) {
            return Err(s3_error!(NotImplemented, "Uploads by HTML forms (PostObject) are not served here."));
        }
        Ok(control::call(&self.0, request).await)
    }
}

fn is_form(method: &Method, headers: &HeaderMap) -> bool {
    let form =
        |value: &http::HeaderValue| value.as_bytes().to_ascii_lowercase().starts_with(b"multipart/form-data");
    method == Method::POST && headers.get_all(CONTENT_TYPE).iter().any(form)
}
