//! The progress of a starting pipeline: bars if standard error is a terminal, otherwise log lines.

use std::io;

use forebay_model::Download;
use forebay_pipeline::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// All bars of the process, in one set, so that log lines and bars do not overwrite each other.
static BARS: std::sync::LazyLock<MultiProgress> = std::sync::LazyLock::new(MultiProgress::new);

/// Returns a writer to standard error for log lines, which are printed above the bars.
pub(crate) fn log_writer() -> impl io::Write {
    struct AboveBars;
    impl io::Write for AboveBars {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            BARS.suspend(|| io::stderr().write(bytes))
        }

        fn flush(&mut self) -> io::Result<()> {
            io::stderr().flush()
        }
    }
    io::LineWriter::new(AboveBars)
}

/// Returns a bar of `length` steps on standard error, which is hidden if that is not a terminal.
pub(crate) fn bar(length: u64, message: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    BARS.add(ProgressBar::new(length)).with_style(style).with_message(message.to_owned())
}

/// Returns a bar of `length` bytes.
fn bytes_bar(length: u64, message: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    BARS.add(ProgressBar::new(length)).with_style(style).with_message(message.to_owned())
}

/// Returns an observer that shows the start of a pipeline.
pub(crate) fn show() -> impl FnMut(Progress) + Send + 'static {
    let mut warm_up: Option<ProgressBar> = None;
    let mut download: Option<(String, ProgressBar)> = None;
    move |progress| match progress {
        Progress::Loading { model } => tracing::info!(model, "loading"),
        Progress::Download { model, download: Download { file, done, total } } => {
            let is_new = download.as_ref().is_none_or(|(known, _)| *known != file);
            if is_new && let Some((_, last)) = download.take() {
                last.finish_and_clear();
            }
            let (_, bar) = download.get_or_insert_with(|| {
                tracing::info!(model, file, bytes = total, "downloading");
                (file.clone(), bytes_bar(total, &file))
            });
            bar.set_position(done);
            if done == total {
                bar.finish_and_clear();
            }
        }
        Progress::WarmUp { model, step } => {
            let bar = warm_up
                .get_or_insert_with(|| bar(step.total as u64, &format!("warming up {model}")));
            if bar.is_hidden() {
                tracing::info!(
                    model,
                    step = step.done,
                    of = step.total,
                    shape = step.shape,
                    "warming up"
                );
            }
            bar.set_position(step.done as u64);
        }
        Progress::Loaded { model, description } => {
            if let Some(bar) = warm_up.take() {
                bar.finish_and_clear();
            }
            tracing::info!(model, "{description}");
        }
        Progress::Ready { .. } => tracing::info!("ready"),
        _ => {}
    }
}
