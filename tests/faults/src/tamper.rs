//! Falsifies answers on their way to the ledger, so that a check can be seen to fail.

use serde_json::Value;

use crate::request_format;
use crate::violation::Tamper;

/// The answer that is lied about; those before it are true, so that a run has begun well.
const AT: usize = 100;

pub(crate) struct Tampering {
    tamper: Tamper,
    seen: usize,
    kept: Option<Value>,
    done: bool,
}

impl Tampering {
    pub(crate) fn new(tamper: Tamper) -> Self {
        Self { tamper, seen: 0, kept: None, done: false }
    }

    /// What the ledger gets to see instead of an answer.
    pub(crate) fn tell(&mut self, record: &Value) -> Vec<Value> {
        self.seen += 1;
        let record = record.clone();
        match self.tamper {
            Tamper::Stall if self.seen >= AT => vec![],
            Tamper::Drop if self.seen == AT => vec![],
            Tamper::Duplicate if self.seen == AT => vec![record.clone(), record],
            Tamper::Partition if self.seen >= AT => self.elsewhere(record),
            Tamper::Value if self.seen >= AT => self.exchanged(record),
            Tamper::Swap if self.seen >= AT => self.swapped(record),
            _ => vec![record],
        }
    }

    fn elsewhere(&mut self, mut record: Value) -> Vec<Value> {
        if is_keyed_result(&record) && !self.done {
            self.done = true;
            record["p"] = (record["p"].as_i64().unwrap_or_default() + 1).into();
        }
        vec![record]
    }

    fn exchanged(&mut self, mut record: Value) -> Vec<Value> {
        match self.kept.take() {
            Some(other) if is_keyed_result(&record) && !self.done => {
                self.done = true;
                record["v"] = other["v"].clone();
            }
            _ => self.kept = is_keyed_result(&record).then(|| record.clone()),
        }
        vec![record]
    }

    /// Keeps one result back until the next one of its key has passed.
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
