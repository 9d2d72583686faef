//! Errors from serving HTTP.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// Why a source could not do its work.
///
/// Messages are lowercase fragments that leave out the cause; walk [`source`](std::error::Error::source) (or print with
/// `{:#}` through `anyhow`) to see the chain. What concerns one request is a response, never one of these.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting can never work.
    #[error("invalid {setting}: {reason}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it, and what would be right.
        reason: String,
    },

    /// The address cannot be listened at.
    #[error("cannot listen at {address}")]
    Bind {
        /// The address as it was given.
        address: String,
        /// What the operating system reported.
        source: io::Error,
    },

    /// The server's task ended although it should not have.
    #[error("the server at {address} ended unexpectedly; the log has its panic")]
    ServerEnded {
        /// The address it listened at.
        address: SocketAddr,
    },
}

impl Error {
    /// Whether the same operation may succeed if tried again later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}
