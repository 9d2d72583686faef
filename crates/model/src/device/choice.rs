//! `DeviceChoice`: what a user writes to say where a model computes.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Where a model computes, as a user writes it.
///
/// # Examples
///
/// ```
/// use forebay_model::DeviceChoice;
///
/// assert_eq!("gpu:1".parse(), Ok(DeviceChoice::Gpu(Some(1))));
/// assert_eq!(DeviceChoice::default().to_string(), "auto");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// `auto`: the best GPU where there is one, else the CPU.
    #[default]
    Auto,
    /// `gpu` or `gpu:N`: a GPU, the best or the one with that number, and an error where there is none.
    Gpu(Option<usize>),
    /// `gpu:software`: a GPU played by the CPU, such as Mesa's llvmpipe. Slow, for tests.
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

/// A text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "unknown device `{given}`, expected one of `auto`, `gpu`, `gpu:0`, `gpu:1`, .., `gpu:software`, `cpu`"
)]
pub struct InvalidDevice {
    /// What was written.
    pub given: String,
}

#[cfg(test)]
mod tests {
    use super::DeviceChoice;

    #[test]
    fn every_choice_reads_back_what_it_writes() {
        for text in ["auto", "gpu", "gpu:0", "gpu:12", "gpu:software", "cpu"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_misspelt_device_is_answered_with_the_valid_ones() {
        for text in ["cuda", "gpu:-1", "gpu:", "GPU", ""] {
            let message = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(message.contains(&format!("unknown device `{text}`")), "{message}");
            assert!(message.contains("`auto`, `gpu`, `gpu:0`, `gpu:1`, .., `gpu:software`, `cpu`"));
        }
    }
}
