//! Models from the Hugging Face Hub, by way of the cache that all of its clients share.

mod cache;
mod remote;

use std::fmt;
use std::path::{Path, PathBuf};

use self::cache::ModelCache;
use self::remote::{Remote, RemoteError};
use crate::Error;

/// Without these there is no model.
const NEEDED: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];
/// These say more about it, where they are.
const OPTIONAL: [&str; 4] =
    ["tokenizer_config.json", "sentence_bert_config.json", "modules.json", "1_Pooling/config.json"];

/// A model of the Hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubModel {
    /// Its name there, such as `sentence-transformers/all-MiniLM-L6-v2`.
    pub repo: String,
    /// The branch, tag or commit. A commit never changes, and is not asked for again once it is in the cache.
    pub revision: String,
}

impl HubModel {
    /// The newest of a model.
    #[must_use]
    pub fn new(repo: impl Into<String>) -> Self {
        Self { repo: repo.into(), revision: "main".to_owned() }
    }

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

/// How far the download of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// The file's name.
    pub file: String,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Where models come from, and where they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hub {
    /// The Hub's address.
    pub endpoint: String,
    /// The directory that all clients of the Hub share.
    pub cache: PathBuf,
    /// Access token for private and gated models.
    pub token: Option<String>,
    /// Whether only what is in the cache is to be had.
    pub offline: bool,
}

impl Hub {
    /// As the variables say that every client of the Hub knows: `HF_ENDPOINT`, `HF_HUB_CACHE` or `HF_HOME`, `HF_TOKEN`
    /// and `HF_HUB_OFFLINE`. The token may also be in the file to which `hf auth login` writes it.
    ///
    /// # Errors
    ///
    /// [`Error::NoHubCache`] where neither they nor the user's home directory tell where the cache is.
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

    /// Brings a model's files into the cache, unless they are there, and gives the directory that they are in.
    ///
    /// Blocks. Where the Hub cannot be reached or refuses, the cache's copy of this revision is used, with a warning.
    ///
    /// # Errors
    ///
    /// [`Error::Hub`] where a file can neither be fetched nor found, [`Error::NotOnHub`] where the model has no such
    /// file, and [`Error::NotCached`] offline.
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
            let (model, cache) = (model.to_string(), self.cache.clone());
            return Err(Error::NotCached { model, cache });
        }
        match (self.download(model, progress), cached) {
            (Err(error @ (Error::Hub { .. } | Error::HubRefused { .. })), Some(cached)) => {
                tracing::warn!(%model, %error, "the Hub gave nothing; using the copy in the cache");
                Ok(cached)
            }
            (done, _) => done,
        }
    }

    /// The directory of this revision, if the cache has all of it that is needed.
    fn cached(&self, model: &HubModel) -> Option<PathBuf> {
        let cache = ModelCache::new(&self.cache, model);
        let directory = cache.snapshot(&cache.commit(model)?);
        NEEDED.iter().all(|file| directory.join(file).is_file()).then_some(directory)
    }

    fn download(
        &self,
        model: &HubModel,
        progress: &mut dyn FnMut(Download),
    ) -> Result<PathBuf, Error> {
        let failed = |what: &str| {
            let (what, model) = (what.to_owned(), model.to_string());
            move |source: RemoteError| Error::Hub { what, model, source: source.into() }
        };
        let remote = Remote::new(&self.endpoint, self.token.as_deref());
        let listing = remote.list(model).map_err(|error| match error {
            // The Hub does not tell strangers which private models there are.
            RemoteError::Status(status @ (401 | 403 | 404)) => {
                Error::HubRefused { model: model.to_string(), status }
            }
            error => failed("list the files")(error),
        })?;
        if let Some(file) = NEEDED.into_iter().find(|file| !listing.has(file)) {
            return Err(Error::NotOnHub { model: model.to_string(), file });
        }
        // All files are of one commit, even where the branch moves on meanwhile.
        let commit = &*listing.commit;
        let cache = ModelCache::new(&self.cache, model);
        let directory = cache.snapshot(commit);
        for file in NEEDED.into_iter().chain(OPTIONAL).filter(|file| listing.has(file)) {
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
                    hundred_steps(file, progress),
                )
                .map_err(failed(file))?;
            let keep = download.map_or(Ok(()), |download| cache.keep(download, &etag));
            let kept = keep.and_then(|()| cache.link(commit, file, &etag));
            kept.map_err(|error| failed("write to the cache")(error.into()))?;
        }
        let remembered = cache.remember(&model.revision, commit);
        remembered.map_err(|error| failed("write to the cache")(error.into()))?;
        Ok(directory)
    }
}

/// Passes a download's progress on: its start, each hundredth, and its end.
fn hundred_steps(file: &str, progress: &mut dyn FnMut(Download)) -> impl FnMut(u64, Option<u64>) {
    let mut told = 0;
    move |done, size| {
        let total = size.unwrap_or(done);
        if done < told || done == total || done - told > total / 100 {
            told = done;
            progress(Download { file: file.to_owned(), done, total });
        }
    }
}

/// Whether `name` can be a model's name on the Hub.
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
