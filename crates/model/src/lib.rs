//! Models that answer batches: the `Model` trait, the thread that each model lives on, and text
//! models in the Hugging Face layout, run by Burn on a GPU (wgpu) or by `forebay-cpu-encoder` on
//! the CPU.
//!
//! A [`Model`] turns a batch of inputs into one result per input. [`ModelHandle::spawn`] puts it on
//! its own thread and returns an asynchronous handle, which the operator `map_batch` calls.
//! [`TextModel`] is the model that comes with Forebay. A program can use other models by
//! implementing the trait; [`burn`] is re-exported for them.
//!
//! Two features are on by default. Without `gpu`, Burn's wgpu backend is not compiled and
//! [`DeviceChoice::Auto`] is the CPU. Without `hub`, there is no client of the Hugging Face Hub, and
//! models come from directories.

mod architecture;
pub mod checkpoint;
pub mod codes;
mod cpu;
mod device;
mod device_clock;
mod device_schedule;
pub mod encoder;
mod error;
mod format_error;
mod handle;
mod hub;
mod model;
mod replicas;
mod text;
mod work;
mod worker;

pub use architecture::Architecture;
pub use burn;
pub use device::{AvailableDevice, DeviceChoice, InvalidDevice, SelectedDevice, available_devices};
pub use error::Error;
pub use format_error::FormatError;
pub use handle::ModelHandle;
pub use hub::{Download, Hub, HubModel, is_hub_name};
pub use model::{Launched, Model, WarmUp};
pub use replicas::Replicas;
pub use text::{
    ClassificationOptions, CpuReference, EmbeddingOptions, Label, PoolingMode, Precision, Scores,
    Task, TextHandle, TextModel, TextModelOptions, TextOutput, Tokens, UnknownName,
};
pub use work::Work;
