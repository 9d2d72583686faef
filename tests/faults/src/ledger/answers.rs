//! The ledger's page of answers: what was read, and what is wrong with it.

use serde_json::Value;
use tokio::time::Instant;

use super::{Due, Duplicates, Ledger, Order, Request, key_name};
use crate::client::{Offsets, offsets};
use crate::pipeline::Delivery;
use crate::request_format::{self, Kind};
use crate::violation::Invariant;

impl Ledger {
    /// What the client read from a topic of answers.
    pub(crate) fn read(&mut self, topic: &str, line: &Value) {
        for record in line["records"].as_array().into_iter().flatten() {
            let Some(tamper) = &mut self.tamper else {
                self.answered(record);
                continue;
            };
            for record in tamper.tell(record) {
                self.answered(&record);
            }
        }
        self.positions.entry(topic.to_owned()).or_default().extend(offsets(&line["positions"]));
        if let Some(error) = line["follow_error"].as_str() {
            self.add(Invariant::Progress.broken(format!("the independent reader: {error}")));
        }
    }

    fn answered(&mut self, answer: &Value) {
        let number = request_format::number(&self.tag, answer);
        let Some(number) = number.filter(|number| *number < self.requests.len()) else {
            self.add(Invariant::Identity.broken(format!("an answer to nothing: {answer}")));
            return;
        };
        let request = &mut self.requests[number];
        request.answers += 1;
        let Request { key, seq, kind, place, answers, due } = *request;
        if due == Due::Never {
            let text = format!("{}{number} was answered, and its sender had aborted it", self.tag);
            self.add(Invariant::Identity.broken(text));
        }
        let name = key.map(key_name);
        let name = name.as_deref();
        let fault = if request_format::is_dead_letter(answer) {
            self.figures.dead += usize::from(answers == 1);
            request_format::fault_of_dead_letter(&self.tag, number, name, seq, kind, place, answer)
        } else {
            request_format::fault(&self.tag, number, name, seq, kind, answer)
        };
        if let Some(fault) = fault {
            self.add(Invariant::Identity.broken(fault));
        }
        if answers > 1 {
            self.again(number, place);
            return;
        }
        self.figures.answered += 1;
        self.figures.digest =
            self.figures.digest.wrapping_add(request_format::digest(&self.tag, number, answer));
        self.figures.errors += usize::from(request_format::is_error(answer));
        if let Some(place) = place {
            self.close(place);
        }
        let ordered = match self.rules.order {
            Order::Results => kind == Kind::Good,
            Order::All => true,
            Order::None => false,
        };
        if ordered {
            self.in_order(number, key, seq);
        }
    }

    fn again(&mut self, number: usize, place: Option<(i32, i64)>) {
        self.figures.duplicates += 1;
        let id = format!("{}{number} at {place:?}", self.tag);
        if self.rules.delivery == Delivery::ExactlyOnce {
            self.add(Invariant::ExactlyOnce.broken(format!("{id} was answered twice")));
            return;
        }
        match self.rules.duplicates {
            Duplicates::None => {
                self.add(Invariant::BoundedDuplicates.broken(format!("{id} was answered twice")));
            }
            Duplicates::Bounded => {
                let floor = place.and_then(|(partition, offset)| {
                    self.floor.get(&partition).filter(|floor| offset < **floor)
                });
                if let Some(floor) = floor {
                    let text = format!("{id} was answered again though {floor} was committed");
                    self.add(Invariant::BoundedDuplicates.broken(text));
                }
            }
            Duplicates::Counted => {}
        }
    }

    fn close(&mut self, place: (i32, i64)) {
        self.open.remove(&place);
        let now = Instant::now();
        if let Some(last) = self.progress.insert(place.0, now) {
            self.figures.longest_silence = self.figures.longest_silence.max(now - last);
        }
    }

    fn in_order(&mut self, number: usize, key: Option<u16>, seq: u32) {
        let Some(key) = key else { return };
        let reached = self.reached.entry(key).or_default();
        if seq < *reached {
            let text = format!(
                "{}{number} is number {seq} of {} and was first answered after number {reached}",
                self.tag,
                key_name(key)
            );
            self.add(Invariant::KeyOrder.broken(text));
        } else {
            *reached = seq;
        }
    }

    /// A worker was killed when this was committed: what lies below is not answered again, and of what lies above as
    /// much may be as was answered, or in flight.
    pub(crate) fn killed(&mut self, committed: &Offsets, in_flight: usize) {
        let uncommitted = self.requests.iter().rev().filter(|request| {
            request.answers > 0
                && request.place.is_some_and(|(partition, offset)| {
                    offset >= committed.get(&partition).copied().unwrap_or(0)
                })
        });
        self.allowance += uncommitted.count() + in_flight;
        self.floor.clone_from(committed);
    }

    /// So many more requests may be answered twice.
    pub(crate) fn allow(&mut self, count: usize) {
        self.allowance += count;
    }
}
