//! The cache that all clients of the Hub share: `models--ORG--NAME` with `refs`, `blobs` and `snapshots`, laid out as
//! `huggingface_hub` does.
//!
//! A blob holds a file's bytes and is called after the file's `ETag`. A snapshot is one commit: links to blobs under the
//! files' names. A ref holds the commit that a branch or tag was when it was last asked for.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::HubModel;

/// One model's folder in the cache.
pub(super) struct ModelCache(PathBuf);

impl ModelCache {
    pub(super) fn new(cache: &Path, model: &HubModel) -> Self {
        Self(cache.join(format!("models--{}", model.repo.replace('/', "--"))))
    }

    /// The commit that `revision` was when it was last asked for; a commit is itself.
    pub(super) fn commit(&self, model: &HubModel) -> Option<String> {
        if model.is_pinned() {
            return Some(model.revision.clone());
        }
        let commit = fs::read_to_string(self.0.join("refs").join(&model.revision)).ok()?;
        Some(commit.trim().to_owned())
    }

    /// Remembers which commit `revision` is.
    pub(super) fn remember(&self, revision: &str, commit: &str) -> io::Result<()> {
        let refs = self.0.join("refs");
        let path = refs.join(revision);
        fs::create_dir_all(path.parent().unwrap_or(&refs))?;
        fs::write(path, commit)
    }

    /// The directory of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.0.join("snapshots").join(commit)
    }

    pub(super) fn has_blob(&self, etag: &str) -> bool {
        self.0.join("blobs").join(etag).is_file()
    }

    /// A file to download into. It becomes a blob by [`ModelCache::keep`] and is removed if it never does.
    pub(super) fn incomplete(&self) -> io::Result<NamedTempFile> {
        let blobs = self.0.join("blobs");
        fs::create_dir_all(&blobs)?;
        // As any new file, so that other users of a shared cache can read it; the process's umask is taken off.
        let permissions = Permissions::from_mode(0o666);
        tempfile::Builder::new().suffix(".incomplete").permissions(permissions).tempfile_in(blobs)
    }

    /// Turns a finished download into the blob `etag`. Where another process was faster, the bytes are the same.
    pub(super) fn keep(&self, download: NamedTempFile, etag: &str) -> io::Result<()> {
        download.persist(self.0.join("blobs").join(etag))?;
        Ok(())
    }

    /// Puts the blob `etag` into a commit's snapshot under the name `file`.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> io::Result<()> {
        let link = self.snapshot(commit).join(file);
        fs::create_dir_all(link.parent().unwrap_or(&link))?;
        // From `snapshots/COMMIT/`, and one level more for each folder in the file's name.
        let up = "../".repeat(file.matches('/').count() + 2);
        match symlink(format!("{up}blobs/{etag}"), &link) {
            // A link that leads nowhere is no file: someone has removed its blob, and another is there now.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&link)?;
                symlink(format!("{up}blobs/{etag}"), link)
            }
            done => done,
        }
    }
}
