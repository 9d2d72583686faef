//! `Config`: the settings of an HTTP source.

use std::net::Ipv6Addr;
use std::num::NonZeroUsize;
use std::time::Duration;

use axum::http::HeaderName;
use axum::http::uri::PathAndQuery;

use crate::Error;
use crate::server::IDLE_TIMEOUT;

/// The settings of an HTTP source. Everything but the address has a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The address to listen at, `host:port`. Port 0 picks a free port.
    pub listen: String,
    /// The path that requests are sent to, percent-encoded as in a URL. Requests to other paths get
    /// a 404.
    pub path: String,
    /// The largest request body, in bytes.
    pub max_body: usize,
    /// The most requests in flight, including those whose body is still arriving. The source holds
    /// at most `max_in_flight` bodies of `max_body` bytes.
    pub max_in_flight: NonZeroUsize,
    /// The longest wait for the head of a request, after the connection was opened and after each
    /// response. Then the connection is closed.
    pub idle_timeout: Duration,
    /// The longest time that a request's body may take to arrive.
    pub body_timeout: Duration,
    /// The name of the request header whose value becomes the event's key. Upper and lower case
    /// are the same.
    pub key_header: String,
}

/// An upper limit far above useful values, and below the capacity of a tokio semaphore.
const HIGHEST_IN_FLIGHT: u32 = 10_000_000;

/// A validated configuration.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) path: String,
    pub(crate) max_body: usize,
    pub(crate) max_in_flight: u32,
    pub(crate) idle_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) key_header: HeaderName,
}

impl Config {
    /// Creates a configuration that listens at `listen`, with defaults for the rest.
    pub fn new(listen: impl Into<String>) -> Self {
        const MAX_IN_FLIGHT: NonZeroUsize = NonZeroUsize::new(1024).expect("1024 is not zero");
        Self {
            listen: listen.into(),
            path: "/".to_owned(),
            max_body: 1 << 20,
            max_in_flight: MAX_IN_FLIGHT,
            idle_timeout: IDLE_TIMEOUT,
            body_timeout: Duration::from_secs(30),
            key_header: "Forebay-Key".to_owned(),
        }
    }

    /// Checks everything that can be checked without listening.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Setting`] for the first invalid setting.
    pub fn validate(&self) -> Result<(), Error> {
        self.resolve().map(drop)
    }

    pub(crate) fn resolve(&self) -> Result<Resolved, Error> {
        check_listen(&self.listen)?;
        check_path(&self.path)?;
        let max_in_flight = u32::try_from(self.max_in_flight.get())
            .ok()
            .filter(|&count| count <= HIGHEST_IN_FLIGHT)
            .ok_or_else(|| {
                let reason =
                    format!("{} is more than {HIGHEST_IN_FLIGHT}; lower it", self.max_in_flight);
                Error::Setting { setting: "max_in_flight", reason }
            })?;
        let key_header = HeaderName::try_from(&self.key_header).map_err(|_| {
            let reason = format!("{:?} is not the name of a header", self.key_header);
            Error::Setting { setting: "key_header", reason }
        })?;
        let path = self.path.clone();
        let Self { max_body, idle_timeout, body_timeout, .. } = *self;
        Ok(Resolved { path, max_body, max_in_flight, idle_timeout, body_timeout, key_header })
    }
}

/// Checks that an address to listen at is `host:port`. The host is not looked up.
///
/// # Errors
///
/// Returns [`Error::Setting`] with a hint.
pub fn check_listen(listen: &str) -> Result<(), Error> {
    let hint = match (listen.split_once("://"), listen.rsplit_once(':')) {
        (Some((scheme, rest)), _) => {
            let address = rest.split('/').next().unwrap_or_default();
            format!("leave out {scheme}://, as in {address}")
        }
        (None, None) => "such as 127.0.0.1:8080".to_owned(),
        (None, Some(("" | "*", port))) => {
            format!("such as 127.0.0.1:{port}, or 0.0.0.0:{port} for all interfaces")
        }
        (None, Some((_, port))) if port.parse::<u16>().is_err() || !is_number(port) => {
            "and the port is a number up to 65535".to_owned()
        }
        (None, Some((host, port))) => match host.strip_prefix('[') {
            None if host.contains(':') => {
                format!("an IPv6 address is in brackets: [{host}]:{port}")
            }
            None if host.contains(|c: char| c.is_whitespace() || "/@[]".contains(c)) => {
                "and the host is a name or an IP address".to_owned()
            }
            Some(rest)
                if rest.strip_suffix(']').and_then(|v6| v6.parse::<Ipv6Addr>().ok()).is_none() =>
            {
                "an IPv6 address is in brackets, as in [::1]:8080".to_owned()
            }
            _ => return Ok(()),
        },
    };
    let reason = format!("{listen:?} is not host:port, {hint}");
    Err(Error::Setting { setting: "listen", reason })
}

/// Returns whether a text has digits only; Rust's parser also takes a plus sign.
fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Refuses a path that no request can have, because the source would answer every request with a
/// 404.
fn check_path(path: &str) -> Result<(), Error> {
    let is_request_path = path.starts_with('/')
        && path.parse::<PathAndQuery>().is_ok_and(|parsed| parsed.path() == path);
    if is_request_path {
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
    fn the_error_for_an_invalid_setting_names_the_setting() {
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
            "invalid max_in_flight: 10000001 is more than 10000000; lower it"
        );
    }

    #[test]
    fn an_address_in_another_form_is_refused_with_a_hint_d2() {
        for (listen, hint) in [
            (":8388", "such as 127.0.0.1:8388, or 0.0.0.0:8388 for all interfaces"),
            ("*:80", "such as 127.0.0.1:80, or 0.0.0.0:80 for all interfaces"),
            ("http://127.0.0.1:8388/x", "leave out http://, as in 127.0.0.1:8388"),
            ("tcp://:1", "leave out tcp://, as in :1"),
            ("8388", "such as 127.0.0.1:8080"),
            ("localhost:", "and the port is a number up to 65535"),
            ("localhost:65536", "and the port is a number up to 65535"),
            ("localhost:+80", "and the port is a number up to 65535"),
            ("localhost:80/path", "and the port is a number up to 65535"),
            ("::1:80", "an IPv6 address is in brackets: [::1]:80"),
            ("[::1:80", "an IPv6 address is in brackets, as in [::1]:8080"),
            ("[localhost]:80", "an IPv6 address is in brackets, as in [::1]:8080"),
            ("a b:80", "and the host is a name or an IP address"),
        ] {
            let error = refused(|config| config.listen = listen.into());
            assert_eq!(error, format!("invalid listen: {listen:?} is not host:port, {hint}"));
        }
        for listen in ["127.0.0.1:0", "[::]:80", "my-host.example.com:8080", "0.0.0.0:65535"] {
            assert!(Config::new(listen).validate().is_ok(), "{listen}");
        }
    }

    #[test]
    fn a_path_may_have_several_parts() {
        let config = Config { path: "/v1/a%20b".into(), ..Config::new("[::1]:8080") };
        assert!(config.validate().is_ok());
    }
}
