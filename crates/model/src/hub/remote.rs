//! The Hub's side: which files a revision has, and their bytes.

use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::{Agent, Body};

use super::HubModel;

/// Attempts for one request, where the connection breaks or the Hub is overloaded.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(300);
/// Longest wait for a connection, a response's headers, or more bytes of a body.
const PATIENCE: Duration = Duration::from_secs(30);
/// Redirects of one file: a renamed model, then the store that has the bytes, with room for one more.
const REDIRECTS: usize = 5;

/// Why the Hub did not give what it was asked for.
#[derive(Debug, Error)]
pub(super) enum RemoteError {
    #[error("the Hub answered with status {0}")]
    Status(u16),
    #[error("no answer")]
    Http(#[from] ureq::Error),
    #[error("the transfer broke off")]
    Io(#[from] io::Error),
    #[error("{got} bytes came of {expected}")]
    Size { got: u64, expected: u64 },
    #[error("the answer cannot be used: {0}")]
    Answer(String),
}

impl RemoteError {
    /// True if another attempt may succeed.
    fn is_passing(&self) -> bool {
        match self {
            Self::Status(status) => *status == 429 || *status >= 500,
            Self::Answer(_) => false,
            _ => true,
        }
    }
}

/// A client of one Hub.
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
    pub(super) fn has(&self, file: &str) -> bool {
        self.siblings.iter().any(|sibling| sibling.rfilename == file)
    }
}

/// A file's description in the headers of the Hub's response.
pub(super) struct Incoming {
    /// The Hub's name for the file's content. It can be the name of a file in the cache.
    pub(super) etag: String,
    /// Bytes in all, where the Hub says so.
    pub(super) size: Option<u64>,
}

/// A response and the address that it came from.
struct Hop {
    url: String,
    response: Response<Body>,
}

impl<'a> Remote<'a> {
    pub(super) fn new(endpoint: &'a str, token: Option<&'a str>) -> Self {
        let agent = Agent::config_builder()
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // Followed here, because the headers that name a file are those of the first response, and because the
            // token must not go to another host.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .build()
            .into();
        Self { agent, endpoint, token }
    }

    /// The commit and the files of a model's revision.
    pub(super) fn list(&self, model: &HubModel) -> Result<Listing, RemoteError> {
        let revision = model.revision.replace('/', "%2F");
        let path = format!("/api/models/{}/revision/{revision}", model.repo);
        again(|| {
            let hop = self.follow(self.ask(&path)?, is_success)?;
            let listing = hop.response.into_body().read_to_vec()?;
            let listing: Listing = serde_json::from_slice(&listing)
                .map_err(|error| RemoteError::Answer(error.to_string()))?;
            if !is_name(&listing.commit) {
                return Err(RemoteError::Answer(format!("commit {:?}", listing.commit)));
            }
            Ok(listing)
        })
    }

    /// Reads a file of a commit. `start` is given what is known of the file and says where its bytes go, or `None` to
    /// leave them; `progress` is given the bytes that are there. A broken transfer starts anew.
    pub(super) fn download<W: Write>(
        &self,
        (repo, commit, file): (&str, &str, &str),
        mut start: impl FnMut(&Incoming) -> io::Result<Option<W>>,
        mut progress: impl FnMut(u64, Option<u64>),
    ) -> Result<(String, Option<W>), RemoteError> {
        again(|| {
            // A redirect to the store that has the bytes names them; the store has names of its own.
            let hop = self.ask(&format!("/{repo}/resolve/{commit}/{file}"))?;
            let hop = self.follow(hop, |response| is_success(response) || is_linked(response))?;
            let incoming = Incoming::new(hop.response.headers())?;
            let Some(mut target) = start(&incoming)? else { return Ok((incoming.etag, None)) };
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
                target.write_all(&buffer[..count])?;
                done += count as u64;
                progress(done, incoming.size);
            }
            target.flush()?;
            match incoming.size {
                Some(expected) if expected != done => {
                    Err(RemoteError::Size { got: done, expected })
                }
                _ => Ok((incoming.etag, Some(target))),
            }
        })
    }

    /// One request for a path of the Hub.
    fn ask(&self, path: &str) -> Result<Hop, RemoteError> {
        self.get(format!("{}{path}", self.endpoint))
    }

    /// Goes where redirects lead until a response is as wanted.
    fn follow(
        &self,
        mut hop: Hop,
        is_wanted: impl Fn(&Response<Body>) -> bool,
    ) -> Result<Hop, RemoteError> {
        for _ in 0..REDIRECTS {
            if is_wanted(&hop.response) {
                return Ok(hop);
            }
            let location = hop.response.headers().get(header::LOCATION);
            let Some(location) = location.and_then(|location| location.to_str().ok()) else {
                return Err(RemoteError::Status(hop.response.status().as_u16()));
            };
            hop = self.get(if location.starts_with('/') {
                let uri = parse(&hop.url)?;
                let origin = uri.scheme_str().zip(uri.authority());
                let (scheme, authority) = origin.ok_or_else(|| not_an_address(&hop.url))?;
                format!("{scheme}://{authority}{location}")
            } else {
                location.to_owned()
            })?;
        }
        Err(RemoteError::Answer(format!("more than {REDIRECTS} redirects")))
    }

    fn get(&self, url: String) -> Result<Hop, RemoteError> {
        let (uri, hub) = (parse(&url)?, parse(self.endpoint)?);
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
        let etag = etag.filter(|etag| is_name(etag)).ok_or_else(|| {
            RemoteError::Answer("no ETag that could be the name of a file".to_owned())
        })?;
        // A redirect has a length of its own. A compressed body has, too, but the client takes that header away as it
        // unpacks it.
        let size =
            if headers.contains_key(LINKED_ETAG) { "x-linked-size" } else { "content-length" };
        Ok(Self { etag, size: text(size).and_then(|size| size.parse().ok()) })
    }
}

/// The header by which the Hub names content that is in its store.
const LINKED_ETAG: &str = "x-linked-etag";

fn is_success(response: &Response<Body>) -> bool {
    response.status().is_success()
}

fn is_linked(response: &Response<Body>) -> bool {
    response.headers().contains_key(LINKED_ETAG)
}

fn parse(url: &str) -> Result<Uri, RemoteError> {
    url.parse().map_err(|_| not_an_address(url))
}

fn not_an_address(url: &str) -> RemoteError {
    RemoteError::Answer(format!("{url:?} is no address"))
}

/// Tries again, after pauses that double, where that may help.
#[expect(clippy::disallowed_methods, reason = "a download blocks a thread of its own")]
fn again<T>(mut attempt: impl FnMut() -> Result<T, RemoteError>) -> Result<T, RemoteError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(error) if error.is_passing() => {
                tracing::debug!(%error, "asking the Hub again");
                thread::sleep(pause);
                pause *= 2;
            }
            done => return done,
        }
    }
    attempt()
}

/// True if `text` can be the name of a file in the cache.
fn is_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && !text.starts_with('.') && text.bytes().all(known)
}
