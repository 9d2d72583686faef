//! `Pages`: read-only pages about a running program.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::server::{IDLE_TIMEOUT, serve};
use crate::{Error, check_listen};

/// Read-only pages. A page is generated anew for each request.
#[derive(Default)]
pub struct Pages(Router);

impl Pages {
    /// Creates an empty set of pages.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a page at `path`, which must begin with a slash.
    ///
    /// `make` generates the page's text for each request. It must return quickly, because it runs
    /// on the server's async threads.
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

    /// Adds a page for probes at `path`: 200 with the text of `check` if it is `Ok`, and 503 with
    /// it otherwise.
    ///
    /// `check` must return quickly, because it runs on the server's async threads.
    #[must_use]
    pub fn probe(
        self,
        path: &str,
        check: impl Fn() -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        let check = Arc::new(check);
        let answer = move || {
            let (status, text) = match check() {
                Ok(text) => (StatusCode::OK, text),
                Err(text) => (StatusCode::SERVICE_UNAVAILABLE, text),
            };
            async move { (status, text + "\n") }
        };
        Self(self.0.route(path, get(answer)))
    }

    /// Serves the pages at the address `listen` (`host:port`) until the returned future is dropped.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Setting`] if the address is not `host:port`, and [`Error::Bind`] if it cannot
    /// be bound.
    pub async fn serve(self, listen: &str) -> Result<(), Error> {
        check_listen(listen)?;
        let failed = |source| Error::Bind { address: listen.to_owned(), source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!(%address, "serving the pages");
        let service = TowerToHyperService::new(self.0);
        serve(listener, service, IDLE_TIMEOUT, CancellationToken::new()).await;
        Ok(())
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}
