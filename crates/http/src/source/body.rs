//! Reads the body of a request, within limits of size and time.

use std::time::Duration;

use axum::body::BodyDataStream;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::time::timeout;

use super::response::Refusal;

/// Limits in time and bytes for draining the body of a refused request.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_DISCARDED: usize = 16 << 20;

/// Reads the whole body, of at most `limit` bytes, within `after`. The time is limited because a
/// request counts as in flight while its body arrives.
pub(super) async fn read(
    body: &mut BodyDataStream,
    limit: usize,
    after: Duration,
) -> Result<Bytes, Refusal> {
    let whole = async {
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(Refusal::Body)?;
            if chunk.len() > limit - bytes.len() {
                return Err(Refusal::TooLarge { limit });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    };
    timeout(after, whole).await.unwrap_or(Err(Refusal::Slow { after }))
}

/// Reads the rest of a refused request's body and drops it. If the connection were closed while
/// the client still sends, the client might never see the response.
pub(super) async fn discard(body: &mut BodyDataStream) {
    let rest = async {
        let mut discarded = 0;
        while let Some(Ok(chunk)) = body.next().await {
            discarded += chunk.len();
            if discarded > MAX_DISCARDED {
                break;
            }
        }
    };
    timeout(DISCARD_TIMEOUT, rest).await.ok();
}
