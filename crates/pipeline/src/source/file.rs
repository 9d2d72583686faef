//! `[source.file]`: a file, one value a line.

use std::path::PathBuf;

use futures::future::BoxFuture;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::BufReader;

use super::{OpenSource, SourceEnd};
use crate::error::RunError;
use crate::lines::{Followed, READ_AHEAD, start};
use crate::record::Format;

/// `[source.file]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSource {
    /// The file, one value a line.
    pub(crate) path: PathBuf,
    /// Whether reading waits for more lines at the end of the file, as `tail -F` does.
    #[serde(default)]
    follow: bool,
    /// The form of the values.
    #[serde(default)]
    format: Format,
}

impl SourceEnd for FileSource {
    fn title(&self) -> String {
        format!("file: {}", self.path.display())
    }

    fn format(&self) -> Format {
        self.format
    }

    fn starts_over(&self) -> bool {
        !self.follow
    }

    fn open(&self) -> BoxFuture<'_, Result<OpenSource, RunError>> {
        Box::pin(async {
            let path = &self.path;
            let failed = |source| RunError::Open { path: path.clone(), source };
            let origin = path.display().to_string();
            if self.follow {
                let file = Followed::open(path, READ_AHEAD).await.map_err(failed)?;
                return Ok(start(self.title(), origin, file, self.format));
            }
            let file = File::open(path).await.map_err(failed)?;
            let file = BufReader::with_capacity(READ_AHEAD, file);
            Ok(start(self.title(), origin, file, self.format))
        })
    }
}
