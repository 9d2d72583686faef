//! The cache that all clients of the Hub share: `models--ORG--NAME` with `refs`, `blobs` and
//! `snapshots`, laid out as by `huggingface_hub`.
//!
//! A blob holds a file's bytes and is named after the file's `ETag`. A snapshot is one commit:
//! links to blobs under the files' names. A ref holds the commit that a branch or tag pointed to
//! when it was last fetched.

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

    /// Returns the commit that the model's revision pointed to when it was last fetched; a commit
    /// is returned as it is.
    pub(super) fn commit(&self, model: &HubModel) -> Option<String> {
        if model.is_pinned() {
            return Some(model.revision.clone());
        }
        let commit = fs::read_to_string(self.0.join("refs").join(&model.revision)).ok()?;
        Some(commit.trim().to_owned())
    }

    /// Stores the commit that `revision` points to.
    pub(super) fn remember(&self, revision: &str, commit: &str) -> io::Result<()> {
        let refs = self.0.join("refs");
        let path = refs.join(revision);
        fs::create_dir_all(path.parent().unwrap_or(&refs))?;
        fs::write(path, commit)
    }

    /// Returns the directory of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.0.join("snapshots").join(commit)
    }

    pub(super) fn has_blob(&self, etag: &str) -> bool {
        self.0.join("blobs").join(etag).is_file()
    }

    /// Creates a file to download into. It becomes a blob by [`ModelCache::keep`], and is removed
    /// when it is dropped before.
    pub(super) fn incomplete(&self) -> io::Result<NamedTempFile> {
        let blobs = self.0.join("blobs");
        fs::create_dir_all(&blobs)?;
        // The usual mode of new files (less the umask), so that other users of a shared cache can
        // read it.
        let permissions = Permissions::from_mode(0o666);
        tempfile::Builder::new().suffix(".incomplete").permissions(permissions).tempfile_in(blobs)
    }

    /// Turns a finished download into the blob `etag`. Replaces the blob of a process that was
    /// faster, which has the same bytes.
    pub(super) fn keep(&self, download: NamedTempFile, etag: &str) -> io::Result<()> {
        download.persist(self.0.join("blobs").join(etag))?;
        Ok(())
    }

    /// Links the blob `etag` into a commit's snapshot under the name `file`.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> io::Result<()> {
        let link = self.snapshot(commit).join(file);
        fs::create_dir_all(link.parent().unwrap_or(&link))?;
        // From `snapshots/COMMIT/` to the model's folder, and one level more for each folder in the
        // file's name.
        let up = "../".repeat(file.matches('/').count() + 2);
        match symlink(format!("{up}blobs/{etag}"), &link) {
            // The caller found no file behind this link, so its blob was removed. It is replaced by
            // a link to the new blob.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&link)?;
                symlink(format!("{up}blobs/{etag}"), link)
            }
            done => done,
        }
    }
}
