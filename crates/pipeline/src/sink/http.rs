//! `[sink.http]`: the responses to the requests of the HTTP source.

use std::ops::Range;

use forebay_http::{HttpSource, Reply};
use futures::future::BoxFuture;
use serde::Deserialize;
use toml::Spanned;
use toml::de::DeValue;

use super::{AttachSink, OpenSources, SinkEnd};
use crate::answer::Answer;
use crate::diagnostic::Problem;
use crate::error::RunError;
use crate::file::value;
use crate::source::AnySource;

/// `[sink.http]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpReplies {}

pub(crate) fn parse(
    settings: Spanned<DeValue<'_>>,
    sources: &[AnySource],
    span: Range<usize>,
) -> Result<HttpReplies, Problem> {
    let sink = value(settings)?;
    if !sources.iter().any(|source| matches!(source, AnySource::Http(_))) {
        let problem = Problem::new(
            "the HTTP sink needs an HTTP source: it answers that source's requests",
            span,
        );
        return Err(problem.help("add `[source.http]` with the address to listen at"));
    }
    Ok(sink)
}

impl SinkEnd for HttpReplies {
    fn title(&self) -> String {
        "http".to_owned()
    }

    fn open<'a>(
        &'a self,
        sources: &'a mut OpenSources,
    ) -> BoxFuture<'a, Result<AttachSink, RunError>> {
        let title = self.title();
        let Some(replies) = sources.http().map(HttpSource::replies) else {
            unreachable!("the plan has an HTTP source if it has an HTTP sink");
        };
        let reply = |answer: Answer| Reply { value: answer.value, error: answer.error };
        let attach: AttachSink = Box::new(move |answers, counts| {
            let replies = counts.delivered_by(replies, |reply: &Reply| reply.error.is_some());
            answers.named("reply").map(reply).sink(title, replies)
        });
        Box::pin(std::future::ready(Ok(attach)))
    }
}
