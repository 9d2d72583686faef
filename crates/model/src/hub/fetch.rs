//! Fetching a model: which files it needs, and which of them are in the cache already.

use std::path::PathBuf;

use super::cache::ModelCache;
use super::files::{self, Content};
use super::remote::{Remote, RemoteError};
use super::{Download, Hub, HubModel};
use crate::Error;
use crate::checkpoint::WEIGHTS;

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
    match &cached {
        Some((directory, Content::Complete)) if hub.offline || model.is_pinned() => {
            return Ok(directory.clone());
        }
        Some((directory, _)) if hub.offline => {
            tracing::warn!(
                %model,
                "the cache may lack files of this model, which another program has fetched; unset \
                 HF_HUB_OFFLINE once to fetch them"
            );
            return Ok(directory.clone());
        }
        None if hub.offline => {
            let cache = hub.cache.clone();
            return Err(Error::NotCached { model: model.to_string(), cache });
        }
        _ => {}
    }
    match (hub.download(model, progress), cached) {
        (
            Err(error @ (Error::Hub { .. } | Error::HubRefused { .. } | Error::HubCache { .. })),
            Some((cached, _)),
        ) => {
            tracing::warn!(%model, %error, "cannot fetch the model from the Hub; using the cached copy");
            Ok(cached)
        }
        (done, _) => done,
    }
}

impl Hub {
    /// Returns the directory of this revision if all of its required files are in the cache.
    fn cached(&self, model: &HubModel) -> Option<(PathBuf, Content)> {
        let cache = ModelCache::new(&self.cache, model);
        let commit = cache.commit(model)?;
        let directory = cache.snapshot(&commit);
        let content = Content::of(&directory, |file| cache.is_absent(&commit, file));
        (content != Content::Unusable).then_some((directory, content))
    }

    fn download(
        &self,
        model: &HubModel,
        progress: &mut dyn FnMut(Download),
    ) -> Result<PathBuf, Error> {
        let unwritable = |source| Error::HubCache { cache: self.cache.clone(), source };
        let failed = |what: &str, error| match error {
            RemoteError::Write(source) => unwritable(source),
            error => {
                let source = error.into();
                Error::Hub { what: what.to_owned(), model: model.to_string(), source }
            }
        };
        let remote = Remote::new(&self.endpoint, self.token.as_deref());
        let listing = remote.list(model).map_err(|error| match error {
            // The Hub does not tell a client without access whether a private model exists, so
            // these statuses become one error.
            RemoteError::Status(status @ (401 | 403 | 404)) => {
                Error::HubRefused { model: model.to_string(), status }
            }
            error => failed("list the files", error),
        })?;
        let all = listing.files();
        let wanted = files::wanted(&all).map_err(|file| {
            let converted = all.iter().any(|file| file.ends_with("pytorch_model.bin"));
            let advice = if converted && file == WEIGHTS {
                "it has them as pytorch_model.bin: download it, set `path`, and convert them (see docs/models.md)"
            } else {
                "another revision may have it, or another model"
            };
            Error::NotOnHub { model: model.to_string(), file, advice }
        })?;
        // Files are requested by commit, so that all belong to the same one even if the branch
        // moves during the download.
        let commit = &*listing.commit;
        let cache = ModelCache::new(&self.cache, model);
        let directory = cache.snapshot(commit);
        for file in wanted {
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
                .map_err(|error| failed(file, error))?;
            let stored = download.map_or(Ok(()), |download| cache.keep(download, &etag));
            stored.and_then(|()| cache.link(commit, file, &etag)).map_err(unwritable)?;
        }
        for file in files::absent(&all).filter(|file| !cache.is_absent(commit, file)) {
            cache.remember_absent(commit, file).map_err(unwritable)?;
        }
        cache.remember(&model.revision, commit).map_err(unwritable)?;
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
