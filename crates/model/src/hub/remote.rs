//! `Remote`: the Hub's HTTP interface, which lists a revision's files and serves their bytes.

use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::{Agent, Body};

use super::HubModel;

/// Most attempts for one request. It is tried again if the connection breaks or the Hub is
/// overloaded.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(300);
/// Longest wait for a connection, a response's headers, or more bytes of a body.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Most redirects of one request. The Hub redirects the old name of a renamed model to its new
/// name, and a large file to the store that has its bytes.
const MAX_REDIRECTS: usize = 5;

/// A failed request to the Hub.
#[derive(Debug, Error)]
pub(super) enum RemoteError {
    #[error("the Hub responded with status {0}")]
    Status(u16),
    #[error("no response")]
    Http(#[from] ureq::Error),
    #[error("the transfer broke off")]
    Io(#[from] io::Error),
    #[error("cannot write the file")]
    Write(#[source] io::Error),
    #[error("received {got} of {expected} bytes")]
    Size { got: u64, expected: u64 },
    #[error("the Hub's response is not valid: {0}")]
    InvalidResponse(String),
}

impl RemoteError {
    /// Returns whether another attempt may succeed.
    fn is_transient(&self) -> bool {
        match self {
            Self::Status(status) => *status == 429 || *status >= 500,
            Self::InvalidResponse(_) | Self::Write(_) => false,
            _ => true,
        }
    }
}

/// An HTTP client of one Hub.
pub(super) struct Remote<'a> {
    agent: Agent,
    endpoint: &'a str,
    token: Option<&'a str>,
}

/// The Hub's listing of a revision: its commit and its files.
#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    /// The commit.
    #[serde(rename = "sha")]
    pub(super) commit: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Listing {
    pub(super) fn files(&self) -> Vec<&str> {
        self.siblings.iter().map(|sibling| sibling.rfilename.as_str()).collect()
    }
}

/// A file's properties, from the headers of the Hub's response.
pub(super) struct Incoming {
    /// The Hub's identifier of the file's content, which is a valid file name.
    pub(super) etag: String,
    /// The file's size in bytes, if it is known.
    pub(super) size: Option<u64>,
}

/// A response, which may be a redirect, and the URL that was requested.
struct Hop {
    url: String,
    response: Response<Body>,
}

impl<'a> Remote<'a> {
    pub(super) fn new(endpoint: &'a str, token: Option<&'a str>) -> Self {
        let agent = Agent::config_builder()
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // Redirects are followed by `Remote::follow` instead. It can stop at the redirect whose
            // headers identify the file, and it sends the token only to the Hub.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(TIMEOUT))
            .timeout_recv_response(Some(TIMEOUT))
            .timeout_per_read(Some(TIMEOUT))
            .build()
            .into();
        Self { agent, endpoint, token }
    }

    /// Returns the commit and the files of a model's revision.
    pub(super) fn list(&self, model: &HubModel) -> Result<Listing, RemoteError> {
        let revision = model.revision.replace('/', "%2F");
        let path = format!("/api/models/{}/revision/{revision}", model.repo);
        with_retries(|| {
            let hop = self.follow(self.request(&path)?, is_success)?;
            let listing = hop.response.into_body().read_to_vec()?;
            let listing: Listing = serde_json::from_slice(&listing)
                .map_err(|error| RemoteError::InvalidResponse(error.to_string()))?;
            if !is_file_name(&listing.commit) {
                return Err(RemoteError::InvalidResponse(format!(
                    "commit {:?} is not a file name",
                    listing.commit
                )));
            }
            Ok(listing)
        })
    }

    /// Downloads a file of a commit. If the transfer breaks, begins again from the start.
    ///
    /// `start` gets the file's properties and returns a writer for its bytes, or `None` if they are
    /// not needed. `progress` gets the number of bytes received and the total. Returns the file's
    /// `ETag`, and the writer with all bytes.
    pub(super) fn download<W: Write>(
        &self,
        (repo, commit, file): (&str, &str, &str),
        mut start: impl FnMut(&Incoming) -> io::Result<Option<W>>,
        mut progress: impl FnMut(u64, Option<u64>),
    ) -> Result<(String, Option<W>), RemoteError> {
        with_retries(|| {
            // Stops at the redirect to the store, because only its headers have the Hub's `ETag`.
            // The store's response has a different one.
            let hop = self.request(&format!("/{repo}/resolve/{commit}/{file}"))?;
            let hop = self.follow(hop, |response| is_success(response) || is_linked(response))?;
            let incoming = Incoming::new(hop.response.headers())?;
            let Some(mut target) = start(&incoming).map_err(RemoteError::Write)? else {
                return Ok((incoming.etag, None));
            };
            let hop = self.follow(hop, is_success)?;
            let mut done = 0;
            let mut reader = hop.response.into_body().into_reader();
            let mut buffer = vec![0; 1 << 16];
            progress(done, incoming.size);
            loop {
                let count = reader.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                target.write_all(&buffer[..count]).map_err(RemoteError::Write)?;
                done += count as u64;
                progress(done, incoming.size);
            }
            target.flush().map_err(RemoteError::Write)?;
            match incoming.size {
                Some(expected) if expected != done => {
                    Err(RemoteError::Size { got: done, expected })
                }
                _ => Ok((incoming.etag, Some(target))),
            }
        })
    }

    /// Requests a path of the Hub.
    fn request(&self, path: &str) -> Result<Hop, RemoteError> {
        self.get(format!("{}{path}", self.endpoint))
    }

    /// Follows redirects until `is_wanted` is true for a response, and returns that response.
    fn follow(
        &self,
        mut hop: Hop,
        is_wanted: impl Fn(&Response<Body>) -> bool,
    ) -> Result<Hop, RemoteError> {
        for redirects in 0.. {
            if is_wanted(&hop.response) {
                return Ok(hop);
            }
            if redirects == MAX_REDIRECTS {
                break;
            }
            let location = hop.response.headers().get(header::LOCATION);
            let Some(location) = location.and_then(|location| location.to_str().ok()) else {
                return Err(RemoteError::Status(hop.response.status().as_u16()));
            };
            hop = self.get(if location.starts_with('/') {
                let uri = parse(&hop.url)?;
                let origin = uri.scheme_str().zip(uri.authority());
                let (scheme, authority) = origin.ok_or_else(|| invalid_url(&hop.url))?;
                format!("{scheme}://{authority}{location}")
            } else {
                location.to_owned()
            })?;
        }
        Err(RemoteError::InvalidResponse(format!("more than {MAX_REDIRECTS} redirects")))
    }

    fn get(&self, url: String) -> Result<Hop, RemoteError> {
        let uri = parse(&url)?;
        let hub = parse(self.endpoint)?;
        let is_hub = (uri.scheme(), uri.authority()) == (hub.scheme(), hub.authority());
        let mut request = self.agent.get(&url);
        if let Some(token) = self.token.filter(|_| is_hub) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = request.call()?;
        Ok(Hop { url, response })
    }
}

impl Incoming {
    fn new(headers: &HeaderMap) -> Result<Self, RemoteError> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let etag = text(LINKED_ETAG).or_else(|| text("etag"));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned());
        let etag = etag.filter(|etag| is_file_name(etag)).ok_or_else(|| {
            RemoteError::InvalidResponse("no ETag that is usable as a file name".to_owned())
        })?;
        // A redirect to the store has the file's size in a header of its own, because its
        // `content-length` is the length of the redirect's body. If a file is sent compressed, the
        // HTTP client decompresses it and removes `content-length`, so the size is not known.
        let size =
            if headers.contains_key(LINKED_ETAG) { "x-linked-size" } else { "content-length" };
        Ok(Self { etag, size: text(size).and_then(|size| size.parse().ok()) })
    }
}

/// A header of the redirect to the Hub's store: the `ETag` of the file.
const LINKED_ETAG: &str = "x-linked-etag";

fn is_success(response: &Response<Body>) -> bool {
    response.status().is_success()
}

/// Returns whether a response is the redirect to the Hub's store.
fn is_linked(response: &Response<Body>) -> bool {
    response.headers().contains_key(LINKED_ETAG)
}

fn parse(url: &str) -> Result<Uri, RemoteError> {
    url.parse().map_err(|_| invalid_url(url))
}

fn invalid_url(url: &str) -> RemoteError {
    RemoteError::InvalidResponse(format!("{url:?} is not a valid URL"))
}

/// Calls `attempt` up to [`ATTEMPTS`] times, until it succeeds or returns an error that is not
/// transient. Pauses in between; each pause is twice as long as the one before.
#[expect(clippy::disallowed_methods, reason = "downloads run on a blocking thread")]
fn with_retries<T>(mut attempt: impl FnMut() -> Result<T, RemoteError>) -> Result<T, RemoteError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, "retrying the request to the Hub");
                thread::sleep(pause);
                pause *= 2;
            }
            done => return done,
        }
    }
    attempt()
}

/// Returns whether `text` is usable as the name of a file in the cache. A response with a path in
/// its place must not lead out of the cache.
fn is_file_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && !text.starts_with('.') && text.bytes().all(known)
}
