//! `Hub`: fetches models from the Hugging Face Hub into the cache directory that all clients of the
//! Hub on a machine share.

#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "hub")]
mod fetch;
#[cfg(feature = "hub")]
mod files;
// Tests of every build include it.
#[cfg(any(test, not(feature = "hub")))]
mod no_client;
#[cfg(feature = "hub")]
mod remote;

use std::fmt;
use std::path::{Path, PathBuf};

#[cfg(not(feature = "hub"))]
use self::no_client as fetch;
use crate::Error;

/// A model on the Hub, at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubModel {
    /// Its name on the Hub, such as `sentence-transformers/all-MiniLM-L6-v2`.
    pub repo: String,
    /// A branch, tag or commit. A commit never changes, so a cached one is not requested again.
    pub revision: String,
}

impl HubModel {
    /// Returns the model at the head of its `main` branch.
    #[must_use]
    pub fn new(repo: impl Into<String>) -> Self {
        Self { repo: repo.into(), revision: "main".to_owned() }
    }
}

impl fmt::Display for HubModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repo, self.revision)
    }
}

/// Progress of a file's download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// The file's name.
    pub file: String,
    /// Bytes received.
    pub done: u64,
    /// Bytes in total.
    pub total: u64,
}

/// The Hub's address and its local cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// The Hub's address.
    pub endpoint: String,
    /// The cache directory, which all clients of the Hub share.
    pub cache: PathBuf,
    /// Access token for private and gated models.
    pub token: Option<String>,
    /// Whether only cached models are used.
    pub offline: bool,
}

impl Hub {
    /// Reads the environment variables that all clients of the Hub share: `HF_ENDPOINT`,
    /// `HF_HUB_CACHE` or `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE`.
    ///
    /// Without `HF_TOKEN`, the token is read from the file that `hf auth login` writes.
    ///
    /// # Errors
    ///
    /// [`Error::NoHubCache`] if the variables do not name a cache and there is no home directory.
    pub fn from_env() -> Result<Self, Error> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = variable("HF_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(std::env::home_dir()?.join(".cache/huggingface")));
        let cache = variable("HF_HUB_CACHE").map(PathBuf::from);
        let cache = cache.or_else(|| Some(home.as_ref()?.join("hub"))).ok_or(Error::NoHubCache)?;
        let in_file = || {
            let token = std::fs::read_to_string(home?.join("token")).ok()?;
            Some(token.trim().to_owned()).filter(|token| !token.is_empty())
        };
        let endpoint = variable("HF_ENDPOINT");
        let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".to_owned());
        let offline = variable("HF_HUB_OFFLINE");
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token: variable("HF_TOKEN").or_else(in_file),
            offline: offline.is_some_and(|value| {
                ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str())
            }),
        })
    }

    /// Downloads a model's files into the cache, except those that are already there, and returns
    /// their directory.
    ///
    /// Blocks the thread. If the Hub cannot be reached or refuses access, but the cache has a copy
    /// of this revision, logs a warning and uses the copy.
    ///
    /// # Errors
    ///
    /// [`Error::Hub`], [`Error::HubRefused`] or [`Error::HubCache`] if the model can be neither
    /// fetched nor found in the cache, [`Error::NotOnHub`] if the model lacks a required file, [`Error::NotCached`] if it is
    /// not in the cache and [`offline`](Self::offline) is set, and [`Error::NoHubClient`] if this
    /// build does not have the feature `hub`.
    pub fn fetch(
        &self,
        model: &HubModel,
        progress: &mut dyn FnMut(Download),
    ) -> Result<PathBuf, Error> {
        fetch::fetch(self, model, progress)
    }
}

/// Returns whether `name` is a valid name of a model on the Hub.
#[must_use]
pub fn is_hub_name(name: &str) -> bool {
    let part = |part: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !part.is_empty()
            && !part.starts_with('.')
            && !part.contains("..")
            && part.bytes().all(known)
    };
    name.split('/').count() <= 2 && name.split('/').all(part) && Path::new(name).is_relative()
}
