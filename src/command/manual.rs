//! `ringmq man` and `ringmq completions`: made from the definition of the command line, so they cannot be wrong
//! about it.

use std::io;

use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli;
use crate::runtime::exit_code;

use super::Failure;

/// The manual page of the program, or of one of its commands.
///
/// # Errors
/// There is no such command.
pub fn page(command: Option<&str>) -> Result<Vec<u8>, Failure> {
    let whole = cli::definition();
    let mut page = Vec::new();
    let written = match command {
        None => Man::new(whole)
            .render(&mut page)
            .and_then(|()| more(&mut page)),
        Some(name) => {
            let found = whole.find_subcommand(name).cloned().ok_or_else(|| {
                let cause = format!("there is no command \"{name}\"; ringmq --help lists them");
                Failure::new(exit_code::CONFIGURATION, cause)
            })?;
            Man::new(found).render(&mut page)
        }
    };
    written.map_err(|error| Failure::new(exit_code::UNEXPECTED, error))?;
    Ok(page)
}

/// What the definition does not say: exit codes, signals, files.
fn more(page: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::default();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in exit_code::ALL {
        roff.control("TP", []);
        roff.text([bold(code.to_string())]);
        roff.text([roman(meaning)]);
    }
    let lists = [
        (
            "SIGNALS",
            &[
                (
                    "SIGHUP",
                    "read the configuration again, as ringmq reload asks for it",
                ),
                (
                    "SIGTERM, SIGINT",
                    "tell the clients and end; a second one ends at once",
                ),
            ][..],
        ),
        (
            "FILES",
            &[
                (
                    "/etc/ringmq/ringmq.toml",
                    "the configuration of the service; ringmq explain describes its keys",
                ),
                (
                    "/run/ringmq",
                    "the runtime directory of the service: pid, running.toml, reload",
                ),
                ("/var/lib/ringmq", "the data of the service"),
            ],
        ),
    ];
    for (title, list) in lists {
        roff.control("SH", [title]);
        for (name, meaning) in list {
            roff.control("TP", []);
            roff.text([bold(*name)]);
            roff.text([roman(*meaning)]);
        }
    }
    roff.to_writer(page)
}

/// What a shell reads to complete arguments.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::definition(), "ringmq", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(command: Option<&str>) -> String {
        String::from_utf8(page(command).unwrap()).unwrap()
    }

    #[test]
    fn every_command_has_a_page_and_the_program_names_them_all() {
        let whole = text(None);
        assert!(whole.contains(".TH ringmq 1"), "{whole}");
        for part in ["EXIT STATUS", "SIGHUP", "/etc/ringmq/ringmq.toml"] {
            assert!(whole.contains(part), "{part}");
        }
        for (code, meaning) in exit_code::ALL {
            assert!(whole.contains(meaning), "{code}");
        }
        for command in cli::definition().get_subcommands() {
            let name = command.get_name();
            assert!(whole.contains(name), "{name}");
            let page = text(Some(name));
            assert!(page.contains(&format!("ringmq\\-{name}")), "{page}");
        }
        assert!(page(Some("fly")).is_err());
    }

    #[test]
    fn shells_know_commands_and_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(completions(shell)).unwrap();
            for word in ["reload", "dry-run", "print-config"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
