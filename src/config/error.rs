//! What is wrong with a configuration file, and where.

use std::fmt;

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// Line and column from 1, in characters; `None` if the mistake has no place in the file.
    pub position: Option<(usize, usize)>,
    /// The key, as `session.in_flight_max`, if it is about one.
    pub key: Option<String>,
    /// What is wrong and what was expected.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All mistakes in a file, in its order. Displayed one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects mistakes while a text is read.
#[derive(Debug)]
pub struct Collector<'t> {
    file: &'t str,
    text: &'t str,
    errors: Vec<(usize, ConfigError)>,
}

impl<'t> Collector<'t> {
    /// For the text of `file`.
    pub fn new(file: &'t str, text: &'t str) -> Self {
        Self {
            file,
            text,
            errors: Vec::new(),
        }
    }

    /// A mistake at a byte of the text.
    pub fn push(&mut self, at: usize, key: Option<String>, message: impl Into<String>) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        let error = ConfigError {
            file: self.file.into(),
            position: Some((line, column)),
            key,
            message: message.into(),
        };
        self.errors.push((at, error));
    }

    /// Whether there was none so far.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// All of them in the order of the text; the parser goes through keys in the order of their names.
    pub fn into_errors(mut self) -> ConfigErrors {
        self.errors.sort_by_key(|(at, _)| *at);
        ConfigErrors(self.errors.into_iter().map(|(_, error)| error).collect())
    }
}
