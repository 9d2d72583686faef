//! `Error`: the reason why an HTTP source could not start, or ended.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// The reason why an HTTP source could not start, or ended.
///
/// Messages are lowercase fragments that leave out the cause; walk
/// [`source`](std::error::Error::source) (or print with `{:#}` through `anyhow`) to see the chain.
/// A request that fails gets a response with its failure. It causes none of these errors.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is invalid.
    #[error("invalid {setting}: {reason}")]
    Setting {
        /// The name of the setting.
        setting: &'static str,
        /// The mistake, and a valid value.
        reason: String,
    },

    /// The address cannot be bound.
    #[error("cannot listen at {address}; choose an address of this machine that is free")]
    Bind {
        /// The address in the configuration.
        address: String,
        /// The error of the operating system.
        source: io::Error,
    },

    /// The server's task ended although the source was not closed.
    #[error("the server at {address} ended unexpectedly; the log has its panic")]
    ServerEnded {
        /// The address that the source listened at.
        address: SocketAddr,
    },
}

impl Error {
    /// Returns whether the same operation may succeed if it is tried again later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}
