//! The protocol of registries (OCI distribution specification 1.1), as far as fetching needs it,
//! with tokens as Docker's registries want them ("Token Authentication Specification" of the
//! distribution project).

use std::io::Write as _;

use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;
use url::Url;

use crate::dial::Dial;
use crate::http::{Http, collect, each_piece};
use crate::layout::Layout;
use crate::manifest::{ACCEPT, Digest, Document, Image};
use crate::origin::Origin;
use crate::spec::{Failure, Login, MANIFEST_BYTES, TOKEN_BYTES, basic};

/// One repository of a registry.
#[derive(Debug)]
pub(crate) struct Repository<D> {
    /// Sends the requests.
    pub(crate) http: Http<D>,
    /// Base URL of the registry.
    pub(crate) registry: Url,
    /// Name.
    pub(crate) name: String,
    /// Who asks.
    pub(crate) login: Option<Login>,
    /// What the registry has wanted to see.
    pub(crate) authorization: Option<HeaderValue>,
}

/// An image's manifest.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// As it came.
    pub(crate) bytes: Vec<u8>,
    /// Its digest.
    pub(crate) digest: Digest,
    /// What it says.
    pub(crate) image: Image,
}

/// Members of a token server's answer.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl<D: Dial> Repository<D> {
    /// The manifest for this machine's architecture of a tag or digest.
    pub(crate) async fn manifest(&mut self, reference: &str, image_bytes: u64) -> Result<Manifest, Failure> {
        let (bytes, digest) = self.document(reference).await?;
        let (bytes, digest) = match Document::parse(&bytes, image_bytes)? {
            Document::Image(image) => return Ok(Manifest { bytes, digest, image }),
            Document::Index(digest) => self.document(&format!("sha256:{}", digest.hex())).await?,
        };
        match Document::parse(&bytes, image_bytes)? {
            Document::Image(image) => Ok(Manifest { bytes, digest, image }),
            Document::Index(_) => Err(Failure::Manifest),
        }
    }

    async fn document(&mut self, reference: &str) -> Result<(Vec<u8>, Digest), Failure> {
        let wanted = if reference.contains(':') {
            Some(Digest::parse(reference).ok_or(Failure::Digest)?)
        } else {
            None
        };
        let response = self.get(&format!("manifests/{reference}"), ACCEPT).await?;
        let bytes = collect(response, MANIFEST_BYTES).await?;
        let digest = Digest::of(&bytes);
        if wanted.is_some_and(|wanted| wanted != digest) {
            return Err(Failure::Digest);
        }
        Ok((bytes, digest))
    }

    /// Writes all blobs of an image, each no larger than its descriptor says.
    pub(crate) async fn blobs(&mut self, image: &Image, layout: &Layout) -> Result<(), Failure> {
        for (digest, &size) in &image.blobs {
            let response = self.get(&format!("blobs/sha256:{}", digest.hex()), "*/*").await?;
            let mut file = layout.blob(digest).map_err(|_| Failure::Disk)?;
            let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
            let written = each_piece(response, size, Failure::Size, |piece| {
                hash.update(piece);
                file.write_all(piece).map_err(|_| Failure::Disk)
            });
            if written.await? != size {
                return Err(Failure::Size);
            }
            if Digest::from_hash(&hash.finish()) != *digest {
                return Err(Failure::Digest);
            }
        }
        Ok(())
    }

    /// Asks for something of the repository; with what the registry wants to see, if it
    /// does not answer without.
    async fn get(&mut self, path: &str, accept: &str) -> Result<Response<Incoming>, Failure> {
        let base = self.registry.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}/v2/{}/{path}", self.name)).map_err(|_| Failure::Refused)?;
        let mut asked_again = false;
        loop {
            let answer = self.http.get(&url, accept, self.authorization.as_ref()).await?;
            match answer.response.status().as_u16() {
                200 => return Ok(answer.response),
                401 if !asked_again && answer.origin == *self.http.origins.registry() => {
                    asked_again = true;
                    self.authorization = Some(self.authorize(&answer.response).await?);
                }
                status @ (401 | 403) => return Err(Failure::Unauthorized(status)),
                404 => return Err(Failure::NoSuchImage),
                status => return Err(Failure::Status(status)),
            }
        }
    }

    /// Does what a 401 asks for.
    async fn authorize(&mut self, response: &Response<Incoming>) -> Result<HeaderValue, Failure> {
        let challenges = response.headers().get_all(WWW_AUTHENTICATE);
        let challenges: Vec<_> = challenges.iter().filter_map(|value| value.to_str().ok()).collect();
        let of_scheme = |scheme: &str| {
            challenges.iter().find_map(|challenge| {
                let (name, rest) = challenge.trim().split_once(' ').unwrap_or((challenge.trim(), ""));
                name.eq_ignore_ascii_case(scheme).then_some(rest)
            })
        };
        if let Some(parameters) = of_scheme("Bearer") {
            let realm = parameter(parameters, "realm").ok_or(Failure::NoToken)?;
            return self.token(&realm, parameter(parameters, "service")).await;
        }
        match (&self.login, of_scheme("Basic")) {
            (Some(login), Some(_)) => secret(&basic(&login.username, &login.password)),
            _ => Err(Failure::Unauthorized(401)),
        }
    }

    /// Gets a token for reading this repository.
    async fn token(&mut self, realm: &str, service: Option<String>) -> Result<HeaderValue, Failure> {
        let mut url = Url::parse(realm).map_err(|_| Failure::Refused)?;
        let origin = Origin::of(&url)?;
        // Looked at before a password is sent, and again when the connection is made.
        self.http.origins.route(self.http.origins.registry(), &origin)?;
        // The scope is ours: what the registry proposes might be more than reading.
        url.query_pairs_mut().append_pair("scope", &format!("repository:{}:pull", self.name));
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", &service);
        }
        let login = match &self.login {
            None => None,
            Some(login) if login.may_be_told(&origin, self.http.origins.registry()) => {
                Some(secret(&basic(&login.username, &login.password))?)
            }
            Some(_) => return Err(Failure::TokenHost),
        };
        let answer = self.http.get(&url, "application/json", login.as_ref()).await?;
        match answer.response.status().as_u16() {
            200 => {}
            status @ (401 | 403) => return Err(Failure::Unauthorized(status)),
            _ => return Err(Failure::NoToken),
        }
        let body = collect(answer.response, TOKEN_BYTES).await?;
        let token: Token = serde_json::from_slice(&body).map_err(|_| Failure::NoToken)?;
        let token = token.token.or(token.access_token).filter(|token| !token.is_empty());
        secret(&format!("Bearer {}", token.ok_or(Failure::NoToken)?))
    }
}

impl Login {
    /// Whether the password is for this token server: the registry itself, on whatever port it
    /// speaks TLS, or the host that the operator has named.
    fn may_be_told(&self, server: &Origin, registry: &Origin) -> bool {
        let named = self.token_host.as_deref().is_some_and(|host| host.eq_ignore_ascii_case(&server.host));
        server == registry || (server.secure && (named || server.host == registry.host))
    }
}

/// A header's value that is not shown.
fn secret(value: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(value).map_err(|_| Failure::NoToken)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A parameter of a challenge, quoted or not (RFC 9110, section 11.2).
pub(crate) fn parameter(text: &str, name: &str) -> Option<String> {
    let mut rest = text.trim_start_matches([' ', ',']);
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value.trim().to_owned());
        }
        rest = after.trim_start_matches([' ', ',']);
    }
    None
}
