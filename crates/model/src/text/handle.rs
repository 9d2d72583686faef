//! `TextHandle`: a handle to a text model that runs on its own threads.

use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

use forebay_stream::batching::CostModel;
use forebay_stream::{Batch, BatchResult, Failure, MapBatch, Pace, prepared};
use futures::future::try_join_all;

use super::{TextFrontend, TextModel, TextModelOptions, TextOutput, Tokens};
use crate::{DeviceChoice, Error, ModelHandle, Replicas, WarmUp, Work, codes};

/// A handle to a text model that runs on its own threads, callable from any task. Texts are
/// tokenised on the caller's runtime.
///
/// In a flow, [`tokenize`](Self::tokenize) each text, gather the tokens into batches by their
/// lengths and the model's [`costs`](Self::costs), and run the batches:
///
/// ```no_run
/// use std::time::Duration;
///
/// use forebay_model::{TextHandle, TextModelOptions};
/// use forebay_stream::{AdaptiveWindow, Flow, at_most};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let model = TextHandle::spawn("sentiment", &TextModelOptions::new("models/sentiment"), drop).await?;
/// let parallelism = std::thread::available_parallelism()?;
/// let limits = AdaptiveWindow { max_size: at_most(64), max_wait: Duration::ZERO, max_cost: 16_384 };
/// let (tokenizer, costs) = (model.clone(), model.costs());
/// let answers = Flow::from_iter(["fine".to_owned(), "awful".to_owned()])
///     .map_async(move |text| tokenizer.clone().tokenize(text), parallelism)
///     .adaptive_window_by_length(limits, costs, |text| text.ids().len() as u64, |_| Ok(None))
///     .map_batch(model);
/// println!("{:?}", answers.collect().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TextHandle {
    frontend: TextFrontend,
    replicas: Replicas<TextModel>,
}

impl TextHandle {
    /// Loads and warms up the model on a new thread called `name`, and returns when it is ready to
    /// serve.
    ///
    /// The thread loads the model again if its device fails or the model panics. `on_warm_up` is
    /// called for every step of the warm-up.
    ///
    /// # Errors
    ///
    /// As [`ModelHandle::spawn`].
    pub async fn spawn(
        name: &str,
        options: &TextModelOptions,
        on_warm_up: impl FnMut(WarmUp) + Send + 'static,
    ) -> Result<Self, Error> {
        let devices = [options.device];
        Self::spawn_on(name, options, &devices, NonZeroUsize::MIN, on_warm_up).await
    }

    /// Like [`spawn`](Self::spawn), with `replicas` copies of the model on each of `devices`
    /// instead of one on `options.device`.
    ///
    /// On the CPU, all replicas share the cores equally unless `options.threads` is set.
    ///
    /// # Errors
    ///
    /// As [`ModelHandle::spawn`] for the first replica that cannot be started, and
    /// [`Error::Stopped`] if `devices` is empty.
    pub async fn spawn_on(
        name: &str,
        options: &TextModelOptions,
        devices: &[DeviceChoice],
        replicas: NonZeroUsize,
        on_warm_up: impl FnMut(WarmUp) + Send + 'static,
    ) -> Result<Self, Error> {
        let all = devices.len() * replicas.get();
        let on_warm_up = Arc::new(Mutex::new(on_warm_up));
        let spawned = devices.iter().flat_map(|&device| vec![device; replicas.get()]).enumerate();
        let spawned = spawned.map(|(number, device)| {
            let name = if all == 1 { name.to_owned() } else { format!("{name}-{number}") };
            let threads = options.threads.or_else(|| threads_each(all));
            let options = TextModelOptions { device, threads, ..options.clone() };
            spawn_one(name, options, Arc::clone(&on_warm_up))
        });
        let mut spawned = try_join_all(spawned).await?.into_iter();
        let (frontend, first) = spawned.next().ok_or(Error::Stopped)?;
        Ok(Self { frontend, replicas: Replicas::new(first, spawned.map(|(_, handle)| handle)) })
    }

    /// Describes the model and its devices in one line, for start-up logs.
    #[must_use]
    pub fn describe(&self) -> String {
        self.replicas.describe()
    }

    /// Returns how much the model has done, on all devices together.
    #[must_use]
    pub fn work(&self) -> Work {
        self.replicas.work()
    }

    /// Waits until the threads of all replicas have ended because their models could not be
    /// rebuilt, and returns why.
    pub async fn closed(&self) -> Failure {
        self.replicas.closed().await
    }

    /// Returns the model's cost model, which predicts how long a batch takes. If there are several
    /// replicas, it is that of the first one.
    #[must_use]
    pub fn costs(&self) -> Arc<CostModel> {
        Arc::clone(&self.frontend.costs)
    }

    /// Returns the token ids of one text.
    ///
    /// Runs on a separate task, so that several texts can be tokenised in parallel.
    ///
    /// # Errors
    ///
    /// `text_too_long`, or `invalid_text` if the text cannot be tokenised.
    pub async fn tokenize(self, text: String) -> Result<Tokens, Failure> {
        // In bytes. Tokenising a longer text would block a thread of the runtime for too long.
        const LONG: usize = 16 * 1024;
        let tokenizer = Arc::clone(&self.frontend.tokenizer);
        let is_long = text.len() > LONG;
        let encode = move || tokenizer.encode(&text);
        let task = if is_long {
            tokio::task::spawn_blocking(encode)
        } else {
            tokio::spawn(async move { encode() })
        };
        task.await.unwrap_or_else(|error| {
            Err(Failure::new(codes::INVALID_TEXT, format_args!("cannot tokenise: {error}")))
        })
    }
}

/// Spawns one replica, and returns its handle with the parts that callers use.
async fn spawn_one<P: FnMut(WarmUp) + Send + 'static>(
    name: String,
    options: TextModelOptions,
    on_warm_up: Arc<Mutex<P>>,
) -> Result<(TextFrontend, ModelHandle<TextModel>), Error> {
    let frontend: Arc<OnceLock<TextFrontend>> = Arc::default();
    let build = {
        let frontend = Arc::clone(&frontend);
        move || {
            let mut model = TextModel::load(&options)?;
            // Callers keep the cost model of the first load. So a model that is loaded again
            // replaces its own cost model with that one.
            model.frontend = frontend.get_or_init(|| model.frontend.clone()).clone();
            Ok(model)
        }
    };
    let report = move |step| on_warm_up.lock()(step);
    let handle = ModelHandle::spawn(&name, build, report).await?;
    let frontend = frontend.get().cloned().ok_or(Error::Stopped)?;
    Ok((frontend, handle))
}

/// Returns how many threads each replica computes with on the CPU: its share of the cores. `None`
/// if there is only one replica, which uses all cores.
fn threads_each(replicas: usize) -> Option<NonZeroUsize> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    if replicas > 1 { NonZeroUsize::new((cores / replicas).max(1)) } else { None }
}

impl MapBatch<Tokens> for TextHandle {
    type Output = TextOutput;

    async fn call(&self, batch: Batch<Tokens>) -> BatchResult<TextOutput> {
        self.replicas.call(batch).await
    }

    fn pace(&self) -> Pace {
        self.replicas.pace()
    }
}

impl MapBatch<String> for TextHandle {
    type Output = TextOutput;

    /// Tokenises the texts in parallel and calls the model. A text that cannot be tokenised fails
    /// without affecting the others, and is not given to the model.
    async fn call(&self, batch: Batch<String>) -> BatchResult<TextOutput> {
        let tokenize = |text| self.clone().tokenize(text);
        prepared(&batch, tokenize, |tokens| self.replicas.call(tokens)).await
    }

    fn pace(&self) -> Pace {
        self.replicas.pace()
    }
}

impl std::fmt::Debug for TextHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TextHandle").field(&self.replicas).finish()
    }
}
