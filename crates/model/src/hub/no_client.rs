//! Fetching a model in a build without the feature `hub`, which has no client of the Hub.

use std::path::PathBuf;

use super::{Download, Hub, HubModel};
use crate::Error;

/// Returns [`Error::NoHubClient`].
pub(super) fn fetch(
    _hub: &Hub,
    model: &HubModel,
    _progress: &mut dyn FnMut(Download),
) -> Result<PathBuf, Error> {
    Err(Error::NoHubClient { model: model.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_the_hubs_client_says_so_and_how_to_get_it() {
        let cache = PathBuf::new();
        let hub = Hub { endpoint: String::new(), cache, token: None, offline: false };
        let error = fetch(&hub, &HubModel::new("owner/model"), &mut |_| {}).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot fetch owner/model@main: this build has no client of the Hugging Face Hub; build \
             with the cargo feature `hub`, or download the model and set `path`"
        );
    }
}
