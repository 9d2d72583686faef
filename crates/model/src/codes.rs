//! The failure codes of models.

use forebay_stream::Code;

/// A batch that the device did not compute. The model is loaded again before the next one.
pub const DEVICE_FAILED: Code = Code::new(
    "device_failed",
    "The device did not compute the batch; if this happens often, look for the cause in the log \
     and in the device's driver.",
)
.transient();

/// A text without a result, which is a bug of Forebay.
pub const INTERNAL: Code =
    Code::new("internal", "Forebay has a bug; report it with the message and the request.");

/// From [`TextModel::tokenize`](crate::TextModel::tokenize).
pub const INVALID_TEXT: Code = Code::new(
    "invalid_text",
    "The model's tokenizer cannot process the text; see the message, and send another text.",
);

/// A panic in [`Model::infer`](crate::Model::infer). The model is built again before the next
/// batch.
pub const MODEL_PANICKED: Code = Code::new(
    "model_panicked",
    "The model's code panicked, and the model is loaded again; if this happens often, report it \
     with the message.",
)
.transient();

/// A call after the model's threads have ended.
pub const MODEL_UNAVAILABLE: Code = Code::new(
    "model_unavailable",
    "The model is not loaded, or could not be loaded again after a failure; look for the cause in \
     the log, and restart Forebay.",
);

/// From [`TextModel::tokenize`](crate::TextModel::tokenize).
pub const TEXT_TOO_LONG: Code = Code::new(
    "text_too_long",
    "The text has more tokens than the model takes; send a shorter one, or set `truncate = true`.",
);

/// All codes of this crate.
pub const ALL: &[Code] =
    &[DEVICE_FAILED, INTERNAL, INVALID_TEXT, MODEL_PANICKED, MODEL_UNAVAILABLE, TEXT_TOO_LONG];
