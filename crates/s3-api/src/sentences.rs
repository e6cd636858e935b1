//! Sentences for the refusals that `s3s` makes with a code alone: clients show the message, and
//! "Unknown" where there is none.

use http::Response;
use s3s::Body;

use super::control;

const END: &str = "</Error>";

/// The answer with a message, if it is an error that has none; in the form of S3 Control for a
/// request to that.
pub(crate) fn with_message(mut response: Response<Body>, is_control: bool) -> Response<Body> {
    if !response.status().is_client_error() && !response.status().is_server_error() {
        return response;
    }
    let Some(text) = response.body().bytes().and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()) else {
        return response;
    };
    let mut told = text.clone();
    if !told.contains("<Message>")
        && let (Some(code), Some(end)) = (code(&text), text.rfind(END))
    {
        told.insert_str(end, &format!("<Message>{}</Message>", sentence(code)));
    }
    if is_control
        && !told.contains("<ErrorResponse")
        && let Some(start) = told.find("<Error>")
    {
        told.push_str("</ErrorResponse>");
        told.insert_str(start, &format!("<ErrorResponse xmlns=\"{}\">", control::NAMESPACE));
    }
    if told != text {
        response.headers_mut().remove(http::header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(told);
    }
    response
}

fn code(text: &str) -> Option<&str> {
    text.split_once("<Code>")?.1.split_once("</Code>").map(|(code, _)| code)
}

fn sentence(code: &str) -> &'static str {
    match code {
        "SignatureDoesNotMatch" => {
            "The signature is not the one that the request has with this access key's secret. Check the secret access \
             key and what was signed."
        }
        "InvalidAccessKeyId" => "The access key does not exist here.",
        "InvalidBucketName" => {
            "The bucket's name is not valid: it has 3 to 63 lower-case letters, digits, dots and hyphens, and begins and \
             ends with a letter or digit."
        }
        "InvalidURI" => "The path of the request cannot be read.",
        "KeyTooLongError" => "The key is too long: it has at most 1024 bytes.",
        "IncompleteBody" => "The body ended before as many bytes had come as Content-Length says.",
        "MethodNotAllowed" => "The method is not allowed on this resource.",
        "NotImplemented" => "This operation of S3 is not served here.",
        "AccessDenied" => "Access Denied",
        "InternalError" => {
            "The service failed to process the request, as on a disk that is full or read-only."
        }
        _ => "The request was refused; its code says why.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(body: &str, is_control: bool) -> String {
        let response = Response::builder().status(403).body(Body::from(body.to_owned())).unwrap();
        let body = with_message(response, is_control).into_body().bytes().unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn an_error_without_a_message_gets_one() {
        let mismatch = "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code></Error>";
        assert!(told(mismatch, false).contains("</Code><Message>The signature is not"));
        let unheard_of = "<Error><Code>Other</Code></Error>";
        assert!(told(unheard_of, false).ends_with("its code says why.</Message></Error>"));
        let said = "<Error><Code>NoSuchKey</Code><Message>None.</Message></Error>";
        assert_eq!(told(said, false), said);
        assert_eq!(told("", false), "");
        let wrapped = told(mismatch, true);
        assert!(wrapped.starts_with("<?xml version=\"1.0\"?><ErrorResponse xmlns="), "{wrapped}");
        assert!(wrapped.ends_with("</Message></Error></ErrorResponse>"), "{wrapped}");
    }
}
