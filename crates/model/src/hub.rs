//! Models from the Hugging Face Hub, by way of the cache that all of its clients share.

use std::fmt;
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

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

    fn at(&self, revision: &str) -> Repo {
        Repo::with_revision(self.repo.clone(), RepoType::Model, revision.to_owned())
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
    /// What it lets one in by, for models that are not public.
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
    /// Blocks. Where the Hub cannot be reached, what the cache has of this revision is used, with a warning.
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
            (Err(error @ Error::Hub { .. }), Some(cached)) => {
                tracing::warn!(%model, %error, "the Hub did not answer; using the copy in the cache");
                Ok(cached)
            }
            (done, _) => done,
        }
    }

    /// The directory of this revision, if the cache has all of it that is needed.
    fn cached(&self, model: &HubModel) -> Option<PathBuf> {
        let repo = Cache::new(self.cache.clone()).repo(model.at(&model.revision));
        let directory = repo.get(NEEDED[0])?.parent()?.to_owned();
        NEEDED.iter().all(|file| directory.join(file).is_file()).then_some(directory)
    }

    fn download(
        &self,
        model: &HubModel,
        progress: &mut dyn FnMut(Download),
    ) -> Result<PathBuf, Error> {
        const RETRIES: usize = 3;
        let failed = |what: &str| {
            let (what, model) = (what.to_owned(), model.to_string());
            move |source: ApiError| Error::Hub { what, model, source: source.into() }
        };
        let api = ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_retries(RETRIES)
            .with_user_agent("forebay", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(failed("connect"))?;
        let listing = "list the files";
        let info = api.repo(model.at(&model.revision)).info();
        let info = info.map_err(|error| refused(error, model, failed(listing)))?;
        let has = |file: &str| info.siblings.iter().any(|sibling| sibling.rfilename == file);
        if let Some(file) = NEEDED.into_iter().find(|file| !has(file)) {
            return Err(Error::NotOnHub { model: model.to_string(), file });
        }
        // All files are of one commit, even where the branch moves on meanwhile.
        let repo = Cache::new(self.cache.clone()).repo(model.at(&info.sha));
        let directory = repo.pointer_path(&info.sha);
        let remote = api.repo(model.at(&info.sha));
        for file in NEEDED.into_iter().chain(OPTIONAL).filter(|file| has(file)) {
            if !directory.join(file).is_file() {
                fetch(&remote, file, progress).map_err(failed(file))?;
            }
        }
        let named = Cache::new(self.cache.clone()).repo(model.at(&model.revision));
        named.create_ref(&info.sha).map_err(|source| failed("remember")(source.into()))?;
        Ok(directory)
    }
}

fn fetch(
    repo: &ApiRepo,
    file: &str,
    progress: &mut dyn FnMut(Download),
) -> Result<PathBuf, ApiError> {
    repo.download_with_progress(file, Steps { file, done: 0, total: 0, told: 0, progress })
}

/// Tells of a download in hundred steps.
struct Steps<'a> {
    file: &'a str,
    done: u64,
    total: u64,
    told: u64,
    progress: &'a mut dyn FnMut(Download),
}

impl Steps<'_> {
    fn tell(&mut self) {
        self.told = self.done;
        let Self { file, done, total, .. } = *self;
        (self.progress)(Download { file: file.to_owned(), done, total });
    }
}

impl Progress for Steps<'_> {
    fn init(&mut self, size: usize, _file: &str) {
        (self.done, self.total, self.told) = (0, size as u64, 0);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        if self.done - self.told > self.total / 100 {
            self.tell();
        }
    }

    fn finish(&mut self) {
        self.tell();
    }
}

/// An error with what to do about it, where the Hub said why.
fn refused(error: ApiError, model: &HubModel, or: impl FnOnce(ApiError) -> Error) -> Error {
    let status = match &error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(status) => status,
            _ => 0,
        },
        _ => 0,
    };
    match status {
        // The Hub does not tell strangers which private models there are.
        401 | 403 | 404 => Error::HubRefused { model: model.to_string(), status },
        _ => or(error),
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
