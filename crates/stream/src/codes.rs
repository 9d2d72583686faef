//! The failure codes of the operators.

use crate::Code;

/// From [`Flow::buffer`](crate::Flow::buffer) with [`Overflow::Fail`](crate::Overflow::Fail).
pub const BUFFER_FULL: Code = Code::new(
    "buffer_full",
    "A `buffer` that fails on overflow is full; send the request again later.",
);

/// From [`Feedback::connect`](crate::Feedback::connect).
pub const FEEDBACK_FULL: Code = Code::new(
    "feedback_full",
    "The queue of a `feedback` loop is full; make its `capacity` larger, or send fewer values \
     back.",
);

/// From [`Feedback::connect`](crate::Feedback::connect).
pub const FEEDBACK_TURNS: Code = Code::new(
    "feedback_turns",
    "A value has gone round a `feedback` loop as often as it may; let a step end it, or make the \
     loop's `max_turns` larger.",
);

/// From [`Flow::pluck`](crate::Flow::pluck), and from requests without a text.
pub const MISSING_FIELD: Code = Code::new(
    "missing_field",
    "The request lacks a field that a step or the model needs; send the field.",
);

/// From [`Flow::frequencies`](crate::Flow::frequencies).
pub const TOO_MANY_VALUES: Code = Code::new(
    "too_many_values",
    "A `frequencies` step already counts as many different values as it may; make its `capacity` \
     larger.",
);

/// From [`Batches::map_batch`](crate::Batches::map_batch), and from models.
pub const WRONG_RESULT_COUNT: Code = Code::new(
    "wrong_result_count",
    "A model or an expression did not return one result for each member of its batch; correct it.",
);

/// All codes of this crate.
pub const ALL: &[Code] = &[
    BUFFER_FULL,
    FEEDBACK_FULL,
    FEEDBACK_TURNS,
    MISSING_FIELD,
    TOO_MANY_VALUES,
    WRONG_RESULT_COUNT,
];
