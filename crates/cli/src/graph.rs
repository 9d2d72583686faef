//! `forebay graph`: draws a pipeline file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use forebay_pipeline::{Plan, svg};

use crate::print::line;

/// Draw a pipeline file without connecting to anything
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The pipeline file
    file: PathBuf,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// For Markdown pages
    #[default]
    Mermaid,
    /// For Graphviz
    Dot,
    /// An image
    Svg,
}

pub(crate) fn graph(args: &Args) -> anyhow::Result<ExitCode> {
    let graph = Plan::load(&args.file)?.graph();
    match args.format {
        Format::Mermaid => line(graph.to_mermaid().trim_end())?,
        Format::Dot => line(graph.to_dot().trim_end())?,
        Format::Svg => line(svg(&graph).trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}
