use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use forebay_stream::{Batch, BatchResult, Failure, Flow, MapBatch};
use futures::FutureExt as _;
use tokio::sync::{Semaphore, mpsc};

use super::ModelHandle;
use crate::{Error, Launched, Model, WarmUp};

/// A model that doubles numbers. It panics on 13, fails the input 7, and leaves out one result if
/// the batch contains 99. Each result also has the model's `generation`: the number of earlier
/// builds.
struct Doubler {
    generation: usize,
}

impl Model for Doubler {
    type Input = u32;
    type Output = (u32, usize);

    fn infer(&mut self, batch: &[u32]) -> Result<Vec<Result<(u32, usize), Failure>>, Failure> {
        assert!(!batch.contains(&13), "thirteen is not a number");
        let wanted = batch.len() - usize::from(batch.contains(&99));
        let double = |&n: &u32| match n {
            7 => Err(Failure::new("unlucky", "seven")),
            n => Ok((n * 2, self.generation)),
        };
        Ok(batch.iter().take(wanted).map(double).collect())
    }

    fn warm_up(&mut self, progress: &mut dyn FnMut(WarmUp)) -> Result<(), Error> {
        progress(WarmUp { done: 1, total: 1, shape: format!("generation {}", self.generation) });
        Ok(())
    }

    fn describe(&self) -> String {
        "a doubler".to_owned()
    }
}

/// Spawns a doubler that can be built `builds` times; further builds fail.
async fn doubler(builds: usize) -> ModelHandle<Doubler> {
    let count = AtomicUsize::new(0);
    let build = move || match count.fetch_add(1, Ordering::Relaxed) {
        generation if generation < builds => Ok(Doubler { generation }),
        _ => Err(Error::WarmUp { message: "the device is gone".to_owned() }),
    };
    ModelHandle::spawn("doubler", build, |_| {}).await.unwrap()
}

#[tokio::test]
async fn every_member_gets_its_own_result() {
    let handle = doubler(1).await;
    let results = handle.call(Batch::from(vec![1, 7, 3])).await.unwrap();
    assert_eq!(results[0], Ok((2, 0)));
    assert_eq!(results[1].as_ref().unwrap_err().code(), "unlucky");
    assert_eq!(results[2], Ok((6, 0)));
    assert_eq!(handle.describe(), "a doubler");
}

#[tokio::test]
async fn the_batch_after_a_panic_is_computed_by_a_rebuilt_model() {
    let handle = doubler(2).await;
    let failure = handle.call(Batch::from(vec![1, 13])).await.unwrap_err();
    assert_eq!(failure.code(), "model_panicked");
    assert_eq!(failure.message(), "thirteen is not a number");
    assert_eq!(handle.call(Batch::from(vec![1])).await, Ok(vec![Ok((2, 1))]));
}

/// A model that loses its device on the input 13. Its results are its `generation`: the number of
/// earlier builds.
struct Fragile {
    generation: usize,
    is_lost: bool,
}

impl Model for Fragile {
    type Input = u32;
    type Output = usize;

    fn infer(&mut self, batch: &[u32]) -> Result<Vec<Result<usize, Failure>>, Failure> {
        assert!(!self.is_lost, "a lost device gets no batches");
        self.is_lost = batch.contains(&13);
        if self.is_lost {
            return Err(Failure::new("device_failed", "it is gone").transient());
        }
        Ok(batch.iter().map(|_| Ok(self.generation)).collect())
    }

    fn is_lost(&self) -> bool {
        self.is_lost
    }
}

#[tokio::test]
async fn only_the_input_that_loses_the_device_fails() {
    let times_built = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&times_built);
    let build = move || {
        let generation = count.fetch_add(1, Ordering::Relaxed);
        Ok(Fragile { generation, is_lost: false })
    };
    let handle = ModelHandle::spawn("fragile", build, drop).await.unwrap();
    let size = std::num::NonZeroUsize::new(4).unwrap();
    let (flow, failures) =
        Flow::from_iter([1, 2, 13, 4, 5]).catch(size, forebay_stream::Release::AtOnce);
    let answers = flow.partition(size, None).map_batch(handle).map(|_| None);
    let failed = failures.map(|failed| Some((failed.failure.code().to_owned(), failed.input)));
    let mut seen = answers.rejoin(failed).collect().await.unwrap();
    seen.sort();
    let lost = Some(("device_failed".to_owned(), 13));
    assert_eq!(seen, [None, None, None, None, lost]);
    // The first build, and one after each call that lost the device: two with the whole batch, one
    // with the half that contains 13, and one with 13 alone.
    assert_eq!(times_built.load(Ordering::Relaxed), 1 + 2 + 1 + 1);
}

#[tokio::test]
async fn a_batch_fails_if_the_model_returns_too_few_results() {
    let handle = doubler(1).await;
    let failure = handle.call(Batch::from(vec![1, 99])).await.unwrap_err();
    assert_eq!(failure.code(), "wrong_result_count");
    assert_eq!(failure.message(), "the model returned 1 results for 2 inputs");
}

#[tokio::test]
async fn every_caller_learns_why_the_model_cannot_be_rebuilt() {
    let handle = doubler(1).await;
    handle.call(Batch::from(vec![13])).await.unwrap_err();
    let failure = handle.closed().await;
    assert_eq!(failure.code(), "model_unavailable");
    assert!(failure.message().contains("the device is gone"), "{failure}");
    assert_eq!(handle.call(Batch::from(vec![1])).await, Err(failure));
}

#[tokio::test]
async fn an_error_or_a_panic_while_building_reaches_the_caller_of_spawn() {
    let error = ModelHandle::<Doubler>::spawn("doubler", || Err(Error::Stopped), |_| {}).await;
    assert!(matches!(error, Err(Error::Stopped)));
    let error = ModelHandle::<Doubler>::spawn("doubler", || panic!("no driver"), |_| {}).await;
    assert!(matches!(error, Err(Error::Panicked { message }) if message == "no driver"));
}

#[tokio::test]
async fn the_warm_up_is_reported_before_the_handle_is_ready() {
    let steps = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&steps);
    let count = move |step: WarmUp| {
        counter.fetch_add(step.done, Ordering::Relaxed);
    };
    let _handle =
        ModelHandle::spawn("doubler", || Ok(Doubler { generation: 0 }), count).await.unwrap();
    assert_eq!(steps.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_thread_ends_with_the_last_handle() {
    // The thread owns `build`, which owns the channel's only sender. So the channel closes when the
    // thread ends.
    let (alive, mut until_end) = tokio::sync::mpsc::channel::<()>(1);
    let build = move || {
        let _owned = &alive;
        Ok(Doubler { generation: 0 })
    };
    let handle = ModelHandle::spawn("doubler", build, |_| {}).await.unwrap();
    let other = handle.clone();
    drop(handle);
    assert!(other.call(Batch::from(vec![1])).await.is_ok());
    assert!(
        until_end.try_recv().is_err_and(|e| e == tokio::sync::mpsc::error::TryRecvError::Empty)
    );
    drop(other);
    assert_eq!(until_end.recv().await, None);
}

/// A model that overlaps batches, and that finishes a batch only when the test allows it.
///
/// The first member of a batch decides how it ends: with `panic` the model panics, with `lose` it
/// loses its device, and with `forget` it returns too few results. With `watch` the model reports
/// when the results begin to be awaited.
struct Device {
    generation: u32,
    /// Receives the first member of each batch when it is launched.
    given: mpsc::UnboundedSender<&'static str>,
    /// Has one permit for each batch that may be finished.
    may_end: Arc<Semaphore>,
    is_lost: Arc<AtomicBool>,
    /// Each running batch has a clone, so the reference count is the number of running batches plus
    /// one.
    running: Arc<()>,
}

impl Model for Device {
    type Input = &'static str;
    type Output = u32;

    fn infer(&mut self, _: &[&'static str]) -> BatchResult<u32> {
        unreachable!("batches are launched")
    }

    fn launch(&mut self, batch: &[&'static str]) -> Launched<u32> {
        assert!(!self.is_lost(), "a lost device gets no batches");
        assert!(Arc::strong_count(&self.running) <= 2, "the device has at most two batches");
        self.given.send(batch[0]).unwrap();
        let what = batch[0];
        let generation = self.generation;
        let may_end = Arc::clone(&self.may_end);
        let is_lost = Arc::clone(&self.is_lost);
        let running = Arc::clone(&self.running);
        let given = self.given.clone();
        let results = async move {
            if what == "watch" {
                given.send("is being awaited").unwrap();
            }
            may_end.acquire().await.unwrap().forget();
            drop(running);
            match what {
                "panic" => panic!("while awaited"),
                "forget" => Ok(vec![]),
                "lose" => {
                    is_lost.store(true, Ordering::Relaxed);
                    Err(Failure::new("device_failed", "it is gone").transient())
                }
                _ => Ok(vec![Ok(generation)]),
            }
        };
        Launched::Running { results: results.boxed(), takes: Duration::from_hours(1) }
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }
}

type Given = mpsc::UnboundedReceiver<&'static str>;

async fn device(permits: usize) -> (ModelHandle<Device>, Given, Arc<Semaphore>) {
    let (given, reported) = mpsc::unbounded_channel();
    let may_end = Arc::new(Semaphore::new(permits));
    let builds = AtomicU32::new(0);
    let shared = Arc::clone(&may_end);
    let build = move || {
        Ok(Device {
            generation: builds.fetch_add(1, Ordering::Relaxed),
            given: given.clone(),
            may_end: Arc::clone(&shared),
            is_lost: Arc::default(),
            running: Arc::default(),
        })
    };
    (ModelHandle::spawn("device", build, drop).await.unwrap(), reported, may_end)
}

#[tokio::test]
async fn the_device_has_at_most_two_batches_at_a_time() {
    let (handle, mut given, may_end) = device(0).await;
    let call = |what| {
        let handle = handle.clone();
        tokio::spawn(async move { handle.call(Batch::from(vec![what])).await })
    };
    let first = call("watch");
    assert_eq!(given.recv().await, Some("watch"));
    // The results of the first batch are being awaited, so it will get the first permit.
    assert_eq!(given.recv().await, Some("is being awaited"));
    let second = call("second");
    assert_eq!(given.recv().await, Some("second"), "the first batch has no permit to end");
    let third = call("third");
    assert_eq!(handle.in_hand.available_permits(), 0);
    may_end.add_permits(1);
    assert_eq!(first.await.unwrap(), Ok(vec![Ok(0)]));
    assert_eq!(given.recv().await, Some("third"));
    may_end.add_permits(2);
    assert_eq!(second.await.unwrap(), Ok(vec![Ok(0)]));
    assert_eq!(third.await.unwrap(), Ok(vec![Ok(0)]));
    assert!(handle.pace().until_ready().unwrap().now_or_never().is_some());
}

#[tokio::test]
async fn a_failure_while_results_are_awaited_rebuilds_the_model_before_the_next_batch() {
    let (handle, _given, _may_end) = device(9).await;
    let call = |what| handle.call(Batch::from(vec![what]));
    assert_eq!(call("fine").await, Ok(vec![Ok(0)]));
    let failure = call("panic").await.unwrap_err();
    assert_eq!((failure.code(), failure.message()), ("model_panicked", "while awaited"));
    assert_eq!(call("fine").await, Ok(vec![Ok(1)]));
    assert_eq!(call("lose").await.unwrap_err().code(), "device_failed");
    assert_eq!(call("fine").await, Ok(vec![Ok(2)]));
    assert_eq!(call("forget").await.unwrap_err().code(), "wrong_result_count");
    assert_eq!(call("fine").await, Ok(vec![Ok(2)]));
}

#[tokio::test]
async fn a_batch_whose_caller_gave_up_counts_as_in_hand_until_it_is_finished() {
    let (handle, mut given, may_end) = device(0).await;
    let call = tokio::spawn({
        let handle = handle.clone();
        async move { handle.call(Batch::from(vec!["watch"])).await }
    });
    assert_eq!(given.recv().await, Some("watch"));
    assert_eq!(given.recv().await, Some("is being awaited"));
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(handle.in_hand.available_permits(), 1);
    assert!(handle.pace().until_ready().unwrap().now_or_never().is_none());
    may_end.add_permits(1);
    handle.pace().until_ready().unwrap().await;
}
