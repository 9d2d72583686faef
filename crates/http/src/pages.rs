//! `Pages`: what a running program shows to whoever looks.

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::Error;

/// Read-only pages, each made anew when it is asked for.
#[derive(Default)]
pub struct Pages(Router);

impl Pages {
    /// No pages.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A page at `path`, which begins with a slash, of this media type.
    ///
    /// `make` must be quick: it runs where the server does.
    #[must_use]
    pub fn page(
        self,
        path: &str,
        media_type: &'static str,
        make: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        let make = Arc::new(make);
        let answer = move || {
            let text = make();
            async move { ([(CONTENT_TYPE, media_type)], text) }
        };
        Self(self.0.route(path, get(answer)))
    }

    /// Serves the pages at `listen`, `host:port`, for as long as the future is polled.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened at.
    pub async fn serve(self, listen: &str) -> Result<(), Error> {
        let failed = |source| Error::Bind { address: listen.to_owned(), source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        axum::serve(listener, self.0).await.map_err(failed)
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}
