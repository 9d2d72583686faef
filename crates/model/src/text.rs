//! `TextModel`: classifies or embeds texts with an encoder of the BERT family.

mod backbone;
mod handle;
mod load;
mod options;
mod output;
mod plan;
mod pooling;
mod tokens;
mod verify;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cubecl_environment::future::block_on;
use forebay_stream::batching::{BatchLoad, CostModel};
use forebay_stream::{BatchResult, Failure};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;

pub use handle::TextHandle;
pub use options::{
    ClassificationOptions, EmbeddingOptions, PoolingMode, Precision, Scores, Task,
    TextModelOptions, UnknownName,
};
pub use output::{Label, TextOutput};
pub use tokens::Tokens;
pub use verify::CpuReference;

use crate::device_clock::DeviceClock;
use crate::encoder::Masking;
use crate::{DeviceChoice, Error, Launched, Model, SelectedDevice, WarmUp};
use backbone::Backbone;
use output::{Answers, Reduce};
use plan::Part;
use tokens::Tokenizer;
use verify::{Computes, Kernels, verify};

/// A text classifier or a text embedder, loaded from a directory in the Hugging Face layout.
///
/// On the CPU a batch is one run, in which nothing is padded. For a GPU it is cut into the parts that take it the least
/// time, by a [`CostModel`] that learns from every run; their shapes are rounded up to a few, all of which
/// [`warm_up`](Model::warm_up) compiles.
///
/// A text of too many tokens fails alone with the code `text_too_long`, unless it is to be truncated. The empty text
/// is a text.
pub struct TextModel {
    backbone: Backbone,
    reduce: Reduce,
    answers: Arc<Answers>,
    face: TextFace,
    device: SelectedDevice,
    name: String,
    vocabulary: usize,
    options: TextModelOptions,
    // Whether the device has failed.
    lost: Arc<AtomicBool>,
    clock: Arc<DeviceClock>,
}

/// What those need of a text model who call it from other threads.
#[derive(Clone)]
struct TextFace {
    tokenizer: Arc<Tokenizer>,
    costs: Arc<CostModel>,
}

impl TextModel {
    /// Loads the model and puts it on its device.
    ///
    /// # Errors
    ///
    /// An [`Error`] that names the file and what is wrong with it, or the device that is not there.
    pub fn load(options: &TextModelOptions) -> Result<Self, Error> {
        load::load(options)
    }

    /// What the model does.
    #[must_use]
    pub fn task(&self) -> Task {
        self.answers.task()
    }

    /// The most tokens one text may have, the special ones counted in.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.face.tokenizer.max_tokens()
    }

    /// Token ids of one text, as the encoder gets them.
    ///
    /// # Errors
    ///
    /// `text_too_long`, or `invalid_text` for what cannot be tokenised.
    pub fn tokenize(&self, text: &str) -> Result<Tokens, Failure> {
        self.face.tokenizer.encode(text)
    }

    /// Tokenises texts and [`infer`](Model::infer)s what they say, in order.
    ///
    /// # Errors
    ///
    /// As [`infer`](Model::infer); an inner failure may be [`tokenize`](Self::tokenize)'s.
    pub fn answer(
        &mut self,
        texts: &[impl AsRef<str>],
    ) -> Result<Vec<Result<TextOutput, Failure>>, Failure> {
        let tokens: Vec<_> = texts.iter().map(|text| self.tokenize(text.as_ref())).collect();
        let good: Vec<_> = tokens.iter().flatten().cloned().collect();
        let mut answers = self.infer(&good)?.into_iter();
        let missing = || Err(Failure::new("internal", "a text was left out of its batch"));
        let answer =
            |tokens: Result<_, _>| tokens.and_then(|_| answers.next().unwrap_or_else(missing));
        Ok(tokens.into_iter().map(answer).collect())
    }

    /// How long a run over texts of these lengths is expected to take.
    #[must_use]
    pub fn predict(&self, load: BatchLoad) -> Duration {
        self.face.costs.predict(load)
    }

    /// Gives the device a batch, a run for each part.
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
            let missing = || Failure::new("internal", "a text was left out of its batch");
            Ok(results.into_iter().map(|result| result.unwrap_or_else(|| Err(missing()))).collect())
        };
        gather.boxed()
    }

    /// The runs that take the device the least time.
    fn parts(&self, batch: &[Tokens]) -> Vec<Part> {
        let lengths = batch.iter().enumerate();
        let lengths = lengths.map(|(place, text)| (place, text.ids().len() as u64)).collect();
        plan::parts(lengths, &self.face.costs)
    }

    /// One run of the encoder over texts with this load.
    fn run(
        &self,
        texts: &[&[u32]],
        load: BatchLoad,
    ) -> impl Future<Output = Result<Vec<TextOutput>, Failure>> + Send + use<> {
        let (started, count) = (Instant::now(), texts.len());
        let rows = self.backbone.launch(&self.reduce, texts, self.shape(load));
        let (lost, clock) = (Arc::clone(&self.lost), Arc::clone(&self.clock));
        let (costs, answers) = (Arc::clone(&self.face.costs), Arc::clone(&self.answers));
        async move {
            let (values, width) =
                rows.await.inspect_err(|_| lost.store(true, Ordering::Relaxed))?;
            costs.observe(load, clock.done(started));
            Ok(values.chunks(width).take(count).map(|row| answers.output(row)).collect())
        }
    }

    /// The rectangle of a run, `[rows, tokens]`; of no meaning where nothing is padded.
    fn shape(&self, load: BatchLoad) -> [usize; 2] {
        let shape = self.face.costs.shapes().round_up(load.size, load.longest);
        shape.map(|side| usize::try_from(side).unwrap_or(usize::MAX))
    }

    /// Learns what the device costs from runs of unlike shapes.
    fn try_out(&self, shapes: &[[usize; 2]]) -> Result<(), Error> {
        for &[rows, length] in shapes {
            let text = verify::some_text(length.min(self.max_tokens()), self.vocabulary);
            let texts = vec![text.as_slice(); rows];
            let load: BatchLoad = texts.iter().map(|text| text.len() as u64).collect();
            let started = Instant::now();
            self.compute(&texts, self.shape(load)).map_err(verify::failed)?;
            self.face.costs.seed(load, started.elapsed());
        }
        Ok(())
    }

    /// The same model on the CPU, to compare a device's numbers with.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn cpu_reference(&self) -> Result<CpuReference, Error> {
        let (device, precision) = (DeviceChoice::Cpu, Precision::F32);
        let options = TextModelOptions { device, precision, ..self.options.clone() };
        Ok(CpuReference::new(Self::load(&options)?))
    }
}

impl Computes for TextModel {
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
        // The costs stay, for others have them too.
        let Self { backbone, reduce, name, options, .. } = Self::load(&options)?;
        (self.backbone, self.reduce, self.name, self.options) = (backbone, reduce, name, options);
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

    /// On a GPU; a CPU has nothing to compute with meanwhile.
    fn overlaps(&self) -> bool {
        self.backbone.overlaps()
    }

    /// Compiles the kernels of every shape, checks that the device gives the CPU's numbers for it, and learns what it
    /// costs.
    fn warm_up(&mut self, progress: &mut dyn FnMut(WarmUp)) -> Result<(), Error> {
        const ON_CPU: [[usize; 2]; 4] = [[1, 8], [1, 48], [8, 8], [4, 48]];
        let side = |side| usize::try_from(side).unwrap_or(usize::MAX);
        let shapes: Vec<_> =
            self.face.costs.shapes().all().into_iter().map(|shape| shape.map(side)).collect();
        if shapes.is_empty() {
            return self.try_out(&ON_CPU);
        }
        let mut reference = self.cpu_reference()?;
        verify(self, &mut reference, &shapes, progress)?;
        // With a single shape there is nothing to choose.
        if shapes.len() > 1 { self.try_out(&shapes) } else { Ok(()) }
    }

    fn describe(&self) -> String {
        format!("{} on {}", self.name, self.device.reason())
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }
}
