//! `JsonFile`: a JSON file whose errors name the file and the key.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::bytes;
use crate::Error;

/// A parsed JSON file with its path.
#[derive(Clone, Debug)]
pub struct JsonFile {
    path: PathBuf,
    value: Value,
}

impl JsonFile {
    /// Reads and parses the file at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::Json`] or [`FormatError`](crate::FormatError), naming the file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let value = serde_json::from_slice(&bytes::read_text(path)?)
            .map_err(|source| Error::Json { path: path.into(), source })?;
        Ok(Self { path: path.into(), value })
    }

    /// Does the same as [`read`](Self::read), but returns `None` if the file does not exist.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_if_there(path: &Path) -> Result<Option<Self>, Error> {
        match Self::read(path) {
            Ok(file) => Ok(Some(file)),
            Err(Error::Read { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the value of `key`, unless it is missing or `null`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    /// Returns the whole file's value.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Returns the keys and values of the file, except those that say nothing: `null`, `false`, and
    /// empty strings, lists and objects.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&str, &Value)> {
        let says_something = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(members) => !members.is_empty(),
            Value::Object(members) => !members.is_empty(),
            _ => true,
        };
        let all = self.value.as_object().into_iter().flatten();
        all.map(|(key, value)| (key.as_str(), value))
            .filter(move |(_, value)| says_something(value))
    }

    /// Returns the value of `key`, which must be a positive integer, such as `hidden_size`.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] if it is missing or not a positive integer.
    pub fn size(&self, key: &str) -> Result<usize, Error> {
        let number = self.get(key).and_then(Value::as_u64).filter(|&number| number > 0);
        number
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| self.bad(key, "a positive integer"))
    }

    /// Returns the value of `key`, which must be a number, or `default` if the key is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] if the value is not a number.
    pub fn number_or(&self, key: &str, default: f64) -> Result<f64, Error> {
        self.get(key)
            .map_or(Ok(default), |value| value.as_f64().ok_or_else(|| self.bad(key, "a number")))
    }

    /// Returns the value of `key`, which must be true or false, or `default` if the key is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] if the value is neither.
    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool, Error> {
        self.get(key).map_or(Ok(default), |value| {
            value.as_bool().ok_or_else(|| self.bad(key, "true or false"))
        })
    }

    /// Returns the value of `key`, which must be a string, or `default` if the key is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] if the value is not a string.
    pub fn text_or<'a>(&'a self, key: &str, default: &'a str) -> Result<&'a str, Error> {
        self.get(key)
            .map_or(Ok(default), |value| value.as_str().ok_or_else(|| self.bad(key, "a string")))
    }

    /// Returns the error for a `key` that is missing or whose value is not valid.
    #[must_use]
    pub fn bad(&self, key: &str, expected: &'static str) -> Error {
        Error::Key { path: self.path.clone(), key: key.to_owned(), expected }
    }

    /// Returns the error for a `key` whose value `found` this version does not support.
    #[must_use]
    pub fn unsupported(&self, key: &str, found: &str, supported: impl Into<String>) -> Error {
        Error::Unsupported {
            path: self.path.clone(),
            key: key.to_owned(),
            found: found.to_owned(),
            supported: supported.into(),
        }
    }
}
