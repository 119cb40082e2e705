//! What the subcommands do, beyond starting the broker.
//!
//! Called by `main`, one module for each. They print to standard output and give the exit code of a failure
//! with its cause.

pub mod admin;
mod client;
pub mod doctor;
pub mod import;
pub mod manual;
pub mod reload;

/// Why a command ends without having done what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One of `runtime::exit_code`.
    pub exit_code: u8,
    /// For people.
    pub cause: String,
}

impl Failure {
    /// With a cause that can be displayed.
    pub fn new(exit_code: u8, cause: impl ToString) -> Self {
        Self {
            exit_code,
            cause: cause.to_string(),
        }
    }
}
