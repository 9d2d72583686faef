//! Keeps the events of commits apart from requests.

use super::wiring::{Draft, From};
use super::{NodeRef, Port};
use crate::diagnostic::Problem;
use crate::step::Operator;

/// The steps of a plan, and what they take from.
pub(super) struct Commits<'a> {
    pub(super) drafts: &'a [Draft],
    pub(super) inputs: &'a [From],
    pub(super) flushes: &'a [Option<Port>],
    /// The number of sources that are tables of the file. The sources after them are the commits of
    /// Kafka sources.
    pub(super) tables: usize,
}

impl Commits<'_> {
    /// Tells for each step whether it takes the events of commits, and refuses a step that takes
    /// them and something else. `order` has each step after those that it takes from.
    ///
    /// A commit follows the answers to its requests. A step that joins both, such as a `zip`, could
    /// make requests wait for their own commit, and the flow could not end while requests wait in
    /// it.
    pub(super) fn steps(&self, order: &[usize]) -> Result<Vec<bool>, Problem> {
        let mut steps = vec![false; self.drafts.len()];
        for &step in order {
            // A value that comes back through a `feedback` has been a value of its loop before.
            let enters = |port: &&Port| !matches!(port.node, NodeRef::Step(from) if matches!(self.drafts[from].operator, Operator::Feedback(_)));
            let ports = self.inputs[step].iter().map(|(port, _)| port).chain(&self.flushes[step]);
            let kinds: Vec<bool> =
                ports.filter(enters).map(|port| self.is_of_commits(*port, &steps)).collect();
            steps[step] = kinds.contains(&true);
            if steps[step] && kinds.contains(&false) {
                let draft = &self.drafts[step];
                let message = format_args!(
                    "`{}` joins committed offsets with other values, so a commit could wait for itself",
                    draft.kind
                );
                return Err(Problem::new(message, draft.span.clone()).help(
                    "an offset is committed after its requests are answered; give the committed offsets steps and a sink of their own",
                ));
            }
        }
        Ok(steps)
    }

    /// Returns whether the values of a port are the events of commits.
    pub(super) fn is_of_commits(&self, port: Port, steps: &[bool]) -> bool {
        match port.node {
            NodeRef::Source(source) => source >= self.tables,
            NodeRef::Step(step) => steps[step],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::plan::Plan;
    use crate::source::AnySource;

    /// Returns a plan with two sinks: one for the answers, and one for the offsets of `commits`,
    /// which have passed the step `step`.
    fn plan(head: &str, step: &str, sink: &str) -> Result<Plan, String> {
        let text = format!(
            "{head}\n[source.kafka]\nbrokers = \"a:9092\"\ntopic = \"in\"\ngroup = \"g\"\nmax_in_flight = 8\n\
             committed = \"commits\"\n[[step]]\nname = \"answers\"\nmap = \".\"\n\
             [[step]]\nname = \"step\"\nfrom = \"commits\"\n{step}\n\
             {sink}\nfrom = \"step\"\n[[sink.kafka]]\nfrom = \"answers\"\ntopic = \"out\"\n"
        );
        Plan::parse(Path::new("pipeline.toml"), &text, &|_| None).map_err(|error| error.to_string())
    }

    #[test]
    fn committed_offsets_are_no_requests() {
        // None of these is allowed for requests.
        for (head, step) in [
            ("delivery = \"exactly_once\"", "accumulate = { init = 0, step = \". + 1\" }"),
            ("delivery = \"exactly_once\"", "timed_window = \"1s\""),
            ("", "partition = 9"),
            ("order = \"key\"", "map = \".\""),
        ] {
            for sink in
                ["[sink.stdout]", "[[sink.kafka]]\nbrokers = \"b:9092\"\ntopic = \"commits\""]
            {
                let plan = plan(head, step, sink).unwrap();
                let kinds: Vec<_> = plan.sources.iter().map(AnySource::is_committed).collect();
                assert_eq!(kinds, [false, true]);
                let of_commits: Vec<_> = plan.sinks.iter().map(|sink| sink.of_commits).collect();
                assert_eq!(of_commits.iter().filter(|of_commits| **of_commits).count(), 1);
                let drawn = plan.graph().to_mermaid();
                assert!(drawn.contains("committed: in"), "{drawn}");
            }
        }
        let refused = plan("delivery = \"exactly_once\"", "map = \".\"", "[sink.drop]");
        assert!(refused.is_ok(), "{refused:?}");
    }

    #[test]
    fn a_loop_may_hold_committed_offsets() {
        let steps = "from = [\"commits\", \"again\"]\nunion = {}\n[[step]]\nname = \"more\"\nsplit = \".offset < 3\"\n\
                     [[step]]\nfrom = \"more.true\"\nmap = \".offset += 1\"\n[[step]]\nname = \"again\"\nfeedback = {}";
        let text = |rest: &str| {
            format!(
                "[source.kafka]\nbrokers = \"a:9092\"\ntopic = \"in\"\ngroup = \"g\"\ncommitted = \"commits\"\n\
                 [[step]]\n{steps}\n{rest}[[sink.drop]]\nfrom = \"kafka\"\n[[sink.stdout]]\nfrom = \"out\"\n"
            )
        };
        let parse = |text: &str| Plan::parse(Path::new("pipeline.toml"), text, &|_| None);
        parse(&text("[[step]]\nname = \"out\"\nfrom = \"more.false\"\nmap = \".\"\n")).unwrap();
        let joined = "[[step]]\nname = \"out\"\nfrom = [\"more.false\", \"kafka\"]\nzip = {}\n";
        let error = parse(&text(joined)).unwrap_err().to_string();
        assert!(error.contains("`zip` joins committed offsets with other values"), "{error}");
    }

    #[test]
    fn standard_input_in_place_of_kafka_commits_nothing() {
        let plan = plan("", "map = \".\"", "[sink.drop]").unwrap().on_stdio().unwrap();
        let [AnySource::Stdin(_), AnySource::Committed(committed)] = &plan.sources[..] else {
            panic!("{plan:?}");
        };
        assert_eq!(committed.of, None);
    }
}
