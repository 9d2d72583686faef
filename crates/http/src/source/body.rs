//! Reading a request's body, within bounds.

use std::time::Duration;

use axum::body::BodyDataStream;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::time::timeout;

use super::response::Refusal;

/// The longest that a body may take to come, for a request has its place meanwhile.
const READING: Duration = Duration::from_secs(30);

/// What is read of a request that is refused: so long, and so many bytes.
const DISCARDING: Duration = Duration::from_secs(1);
const MOST_DISCARDED: usize = 16 << 20;

/// The whole body, if it has at most `limit` bytes.
pub(super) async fn read(body: &mut BodyDataStream, limit: usize) -> Result<Bytes, Refusal> {
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
    timeout(READING, whole).await.unwrap_or(Err(Refusal::Slow { after: READING }))
}

/// Reads off what the client is still sending: were the connection closed meanwhile, it might never see the response.
pub(super) async fn discard(body: &mut BodyDataStream) {
    let rest = async {
        let mut discarded = 0;
        while let Some(Ok(chunk)) = body.next().await {
            discarded += chunk.len();
            if discarded > MOST_DISCARDED {
                break;
            }
        }
    };
    timeout(DISCARDING, rest).await.ok();
}
