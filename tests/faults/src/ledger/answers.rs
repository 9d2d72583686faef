//! The answers in the ledger, and the checks of each answer.

use serde_json::Value;
use tokio::time::Instant;

use super::{Due, Duplicates, Ledger, Order, Request, key_name};
use crate::client::{Offsets, offsets};
use crate::pipeline::Delivery;
use crate::request_format::{self, Kind};
use crate::violation::Invariant;

impl Ledger {
    /// Takes records that the client read from a topic of replies or dead letters.
    pub(crate) fn read(&mut self, topic: &str, line: &Value) {
        for record in line["records"].as_array().into_iter().flatten() {
            let Some(tamper) = &mut self.tamper else {
                self.take_answer(record);
                continue;
            };
            for record in tamper.alter(record) {
                self.take_answer(&record);
            }
        }
        self.positions.entry(topic.to_owned()).or_default().extend(offsets(&line["positions"]));
        if let Some(error) = line["follow_error"].as_str() {
            self.add(
                Invariant::Progress.broken(format!("the Java client cannot read {topic}: {error}")),
            );
        }
    }

    fn take_answer(&mut self, answer: &Value) {
        let number = request_format::number(&self.tag, answer);
        let Some(number) = number.filter(|number| *number < self.requests.len()) else {
            self.add(
                Invariant::Identity.broken(format!("an answer to no known request: {answer}")),
            );
            return;
        };
        let request = &mut self.requests[number];
        request.answers += 1;
        let Request { key, seq, kind, origin, answers, due } = *request;
        if due == Due::Never {
            let text = format!("{}{number} was answered, but its sender aborted it", self.tag);
            self.add(Invariant::Identity.broken(text));
        }
        let name = key.map(key_name);
        let name = name.as_deref();
        let fault = if request_format::is_dead_letter(answer) {
            self.figures.dead += usize::from(answers == 1);
            request_format::fault_of_dead_letter(&self.tag, number, name, seq, kind, origin, answer)
        } else {
            request_format::fault(&self.tag, number, name, seq, kind, answer)
        };
        if let Some(fault) = fault {
            self.add(Invariant::Identity.broken(fault));
        }
        if answers > 1 {
            self.take_duplicate(number, origin);
            return;
        }
        self.figures.answered += 1;
        self.figures.digest =
            self.figures.digest.wrapping_add(request_format::digest(&self.tag, number, answer));
        self.figures.errors += usize::from(request_format::is_error(answer));
        if let Some(origin) = origin {
            self.mark_answered(origin);
        }
        let ordered = match self.rules.order {
            Order::Results => kind == Kind::Good,
            Order::All => true,
            Order::None => false,
        };
        if ordered {
            self.check_key_order(number, key, seq);
        }
    }

    fn take_duplicate(&mut self, number: usize, origin: Option<(i32, i64)>) {
        self.figures.duplicates += 1;
        let id = format!("{}{number} at {origin:?}", self.tag);
        if self.rules.delivery == Delivery::ExactlyOnce {
            self.add(Invariant::ExactlyOnce.broken(format!("{id} was answered twice")));
            return;
        }
        match self.rules.duplicates {
            Duplicates::None => {
                self.add(Invariant::BoundedDuplicates.broken(format!("{id} was answered twice")));
            }
            Duplicates::Bounded => {
                let floor = origin.and_then(|(partition, offset)| {
                    self.floor.get(&partition).filter(|floor| offset < **floor)
                });
                if let Some(floor) = floor {
                    let text =
                        format!("{id} was answered again, although offset {floor} was committed");
                    self.add(Invariant::BoundedDuplicates.broken(text));
                }
            }
            Duplicates::Counted => {}
        }
    }

    fn mark_answered(&mut self, origin: (i32, i64)) {
        self.open.remove(&origin);
        let now = Instant::now();
        if let Some(last) = self.progress.insert(origin.0, now) {
            self.figures.longest_silence = self.figures.longest_silence.max(now - last);
        }
    }

    fn check_key_order(&mut self, number: usize, key: Option<u16>, seq: u32) {
        let Some(key) = key else { return };
        let reached = self.reached.entry(key).or_default();
        if seq < *reached {
            let text = format!(
                "{}{number} is request {seq} of {}, but was first answered after request {reached}",
                self.tag,
                key_name(key)
            );
            self.add(Invariant::KeyOrder.broken(text));
        } else {
            *reached = seq;
        }
    }

    /// Notes that after a fault another worker may read again from the offsets `committed`.
    /// Requests below these offsets must not be answered again. Duplicates are allowed for the
    /// later requests that are already answered, and for `in_flight` more.
    pub(crate) fn take_over(&mut self, committed: &Offsets, in_flight: usize) {
        let uncommitted = self.requests.iter().rev().filter(|request| {
            request.answers > 0
                && request.origin.is_some_and(|(partition, offset)| {
                    offset >= committed.get(&partition).copied().unwrap_or(0)
                })
        });
        self.allowance += uncommitted.count() + in_flight;
        self.floor.clone_from(committed);
    }

    /// Allows `count` more duplicates.
    pub(crate) fn allow_duplicates(&mut self, count: usize) {
        self.allowance += count;
    }
}
