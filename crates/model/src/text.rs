//! `TextModel`: classifies or embeds texts with an encoder of the BERT family.

mod backbone;
mod check;
mod load;
mod options;
mod output;
mod plan;
mod pooling;
mod shapes;
mod tokens;

use forebay_stream::Failure;

pub use options::{InvalidTask, Task, TextModelOptions};
pub use output::TextOutput;

use crate::{DeviceChoice, Error, Model, SelectedDevice, WarmUp};
use backbone::Backbone;
use output::Interpreter;
use shapes::Shapes;
use tokens::{Tokenizer, Tokens};

/// A text classifier or a text embedder, loaded from a directory in the Hugging Face layout.
///
/// On the CPU a batch is one run, in which nothing is padded. For a GPU it is cut into parts of like length, so that
/// little is padded, each part is one run, and their shapes are rounded up to a few, all of which
/// [`warm_up`](Model::warm_up) compiles.
///
/// A text of too many tokens fails alone with the code `text_too_long`, unless it is to be truncated. The empty text
/// is a text.
pub struct TextModel {
    backbone: Backbone,
    interpreter: Interpreter,
    tokenizer: Tokenizer,
    shapes: Shapes,
    device: SelectedDevice,
    name: String,
    vocabulary: usize,
    options: TextModelOptions,
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
        self.interpreter.task()
    }

    /// The most tokens one text may have, the special ones counted in.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.tokenizer.max_tokens()
    }

    /// Token ids of one text, as the encoder gets them.
    ///
    /// # Errors
    ///
    /// The failure that [`infer`](Model::infer) would give this text.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, Failure> {
        self.tokenizer.encode(text)
    }

    /// One run of the encoder over texts that fit `shape`, `[rows, tokens]`.
    fn run(&self, texts: &[&[u32]], shape: [usize; 2]) -> Result<Vec<TextOutput>, Failure> {
        let (values, width) = self.compute(texts, shape)?;
        Ok(values.chunks(width).take(texts.len()).map(|row| self.interpreter.output(row)).collect())
    }

    /// The numbers of such a run, a row for each text and for each row of padding, and how many a row has.
    fn compute(&self, texts: &[&[u32]], shape: [usize; 2]) -> Result<(Vec<f32>, usize), Failure> {
        self.backbone.compute(&self.interpreter, texts, shape)
    }

    /// The same model on the CPU, for a device whose results are to be checked.
    fn on_cpu(&self) -> Result<Self, Error> {
        Self::load(&TextModelOptions { device: DeviceChoice::Cpu, ..self.options.clone() })
    }
}

impl Model for TextModel {
    type Input = String;
    type Output = TextOutput;

    fn infer(&mut self, batch: &[String]) -> Result<Vec<Result<TextOutput, Failure>>, Failure> {
        let tokens: Vec<Result<Tokens, Failure>> =
            batch.iter().map(|text| self.tokenizer.encode(text)).collect();
        let mut results: Vec<_> =
            tokens.iter().map(|text| text.as_ref().err().cloned().map(Err)).collect();
        let lengths: Vec<_> = tokens
            .iter()
            .enumerate()
            .filter_map(|(index, text)| text.as_ref().ok().map(|text| (index, text.len())))
            .collect();
        for part in plan::parts(lengths, &self.shapes) {
            let texts: Vec<_> =
                part.members.iter().filter_map(|&member| tokens[member].as_deref().ok()).collect();
            for (&member, output) in part.members.iter().zip(self.run(&texts, part.shape)?) {
                results[member] = Some(Ok(output));
            }
        }
        let missing = || Failure::new("internal", "a text was left out of its batch");
        Ok(results.into_iter().map(|result| result.unwrap_or_else(|| Err(missing()))).collect())
    }

    /// Compiles the kernels of every shape, and checks that the device gives the CPU's numbers for it.
    fn warm_up(&mut self, progress: &mut dyn FnMut(WarmUp)) -> Result<(), Error> {
        let shapes = self.shapes.all();
        let cpu = if shapes.is_empty() { None } else { Some(self.on_cpu()?) };
        let total = shapes.len();
        for (index, [rows, length]) in shapes.into_iter().enumerate() {
            let shape = format!("{rows} texts of {length} tokens");
            if let Some(cpu) = &cpu {
                check::check(self, cpu, [rows, length], &shape)?;
            }
            progress(WarmUp { done: index + 1, total, shape });
        }
        Ok(())
    }

    fn describe(&self) -> String {
        format!("{} on {}", self.name, self.device.reason())
    }
}
