//! `Hub`: fetches models from the Hugging Face Hub into the cache directory that all clients of the
//! Hub on a machine share.

mod cache;
mod remote;

use std::fmt;
use std::path::{Path, PathBuf};

use self::cache::ModelCache;
use self::remote::{Remote, RemoteError};
use crate::Error;

/// Files that every model must have.
const REQUIRED: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];
/// Files that are fetched if the model has them.
const OPTIONAL: [&str; 4] =
    ["tokenizer_config.json", "sentence_bert_config.json", "modules.json", "1_Pooling/config.json"];

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

    /// Returns whether the revision is a commit.
    fn is_pinned(&self) -> bool {
        let is_hex = self.revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.revision.len() == 40 && is_hex
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
    /// [`Error::Hub`] or [`Error::HubRefused`] if the model can be neither fetched nor found in the
    /// cache, [`Error::NotOnHub`] if the model lacks a required file, and [`Error::NotCached`] if
    /// it is not in the cache and [`offline`](Self::offline) is set.
    pub fn fetch(
        &self,
        model: &HubModel,
        progress: &mut dyn FnMut(Download),
    ) -> Result<PathBuf, Error> {
        let cached = self.cached(model);
        if let Some(cached) = cached.as_ref().filter(|_| self.offline || model.is_pinned()) {
            return Ok(cached.clone());
        }
        if self.offline {
            return Err(Error::NotCached { model: model.to_string(), cache: self.cache.clone() });
        }
        match (self.download(model, progress), cached) {
            (Err(error @ (Error::Hub { .. } | Error::HubRefused { .. })), Some(cached)) => {
                tracing::warn!(%model, %error, "cannot fetch the model from the Hub; using the cached copy");
                Ok(cached)
            }
            (done, _) => done,
        }
    }

    /// Returns the directory of this revision if all of its required files are in the cache.
    fn cached(&self, model: &HubModel) -> Option<PathBuf> {
        let cache = ModelCache::new(&self.cache, model);
        let directory = cache.snapshot(&cache.commit(model)?);
        REQUIRED.iter().all(|file| directory.join(file).is_file()).then_some(directory)
    }

    fn download(
        &self,
        model: &HubModel,
        progress: &mut dyn FnMut(Download),
    ) -> Result<PathBuf, Error> {
        let failed = |what: &str| {
            let what = what.to_owned();
            let model = model.to_string();
            move |source: RemoteError| Error::Hub { what, model, source: source.into() }
        };
        let remote = Remote::new(&self.endpoint, self.token.as_deref());
        let listing = remote.list(model).map_err(|error| match error {
            // The Hub does not tell a client without access whether a private model exists, so
            // these statuses become one error.
            RemoteError::Status(status @ (401 | 403 | 404)) => {
                Error::HubRefused { model: model.to_string(), status }
            }
            error => failed("list the files")(error),
        })?;
        if let Some(file) = REQUIRED.into_iter().find(|file| !listing.has(file)) {
            return Err(Error::NotOnHub { model: model.to_string(), file });
        }
        // Files are requested by commit, so that all belong to the same one even if the branch
        // moves during the download.
        let commit = &*listing.commit;
        let cache = ModelCache::new(&self.cache, model);
        let directory = cache.snapshot(commit);
        for file in REQUIRED.into_iter().chain(OPTIONAL).filter(|file| listing.has(file)) {
            if directory.join(file).is_file() {
                continue;
            }
            let (etag, download) = remote
                .download(
                    (&model.repo, commit, file),
                    |incoming| {
                        let is_new = !cache.has_blob(&incoming.etag);
                        is_new.then(|| cache.incomplete()).transpose()
                    },
                    report_hundredths(file, progress),
                )
                .map_err(failed(file))?;
            let stored = download.map_or(Ok(()), |download| cache.keep(download, &etag));
            let linked = stored.and_then(|()| cache.link(commit, file, &etag));
            linked.map_err(|error| failed("write to the cache")(error.into()))?;
        }
        let remembered = cache.remember(&model.revision, commit);
        remembered.map_err(|error| failed("write to the cache")(error.into()))?;
        Ok(directory)
    }
}

/// Returns a function that reports the progress of a download about a hundred times: at the start,
/// after each hundredth, and at the end. Its arguments are the bytes received and in total.
fn report_hundredths(
    file: &str,
    progress: &mut dyn FnMut(Download),
) -> impl FnMut(u64, Option<u64>) {
    let mut reported = 0;
    move |done, size| {
        let total = size.unwrap_or(done);
        if done < reported || done == total || done - reported > total / 100 {
            reported = done;
            progress(Download { file: file.to_owned(), done, total });
        }
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
