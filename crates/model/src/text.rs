//! `TextModel`: classifies or embeds texts with an encoder of the BERT family.

mod backbone;
mod handle;
mod labels;
mod load;
mod modules;
mod options;
mod output;
mod plan;
mod pooling;
mod sentence;
mod tokenizer_config;
mod tokenizer_file;
mod tokens;
mod vector_layers;
mod verify;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cubecl_environment::future::block_on;
use forebay_stream::batching::{BatchLoad, CostModel};
use forebay_stream::{BatchResult, Failure, scatter};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;

pub use handle::TextHandle;
pub use options::{
    ClassificationOptions, EmbeddingOptions, PoolingMode, Precision, Scores, Task,
    TextModelOptions, UnknownName,
};
pub use output::{Label, TextOutput};
#[cfg(feature = "hub")]
pub(crate) use sentence::ENCODER_FILES;
pub use tokens::Tokens;
pub use verify::CpuReference;

use crate::device_clock::DeviceClock;
use crate::encoder::Masking;
use crate::{DeviceChoice, Error, Launched, Model, SelectedDevice, WarmUp, codes};
use backbone::Backbone;
use output::{Answers, Reduce};
use plan::Part;
use tokens::Tokenizer;
use verify::{ComputeDevice, Kernels, verify};

/// A text classifier or a text embedder, loaded from a directory in the Hugging Face layout.
///
/// The CPU computes a batch in one run, without padding. For a GPU, a batch is cut into parts of
/// similar length, and each part is one run. The parts are those that take the least time as
/// predicted by a [`CostModel`], which learns from every run. A run is padded to one of a few
/// shapes, all of which [`warm_up`](Model::warm_up) compiles.
///
/// A text of too many tokens fails with the code `text_too_long`, without affecting the other texts
/// of its batch, unless [`truncate`](TextModelOptions::truncate) is set. The empty text is a valid
/// text.
pub struct TextModel {
    backbone: Backbone,
    reduce: Reduce,
    answers: Arc<Answers>,
    frontend: TextFrontend,
    device: SelectedDevice,
    name: String,
    vocabulary: usize,
    options: TextModelOptions,
    warnings: Vec<String>,
    // Set when a run fails on the device; the model then has to be loaded again. Relaxed, because
    // no other data depends on it.
    lost: Arc<AtomicBool>,
    clock: Arc<DeviceClock>,
}

impl fmt::Debug for TextModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextModel")
            .field("name", &self.name)
            .field("device", &self.device)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The parts of a text model that callers use while the model itself is on its own thread.
#[derive(Clone)]
struct TextFrontend {
    tokenizer: Arc<Tokenizer>,
    costs: Arc<CostModel>,
}

impl TextModel {
    /// Loads the model and puts it on its device.
    ///
    /// # Errors
    ///
    /// An [`Error`] that names the file and what is wrong with it, or the device that does not
    /// exist.
    pub fn load(options: &TextModelOptions) -> Result<Self, Error> {
        load::load(options)
    }

    /// Returns whether the model classifies or embeds.
    #[must_use]
    pub fn task(&self) -> Task {
        self.answers.task()
    }

    /// Returns what the model's files have that is not applied although it might change the answers,
    /// one sentence for each thing. These sentences are also logged, once per process.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the most tokens that one text may have, including the special tokens.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.frontend.tokenizer.max_tokens()
    }

    /// Returns the token ids of one text, as the encoder gets them.
    ///
    /// # Errors
    ///
    /// `text_too_long`, or `invalid_text` if the text cannot be tokenised.
    pub fn tokenize(&self, text: &str) -> Result<Tokens, Failure> {
        self.frontend.tokenizer.encode(text)
    }

    /// Tokenises texts and runs [`infer`](Model::infer) on them; results are in the order of the
    /// texts.
    ///
    /// # Errors
    ///
    /// The outer failure is that of [`infer`](Model::infer); an inner one may also come from
    /// [`tokenize`](Self::tokenize).
    pub fn answer(
        &mut self,
        texts: &[impl AsRef<str>],
    ) -> Result<Vec<Result<TextOutput, Failure>>, Failure> {
        let tokens: Vec<_> = texts.iter().map(|text| self.tokenize(text.as_ref())).collect();
        let good: Vec<_> = tokens.iter().flatten().cloned().collect();
        Ok(scatter(tokens, self.infer(&good)?))
    }

    /// Returns how long a run over texts of these lengths is expected to take.
    #[must_use]
    pub fn predict(&self, load: BatchLoad) -> Duration {
        self.frontend.costs.predict(load)
    }

    /// Starts a run on the device for each part of the batch, and gathers their results in the
    /// order of the batch.
    fn start(
        &self,
        batch: &[Tokens],
        parts: Vec<Part>,
    ) -> BoxFuture<'static, BatchResult<TextOutput>> {
        let runs: Vec<_> = parts
            .into_iter()
            .map(|part| {
                let texts: Vec<_> =
                    part.members.iter().map(|&member| batch[member].ids()).collect();
                (part.members, self.run(&texts, part.load))
            })
            .collect();
        let mut results: Vec<_> = batch.iter().map(|_| None).collect();
        let gather = async move {
            for (members, run) in runs {
                for (member, output) in members.into_iter().zip(run.await?) {
                    results[member] = Some(Ok(output));
                }
            }
            let missing =
                || Failure::new(codes::INTERNAL, "the model returned no result for this text");
            Ok(results.into_iter().map(|result| result.unwrap_or_else(|| Err(missing()))).collect())
        };
        gather.boxed()
    }

    /// Cuts the batch into the parts that take the device the least time.
    fn parts(&self, batch: &[Tokens]) -> Vec<Part> {
        let lengths = batch.iter().enumerate();
        let lengths = lengths.map(|(place, text)| (place, text.ids().len() as u64)).collect();
        plan::parts(lengths, &self.frontend.costs)
    }

    /// Starts one run of the encoder. `load` has the number and the lengths of the texts.
    fn run(
        &self,
        texts: &[&[u32]],
        load: BatchLoad,
    ) -> impl Future<Output = Result<Vec<TextOutput>, Failure>> + Send + use<> {
        let started = Instant::now();
        let count = texts.len();
        let rows = self.backbone.launch(&self.reduce, texts, self.shape(load));
        let lost = Arc::clone(&self.lost);
        let clock = Arc::clone(&self.clock);
        let costs = Arc::clone(&self.frontend.costs);
        let answers = Arc::clone(&self.answers);
        async move {
            let (values, width) =
                rows.await.inspect_err(|_| lost.store(true, Ordering::Relaxed))?;
            costs.observe(load, clock.done(started));
            Ok(values.chunks(width).take(count).map(|row| answers.output(row)).collect())
        }
    }

    /// Returns the rectangle that a run is padded to, `[rows, tokens]`. The CPU does not use it,
    /// because it pads nothing.
    fn shape(&self, load: BatchLoad) -> [usize; 2] {
        let shape = self.frontend.costs.shapes().round_up(load.size, load.longest);
        shape.map(|side| usize::try_from(side).unwrap_or(usize::MAX))
    }

    /// Measures a run of each shape, so that the cost model's predictions are good before the first
    /// batch.
    fn measure_costs(&self, shapes: &[[usize; 2]]) -> Result<(), Error> {
        for &[rows, length] in shapes {
            let text = verify::sample_text(length.min(self.max_tokens()), self.vocabulary);
            let texts = vec![text.as_slice(); rows];
            let load: BatchLoad = texts.iter().map(|text| text.len() as u64).collect();
            let started = Instant::now();
            self.compute(&texts, self.shape(load)).map_err(verify::failed)?;
            self.frontend.costs.seed(load, started.elapsed());
        }
        Ok(())
    }

    /// Loads the same model on the CPU, so that a device's results can be compared with the CPU's.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn cpu_reference(&self) -> Result<CpuReference, Error> {
        let options = TextModelOptions {
            device: DeviceChoice::Cpu,
            precision: Precision::F32,
            ..self.options.clone()
        };
        Ok(CpuReference::new(Self::load(&options)?))
    }
}

impl ComputeDevice for TextModel {
    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn compute(
        &self,
        texts: &[&[u32]],
        rectangle: [usize; 2],
    ) -> Result<(Vec<f32>, usize), Failure> {
        block_on(self.backbone.launch(&self.reduce, texts, rectangle))
    }

    fn kernels(&self) -> Kernels {
        Kernels::fastest(self.options.precision, self.options.flash_attention)
    }

    fn switch_to(&mut self, Kernels { precision, masking }: Kernels) -> Result<(), Error> {
        let flash_attention = masking == Masking::Boolean;
        let options = TextModelOptions { precision, flash_attention, ..self.options.clone() };
        // The cost model is kept, because callers hold clones of the same `Arc` and would go on
        // with the old one.
        let Self { backbone, reduce, name, options, .. } = Self::load(&options)?;
        self.backbone = backbone;
        self.reduce = reduce;
        self.name = name;
        self.options = options;
        Ok(())
    }

    fn device(&self) -> String {
        self.device.reason().to_owned()
    }
}

impl Model for TextModel {
    type Input = Tokens;
    type Output = TextOutput;

    fn infer(&mut self, batch: &[Tokens]) -> BatchResult<TextOutput> {
        block_on(self.start(batch, self.parts(batch)))
    }

    fn launch(&mut self, batch: &[Tokens]) -> Launched<TextOutput> {
        if !self.overlaps() {
            return Launched::Done(self.infer(batch));
        }
        let parts = self.parts(batch);
        let takes = parts.iter().map(|part| self.predict(part.load)).sum();
        Launched::Running { results: self.start(batch, parts), takes }
    }

    /// True on a GPU. On the CPU, `launch` computes the batch before it returns.
    fn overlaps(&self) -> bool {
        self.backbone.overlaps()
    }

    /// Warms up the model. On a GPU, it compiles the kernels of every shape, checks their results
    /// against the CPU's, and, if there are several shapes, measures how long a run of each takes.
    /// On the CPU, it only measures runs of a few sizes.
    fn warm_up(&mut self, progress: &mut dyn FnMut(WarmUp)) -> Result<(), Error> {
        const ON_CPU: [[usize; 2]; 4] = [[1, 8], [1, 48], [8, 8], [4, 48]];
        let side = |side| usize::try_from(side).unwrap_or(usize::MAX);
        let shapes: Vec<_> =
            self.frontend.costs.shapes().all().into_iter().map(|shape| shape.map(side)).collect();
        if shapes.is_empty() {
            return self.measure_costs(&ON_CPU);
        }
        let mut reference = self.cpu_reference()?;
        verify(self, &mut reference, &shapes, progress)?;
        // The costs serve to choose between shapes. With a single shape there is nothing to choose.
        if shapes.len() > 1 { self.measure_costs(&shapes) } else { Ok(()) }
    }

    fn describe(&self) -> String {
        format!("{} on {}", self.name, self.device.reason())
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }
}
