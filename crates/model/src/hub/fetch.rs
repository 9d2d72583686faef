//! Fetching a model: which files it needs, and which of them are in the cache already.

use std::path::PathBuf;

use super::cache::ModelCache;
use super::remote::{Remote, RemoteError};
use super::{Download, Hub, HubModel};
use crate::Error;

/// Files that every model must have.
const REQUIRED: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];
/// Files that are fetched if the model has them.
const OPTIONAL: [&str; 4] =
    ["tokenizer_config.json", "sentence_bert_config.json", "modules.json", "1_Pooling/config.json"];

impl HubModel {
    /// Returns whether the revision is a commit.
    pub(super) fn is_pinned(&self) -> bool {
        let is_hex = self.revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.revision.len() == 40 && is_hex
    }
}

/// As [`Hub::fetch`].
pub(super) fn fetch(
    hub: &Hub,
    model: &HubModel,
    progress: &mut dyn FnMut(Download),
) -> Result<PathBuf, Error> {
    let cached = hub.cached(model);
    if let Some(cached) = cached.as_ref().filter(|_| hub.offline || model.is_pinned()) {
        return Ok(cached.clone());
    }
    if hub.offline {
        return Err(Error::NotCached { model: model.to_string(), cache: hub.cache.clone() });
    }
    match (hub.download(model, progress), cached) {
        (Err(error @ (Error::Hub { .. } | Error::HubRefused { .. })), Some(cached)) => {
            tracing::warn!(%model, %error, "cannot fetch the model from the Hub; using the cached copy");
            Ok(cached)
        }
        (done, _) => done,
    }
}

impl Hub {
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
