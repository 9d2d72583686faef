//! `DeviceChoice`: the user's choice of the device that a model computes on.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The user's choice of the device that a model computes on, and how it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// `auto`: the best GPU if there is one, otherwise the CPU.
    #[default]
    Auto,
    /// `gpu` or `gpu:N`: the best GPU, or the GPU with this number. If there is none, it is an
    /// error.
    Gpu(Option<usize>),
    /// `gpu:software`: a GPU that is emulated by the CPU, such as Mesa's llvmpipe. It is slow, and
    /// meant for tests.
    Software,
    /// `cpu`: the CPU.
    Cpu,
}

impl FromStr for DeviceChoice {
    type Err = InvalidDevice;

    fn from_str(text: &str) -> Result<Self, InvalidDevice> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu(None)),
            "gpu:software" => Ok(Self::Software),
            _ => text
                .strip_prefix("gpu:")
                .and_then(|number| number.parse().ok())
                .map(|number| Self::Gpu(Some(number)))
                .ok_or_else(|| InvalidDevice { given: text.to_owned() }),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Gpu(None) => f.write_str("gpu"),
            Self::Gpu(Some(number)) => write!(f, "gpu:{number}"),
            Self::Software => f.write_str("gpu:software"),
            Self::Cpu => f.write_str("cpu"),
        }
    }
}

/// The error for a text that is not a device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "unknown device `{given}`, expected one of `auto`, `gpu`, `gpu:0`, `gpu:1`, .., `gpu:software`, `cpu`"
)]
pub struct InvalidDevice {
    /// The text.
    pub given: String,
}

#[cfg(test)]
mod tests {
    use super::DeviceChoice;

    #[test]
    fn every_displayed_choice_parses_back() {
        for text in ["auto", "gpu", "gpu:0", "gpu:12", "gpu:software", "cpu"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_error_for_a_misspelt_device_lists_the_valid_ones() {
        for text in ["cuda", "gpu:-1", "gpu:", "GPU", ""] {
            let message = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(message.contains(&format!("unknown device `{text}`")), "{message}");
            assert!(message.contains("`auto`, `gpu`, `gpu:0`, `gpu:1`, .., `gpu:software`, `cpu`"));
        }
    }
}
