//! Falsifies answers before the ledger reads them, to show that the checks notice it.

use serde_json::Value;

use crate::request_format;
use crate::violation::Tamper;

/// Number of the first answer that may be falsified. The answers before it stay unchanged, so that
/// the run starts normally.
const AT: usize = 100;

/// The state of one falsification.
pub(crate) struct Tampering {
    tamper: Tamper,
    /// Number of answers so far.
    seen: usize,
    /// An earlier result: the one to swap, or the one whose value is copied.
    kept: Option<Value>,
    /// Whether the falsification has happened.
    done: bool,
}

impl Tampering {
    pub(crate) fn new(tamper: Tamper) -> Self {
        Self { tamper, seen: 0, kept: None, done: false }
    }

    /// Returns the answers that the ledger reads in place of `record`.
    pub(crate) fn alter(&mut self, record: &Value) -> Vec<Value> {
        self.seen += 1;
        let record = record.clone();
        match self.tamper {
            Tamper::Stall if self.seen >= AT => vec![],
            Tamper::Drop if self.seen == AT => vec![],
            Tamper::Duplicate if self.seen == AT => vec![record.clone(), record],
            Tamper::Partition if self.seen >= AT => self.in_another_partition(record),
            Tamper::Value if self.seen >= AT => self.with_another_value(record),
            Tamper::Swap if self.seen >= AT => self.swapped(record),
            _ => vec![record],
        }
    }

    fn in_another_partition(&mut self, mut record: Value) -> Vec<Value> {
        if is_keyed_result(&record) && !self.done {
            self.done = true;
            record["p"] = (record["p"].as_i64().unwrap_or_default() + 1).into();
        }
        vec![record]
    }

    fn with_another_value(&mut self, mut record: Value) -> Vec<Value> {
        match self.kept.take() {
            Some(other) if is_keyed_result(&record) && !self.done => {
                self.done = true;
                record["v"] = other["v"].clone();
            }
            _ => self.kept = is_keyed_result(&record).then(|| record.clone()),
        }
        vec![record]
    }

    /// Holds back one result until after the next result with the same key.
    fn swapped(&mut self, record: Value) -> Vec<Value> {
        if self.done || !is_keyed_result(&record) {
            return vec![record];
        }
        match self.kept.take() {
            None => {
                self.kept = Some(record);
                vec![]
            }
            Some(kept) if kept["k"] == record["k"] => {
                self.done = true;
                vec![record, kept]
            }
            Some(kept) => {
                self.kept = Some(kept);
                vec![record]
            }
        }
    }
}

fn is_keyed_result(record: &Value) -> bool {
    !request_format::is_error(record) && !record["k"].is_null()
}
