//! `forebay check`: checks pipeline files without connecting to anything.

use std::path::PathBuf;
use std::process::ExitCode;

use forebay_pipeline::Plan;

use crate::print::line;
use crate::{LogFormat, exit};

/// Check pipeline files without connecting to anything
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The pipeline files
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

pub(crate) fn check(args: &Args, log_format: LogFormat) -> ExitCode {
    let mut worst = 0;
    for file in &args.files {
        let checked = Plan::load(file).and_then(|plan| plan.check_models());
        let result = checked
            .map_err(anyhow::Error::from)
            .and_then(|()| line(format_args!("{}: ok", file.display())));
        if let Err(error) = result {
            worst = worst.max(exit::report(&error, log_format));
        }
    }
    worst.into()
}
