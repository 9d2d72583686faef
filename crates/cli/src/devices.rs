//! `forebay devices`: lists the devices on which a model can compute.

use std::process::ExitCode;

use forebay_model::{AvailableDevice, DeviceChoice, available_devices};
use serde_json::json;

use crate::print::line;

/// List the devices of this machine, and which of them `auto` takes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print a line of JSON for each device
    #[arg(long)]
    json: bool,
}

pub(crate) fn devices(args: &Args) -> anyhow::Result<ExitCode> {
    let devices = available_devices();
    for device in &devices {
        if args.json {
            line(as_json(device))?;
        } else {
            line(in_words(device))?;
        }
    }
    let auto = devices.iter().find(|device| device.is_auto);
    if let (false, Some(auto)) = (args.json, auto) {
        let why = match auto.choice {
            DeviceChoice::Cpu if cfg!(feature = "gpu") => "there is no GPU",
            DeviceChoice::Cpu => "this build has no GPU support",
            _ => "the best GPU",
        };
        line(format_args!("\nauto takes {}: {why}", auto.choice))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn in_words(device: &AvailableDevice) -> String {
    let AvailableDevice { choice, name, details, compiler, .. } = device;
    let kernels = match device.largest_buffer {
        Some(largest) => {
            let f16 = if device.has_f16 { "f16" } else { "no f16" };
            let units = match (device.has_matrix_units, device.uses_matrix_units()) {
                (_, true) => "matrix units in use",
                (true, false) => "matrix units unused: build with `--features spirv`",
                (false, false) => "no matrix units",
            };
            format!("kernels in {compiler}, {f16}, {units}, tensors up to {} MiB", largest >> 20)
        }
        None => format!("kernels for {compiler}"),
    };
    let refused = device.refused.map(|advice| format!("not usable: {advice}"));
    let lines = [Some(format!("{name} ({details})")), Some(kernels), refused];
    // The first line starts with the value of `device` that chooses it, and the others are indented
    // to match.
    let first = choice.to_string();
    let starts = [first.as_str(), "", ""];
    let lines = starts.iter().zip(lines.into_iter().flatten());
    lines.map(|(start, line)| format!("{start:<13} {line}")).collect::<Vec<_>>().join("\n")
}

fn as_json(device: &AvailableDevice) -> serde_json::Value {
    json!({
        "device": device.choice.to_string(),
        "name": device.name,
        "details": device.details,
        "kernels": device.compiler,
        "f16": device.has_f16,
        "matrix_units": { "present": device.has_matrix_units, "used": device.uses_matrix_units() },
        "largest_tensor_bytes": device.largest_buffer,
        "refused": device.refused,
        "auto": device.is_auto,
    })
}
