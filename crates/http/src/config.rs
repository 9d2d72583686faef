//! What a source needs to know, with defaults for everything but its address.

use std::num::NonZeroUsize;

use axum::http::HeaderName;
use axum::http::uri::PathAndQuery;

use crate::Error;

/// How to take requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The address to listen at, `host:port`; port 0 takes one that is free.
    pub listen: String,
    /// The path that requests are sent to, as clients write it. Every other path is not found.
    pub path: String,
    /// The largest body that is taken, in bytes.
    pub max_body: usize,
    /// The most requests that are taken and not yet resolved, those whose body is still coming included. So many bodies
    /// of `max_body` bytes are the most that the source holds.
    pub max_in_flight: NonZeroUsize,
    /// The request header whose value becomes the event's key. Its case does not matter.
    pub key_header: String,
}

/// Far beyond what is of use, and what a semaphore can hold.
const MOST_IN_FLIGHT: u32 = 10_000_000;

/// A config in which every invariant holds.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) path: String,
    pub(crate) max_body: usize,
    pub(crate) max_in_flight: u32,
    pub(crate) key_header: HeaderName,
}

impl Config {
    /// Listens at `listen`, with defaults for the rest.
    pub fn new(listen: impl Into<String>) -> Self {
        const MAX_IN_FLIGHT: NonZeroUsize = NonZeroUsize::new(1024).expect("1024 is not zero");
        Self {
            listen: listen.into(),
            path: "/".to_owned(),
            max_body: 1 << 20,
            max_in_flight: MAX_IN_FLIGHT,
            key_header: "Forebay-Key".to_owned(),
        }
    }

    /// Checks everything that can be checked without listening.
    ///
    /// # Errors
    ///
    /// The setting that cannot work, and what would.
    pub fn validate(&self) -> Result<(), Error> {
        self.resolve().map(drop)
    }

    pub(crate) fn resolve(&self) -> Result<Resolved, Error> {
        check_listen(&self.listen)?;
        check_path(&self.path)?;
        let max_in_flight = u32::try_from(self.max_in_flight.get())
            .ok()
            .filter(|&count| count <= MOST_IN_FLIGHT)
            .ok_or_else(|| {
                let reason = format!("{} is more than {MOST_IN_FLIGHT}", self.max_in_flight);
                Error::Setting { setting: "max_in_flight", reason }
            })?;
        let key_header = HeaderName::try_from(&self.key_header).map_err(|_| {
            let reason = format!("{:?} is not the name of a header", self.key_header);
            Error::Setting { setting: "key_header", reason }
        })?;
        let (path, max_body) = (self.path.clone(), self.max_body);
        Ok(Resolved { path, max_body, max_in_flight, key_header })
    }
}

fn check_listen(listen: &str) -> Result<(), Error> {
    let port = listen.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_some() {
        return Ok(());
    }
    let reason = format!("{listen:?} is not host:port, such as 127.0.0.1:8080");
    Err(Error::Setting { setting: "listen", reason })
}

/// A path that clients could never ask for would only ever answer that it is not found.
fn check_path(path: &str) -> Result<(), Error> {
    let can_be_asked_for = path.starts_with('/')
        && path.parse::<PathAndQuery>().is_ok_and(|parsed| parsed.path() == path);
    if can_be_asked_for {
        return Ok(());
    }
    let reason = format!(
        "{path:?} is not a path as clients send it: it begins with /, has no ? or #, and is percent-encoded"
    );
    Err(Error::Setting { setting: "path", reason })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::Config;

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::new("127.0.0.1:0");
        assert!(config.validate().is_ok());
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        assert_eq!(
            refused(|config| config.listen = "localhost".into()),
            "invalid listen: \"localhost\" is not host:port, such as 127.0.0.1:8080"
        );
        for path in ["", "requests", "*", "/a?b", "/a#b", "/a b", "/\u{e4}\0"] {
            let error = refused(|config| config.path = path.into());
            assert!(error.starts_with("invalid path: "), "{error}");
        }
        assert_eq!(
            refused(|config| config.key_header = "a key".into()),
            "invalid key_header: \"a key\" is not the name of a header"
        );
        assert_eq!(
            refused(|config| config.max_in_flight = NonZeroUsize::new(10_000_001).unwrap()),
            "invalid max_in_flight: 10000001 is more than 10000000"
        );
    }

    #[test]
    fn a_path_may_have_several_parts() {
        let config = Config { path: "/v1/a%20b".into(), ..Config::new("[::1]:8080") };
        assert!(config.validate().is_ok());
    }
}
