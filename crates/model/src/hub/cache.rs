//! The cache that all clients of the Hub share, in the layout of the Python library
//! `huggingface_hub`. Each model has a folder `models--ORG--NAME` with four folders:
//!
//! - `blobs` has the bytes of files. A blob is named after the file's `ETag`.
//! - `snapshots` has a folder for each commit. It contains links to blobs under the files' names.
//! - `.no_exist` has a folder for each commit. It contains an empty file for each file that is known
//!   not to be in the commit.
//! - `refs` has a file for each branch or tag. It contains the commit that the branch or tag
//!   pointed to when it was last fetched.

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

    /// Returns the commit that the model's revision pointed to when it was last fetched. If the
    /// revision is itself a commit, returns it.
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

    /// Returns whether a commit is known not to have a file.
    pub(super) fn is_absent(&self, commit: &str, file: &str) -> bool {
        self.0.join(".no_exist").join(commit).join(file).exists()
    }

    /// Remembers that a commit does not have a file.
    pub(super) fn remember_absent(&self, commit: &str, file: &str) -> io::Result<()> {
        let path = self.0.join(".no_exist").join(commit).join(file);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(path, "")
    }

    pub(super) fn has_blob(&self, etag: &str) -> bool {
        self.0.join("blobs").join(etag).is_file()
    }

    /// Creates a temporary file for a download. [`ModelCache::keep`] turns it into a blob; if it is
    /// dropped before that, it is removed.
    pub(super) fn incomplete(&self) -> io::Result<NamedTempFile> {
        let blobs = self.0.join("blobs");
        fs::create_dir_all(&blobs)?;
        // The usual permissions of new files (0666 without the bits of the umask), so that other
        // users of a shared cache can read the blob.
        let permissions = Permissions::from_mode(0o666);
        tempfile::Builder::new().suffix(".incomplete").permissions(permissions).tempfile_in(blobs)
    }

    /// Turns a finished download into the blob `etag`. If another process has stored this blob in
    /// the meantime, it is replaced, which is harmless because it has the same bytes.
    pub(super) fn keep(&self, download: NamedTempFile, etag: &str) -> io::Result<()> {
        download.persist(self.0.join("blobs").join(etag))?;
        Ok(())
    }

    /// Links the blob `etag` into a commit's snapshot under the name `file`.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> io::Result<()> {
        let link = self.snapshot(commit).join(file);
        fs::create_dir_all(link.parent().unwrap_or(&link))?;
        // The model's folder is two levels above `snapshots/COMMIT`, and one level more for each
        // folder in the file's name.
        let up = "../".repeat(file.matches('/').count() + 2);
        match symlink(format!("{up}blobs/{etag}"), &link) {
            // There is a link, but the caller found no file behind it, so its blob must have been
            // removed. The link is replaced by one to the new blob.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&link)?;
                symlink(format!("{up}blobs/{etag}"), link)
            }
            done => done,
        }
    }
}
