//! `Replicas`: several copies of one model, on one device or several.

use std::num::NonZeroUsize;
use std::sync::Arc;

use forebay_stream::{Batch, BatchResult, Failure, MapBatch, Pace};
use futures::future::select_all;

use crate::{Model, ModelHandle, Work, codes};

/// Handles of several copies of one model. Each batch goes to the copy that has the fewest
/// unfinished batches.
///
/// A replica whose thread has ended gets no more batches. If a thread ends before it takes a batch,
/// the batch goes to another replica. When all threads have ended, calls fail with
/// `model_unavailable`.
pub struct Replicas<M: Model>(Arc<[ModelHandle<M>]>);

impl<M: Model> Replicas<M> {
    /// Combines one or more handles.
    #[must_use]
    pub fn new(first: ModelHandle<M>, others: impl IntoIterator<Item = ModelHandle<M>>) -> Self {
        Self(std::iter::once(first).chain(others).collect())
    }

    /// Describes the replicas in one line, for start-up logs. If several have the same description,
    /// it is written once, with their number.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut lines: Vec<(&str, usize)> = Vec::new();
        for handle in &*self.0 {
            match lines.iter_mut().find(|(line, _)| *line == handle.describe()) {
                Some((_, count)) => *count += 1,
                None => lines.push((handle.describe(), 1)),
            }
        }
        let times = |(line, count): (&str, usize)| match count {
            1 => line.to_owned(),
            _ => format!("{line}, {count} times"),
        };
        lines.into_iter().map(times).collect::<Vec<_>>().join("; ")
    }

    /// Returns how much all replicas together have done.
    #[must_use]
    pub fn work(&self) -> Work {
        self.0.iter().map(ModelHandle::work).fold(Work::default(), Work::and)
    }

    /// Waits until the threads of all replicas have ended because their models could not be
    /// rebuilt, and returns why.
    pub async fn closed(&self) -> Failure {
        let mut why = all_ended();
        for handle in &*self.0 {
            why = handle.closed().await;
        }
        why
    }

    /// Returns the replicas whose threads have not ended.
    fn running(&self) -> impl Iterator<Item = &ModelHandle<M>> {
        self.0.iter().filter(|replica| !replica.is_closed())
    }
}

fn all_ended() -> Failure {
    Failure::new(codes::MODEL_UNAVAILABLE, "the model is unavailable")
}

impl<M: Model> MapBatch<M::Input> for Replicas<M> {
    type Output = M::Output;

    async fn call(&self, batch: Batch<M::Input>) -> BatchResult<M::Output> {
        while let Some(replica) = self.running().min_by_key(|replica| replica.load()) {
            let result = replica.call(batch.clone()).await;
            match result {
                // The thread ended before it took the batch, so the loop tries another replica.
                Err(failure)
                    if failure.code() == codes::MODEL_UNAVAILABLE.name()
                        && self.running().next().is_some() => {}
                result => return result,
            }
        }
        Err(all_ended())
    }

    /// The pace of a single replica, or that of all replicas together. Several replicas finish
    /// their batches in any order.
    fn pace(&self) -> Pace {
        if let [only] = &*self.0 {
            return only.pace();
        }
        let paces: Vec<_> = self.0.iter().map(MapBatch::pace).collect();
        let slots = paces.iter().map(|pace| pace.slots().get()).sum();
        let slots = NonZeroUsize::new(slots).unwrap_or(NonZeroUsize::MIN);
        let replicas = self.clone();
        Pace::new(slots).when(move || {
            let both = replicas.0.iter().zip(&paces);
            let running = both.filter(|(replica, _)| !replica.is_closed());
            let ready: Vec<_> = running.filter_map(|(_, pace)| pace.until_ready()).collect();
            async move {
                // If all threads have ended, returns at once, and the next `call` fails.
                if !ready.is_empty() {
                    select_all(ready).await;
                }
            }
        })
    }
}

impl<M: Model> Clone for Replicas<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Model> std::fmt::Debug for Replicas<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Replicas").field(&self.describe()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Barrier};

    use forebay_stream::{Batch, Failure, MapBatch as _};

    use super::Replicas;
    use crate::{Error, Model, ModelHandle};

    /// A model that answers with the name of its thread. The input `together` makes it wait first
    /// until all replicas have this input, and `die` makes it panic.
    struct Named(Arc<Barrier>);

    impl Model for Named {
        type Input = &'static str;
        type Output = String;

        fn infer(
            &mut self,
            batch: &[&'static str],
        ) -> Result<Vec<Result<String, Failure>>, Failure> {
            match batch {
                ["together"] => drop(self.0.wait()),
                ["die"] => panic!("as asked"),
                _ => {}
            }
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            Ok(batch.iter().map(|_| Ok(name.clone())).collect())
        }
    }

    async fn replicas(count: usize) -> Replicas<Named> {
        let barrier = Arc::new(Barrier::new(count));
        let mut handles = Vec::new();
        for number in 0..count {
            let barrier = Arc::clone(&barrier);
            let was_built = AtomicBool::new(false);
            // Every build after the first fails, so the model cannot be rebuilt after a panic, and
            // its thread ends.
            let build = move || {
                if was_built.swap(true, Ordering::Relaxed) {
                    return Err(Error::Stopped);
                }
                Ok(Named(Arc::clone(&barrier)))
            };
            handles
                .push(ModelHandle::spawn(&format!("replica-{number}"), build, drop).await.unwrap());
        }
        let first = handles.remove(0);
        Replicas::new(first, handles)
    }

    async fn name(replicas: &Replicas<Named>, input: &'static str) -> Result<String, Failure> {
        let batch: Batch<&'static str> = vec![input].into();
        replicas.call(batch).await.map(|mut names| names.remove(0).unwrap())
    }

    #[tokio::test]
    async fn concurrent_batches_go_to_different_replicas() {
        let replicas = replicas(3).await;
        assert_eq!(replicas.pace().slots().get(), 3);
        // Each batch waits for the others, so the calls return only if each has its own thread.
        let names = futures::future::join_all((0..3).map(|_| name(&replicas, "together"))).await;
        let mut names: Vec<_> = names.into_iter().map(Result::unwrap).collect();
        names.sort();
        assert_eq!(names, ["replica-0", "replica-1", "replica-2"]);
    }

    #[tokio::test]
    async fn batches_go_to_the_remaining_replicas_until_all_have_ended() {
        let replicas = replicas(2).await;
        assert_eq!(name(&replicas, "die").await.unwrap_err().code(), "model_panicked");
        for _ in 0..9 {
            assert_eq!(name(&replicas, "live").await.unwrap(), "replica-1");
        }
        assert_eq!(name(&replicas, "die").await.unwrap_err().code(), "model_panicked");
        assert_eq!(replicas.closed().await.code(), "model_unavailable");
        assert_eq!(name(&replicas, "live").await.unwrap_err().code(), "model_unavailable");
    }

    #[tokio::test]
    async fn equal_replicas_are_described_once() {
        let described = replicas(2).await.describe();
        assert!(described.ends_with("Named, 2 times"), "{described}");
    }
}
