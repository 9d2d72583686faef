//! `forebay devices`: where a model can compute on this machine.

use std::process::ExitCode;

use forebay_model::{AvailableDevice, available_devices};
use serde_json::json;

use crate::print::line;

/// List the devices of this machine, the one that `auto` takes first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print a line of JSON for each device
    #[arg(long)]
    json: bool,
}

pub(crate) fn devices(args: &Args) -> anyhow::Result<ExitCode> {
    let devices = available_devices();
    // A software adapter is for tests, and has to be asked for.
    let auto = devices.iter().find(|device| device.choice.is_taken_by_auto());
    for device in &devices {
        if args.json {
            line(as_json(device, Some(device) == auto))?;
        } else {
            line(in_words(device))?;
        }
    }
    if let (false, Some(auto)) = (args.json, auto) {
        let why = match auto.compiler {
            "SPIR-V" | "WGSL" => "the best GPU",
            _ => "there is no GPU",
        };
        line(format_args!("\nauto takes {}: {why}", auto.choice))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn in_words(device: &AvailableDevice) -> String {
    let mut text =
        format!("{:<13} {} ({})\n", device.choice.to_string(), device.name, device.details);
    let is_gpu = device.largest_buffer.is_some();
    if is_gpu {
        let f16 = if device.has_f16 { "f16" } else { "no f16" };
        let units = match (device.has_matrix_units, device.uses_matrix_units) {
            (_, true) => "matrix units in use",
            (true, false) => "matrix units unused: build with `--features spirv`",
            (false, false) => "no matrix units",
        };
        let largest = device.largest_buffer.unwrap_or_default() >> 20;
        text += &format!(
            "{:13} kernels in {}, {f16}, {units}, tensors up to {largest} MiB",
            "", device.compiler
        );
    } else {
        text += &format!("{:13} kernels for {}", "", device.compiler);
    }
    if let Some(advice) = device.refused {
        text += &format!("\n{:13} not usable: {advice}", "");
    }
    text
}

fn as_json(device: &AvailableDevice, auto: bool) -> serde_json::Value {
    json!({
        "device": device.choice.to_string(),
        "name": device.name,
        "details": device.details,
        "kernels": device.compiler,
        "f16": device.has_f16,
        "matrix_units": { "present": device.has_matrix_units, "used": device.uses_matrix_units },
        "largest_tensor_bytes": device.largest_buffer,
        "refused": device.refused,
        "auto": auto,
    })
}
