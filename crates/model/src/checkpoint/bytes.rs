//! Reading a file's bytes, and naming the formats that are often found in place of the right one.

use std::path::Path;

use crate::{Error, FormatError};

/// Reads a text file and returns its UTF-8 bytes, without the byte order mark with which some
/// editors begin it.
pub(crate) fn read_text(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = read(path)?;
    if let Some(encoding) = other_encoding(&bytes) {
        return Err(FormatError::Encoding { path: path.into(), encoding }.into());
    }
    if bytes.starts_with(UTF_8_MARK) {
        bytes.drain(..UTF_8_MARK.len());
    }
    Ok(bytes)
}

/// Reads a file, which must not be a pointer of Git LFS.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Err(FormatError::LfsPointer { path: path.into() }.into());
    }
    Ok(bytes)
}

const UTF_8_MARK: &[u8] = b"\xef\xbb\xbf";

/// Returns the name of an encoding other than UTF-8, recognised by its byte order mark, or by the
/// zeros beside the first character.
fn other_encoding(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] | [0, 0, 0, _, ..] | [_, 0, 0, 0, ..] => {
            Some("UTF-32")
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => Some("UTF-16"),
        _ => None,
    }
}
