//! The command line: what `ringmq` is asked to do.
//!
//! Called by `main`. Arguments override the configuration file. Usage errors end the process with exit code
//! 2, as clap does it.

pub mod admin;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::address::ListenAddress;
use crate::config::cpu_list::parse_cpu_list;
use crate::config::keys::LOG_LEVELS;
use crate::config::limits::{Durability, SHARDS_MAX};
use crate::config::{self, Config, ConfigErrors, Listener, LogFormat, Profile};

#[derive(Debug, Parser)]
#[command(
    name = "ringmq",
    version,
    about,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Subcommands>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Run the broker (the default)
    Run(RunArguments),
    /// Check a configuration file and name all its mistakes
    Check {
        /// The configuration file
        file: PathBuf,
        /// Also explain a key or a section, or all of them
        #[arg(long, value_name = "KEY")]
        explain: Option<Option<String>>,
    },
    /// Write another broker's configuration as one of ours, and list what needs a look
    Import {
        /// A mosquitto.conf
        file: PathBuf,
        /// Write the configuration here instead of to standard output
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Compare this machine with a profile and say what to change; changes nothing
    Doctor(DoctorArguments),
    /// Add, remove or verify a user of a password file
    Passwd {
        /// The password file
        file: PathBuf,
        /// What to do; add also changes a password
        #[arg(value_enum)]
        action: PasswordAction,
        /// The user name
        user: String,
        /// With add: also the keys for the SCRAM methods
        #[arg(long)]
        scram: bool,
    },
    /// Let a running broker read its configuration again; the difference is printed
    Reload(ReloadArguments),
    /// See into a running broker, act on it, or speak MQTT with one
    #[command(flatten)]
    Admin(admin::AdminCommand),
    /// Look into a data directory that no broker is using
    Store {
        /// What to do
        #[command(subcommand)]
        action: StoreAction,
    },
    /// Print the manual page, as roff
    Man {
        /// Of a command instead of the program
        command: Option<String>,
    },
    /// Print what a shell reads to complete arguments
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Explain a key or a section of the configuration file, or all of them
    Explain {
        /// Like session.in_flight_max, in_flight_max or session
        key: Option<String>,
    },
}

/// What to do with a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum StoreAction {
    /// Read all of it and say what is damaged; exit code 6 if anything is
    Check {
        /// The data directory
        dir: PathBuf,
    },
    /// Print every record, a line each
    Dump {
        /// The data directory
        dir: PathBuf,
    },
    /// Print how much of what it holds
    Stats {
        /// The data directory
        dir: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum PasswordAction {
    Add,
    Remove,
    Verify,
}

/// What `ringmq passwd` is to do with a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordChange {
    /// Add the user or change the password.
    Add {
        /// Also the keys for the SCRAM methods.
        scram: bool,
    },
    /// Remove the user.
    Remove,
    /// Verify a password.
    Verify,
}

/// What the process is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the broker.
    Run(RunArguments),
    /// Check a configuration file.
    Check {
        /// The file.
        file: PathBuf,
        /// Also explain this key, or all keys (`Some(None)`).
        explain: Option<Option<String>>,
    },
    /// Translate another broker's configuration.
    Import {
        /// Its file.
        file: PathBuf,
        /// Where ours goes; standard output if not given.
        output: Option<PathBuf>,
    },
    /// Compare the machine with a profile.
    Doctor(DoctorArguments),
    /// Change a password file.
    Passwd {
        /// The file.
        file: PathBuf,
        /// What to do.
        change: PasswordChange,
        /// The user name.
        user: String,
    },
    /// Let a running broker read its configuration again.
    Reload(ReloadArguments),
    /// See into a running broker, act on it, or speak MQTT with one.
    Admin(Box<admin::AdminCommand>),
    /// Look into a data directory.
    Store(StoreAction),
    /// Print a manual page.
    Man {
        /// Of this command, or of the program.
        command: Option<String>,
    },
    /// Print completions.
    Completions {
        /// For this shell.
        shell: Shell,
    },
    /// Explain a key, or all.
    Explain {
        /// The key or section.
        key: Option<String>,
    },
}

/// The arguments of `ringmq run`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RunArguments {
    /// Configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Listen here instead of where the file says; may be repeated
    #[arg(long, short, value_name = "ADDR:PORT|unix:/path")]
    pub listen: Vec<ListenAddress>,
    /// With --listen: let clients without credentials connect from other machines
    #[arg(long, requires = "listen")]
    pub allow_anonymous: bool,
    /// CPUs to pin shards to, like 0,1,4-7
    #[arg(long, value_name = "LIST", value_parser = cpus)]
    pub cores: Option<CpuList>,
    /// How many shards; one for each core by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(SHARDS_MAX)))]
    pub shards: Option<u16>,
    /// Where sessions and retained messages are kept; without it they end with the process
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// What acknowledgements promise: nothing, to survive a killed process, or a loss of power
    #[arg(long, value_name = "PROMISE", value_parser = ["memory", "os", "fsync"])]
    pub durability: Option<String>,
    /// Least severe lines that are logged
    #[arg(long, value_name = "LEVEL", value_parser = LOG_LEVELS)]
    pub log_level: Option<String>,
    /// Lines for people, or one JSON object a line
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"])]
    pub log_format: Option<String>,
    /// Print the configuration with all defaults and end
    #[arg(long)]
    pub print_config: bool,
}

/// The arguments of `ringmq doctor`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct DoctorArguments {
    /// balanced, latency, throughput or density [default: that of the configuration file]
    #[arg(long, value_name = "PROFILE", value_parser = profile)]
    pub profile: Option<Profile>,
    /// Configuration file (TOML), for its limits and its profile
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Also measure how long a small write takes there until it is safe
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

fn profile(name: &str) -> Result<Profile, String> {
    Profile::named(name).ok_or_else(|| "there are balanced, latency, throughput and density".into())
}

/// The arguments of `ringmq reload`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadArguments {
    /// Only print what would change, and what would need a restart
    #[arg(long)]
    pub dry_run: bool,
    /// The process number of the broker
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// The broker's runtime_directory [default: /run/ringmq, unless --pid is given]
    #[arg(long, value_name = "DIR")]
    pub runtime_directory: Option<PathBuf>,
}

/// CPU numbers of one `--cores`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

fn cpus(text: &str) -> Result<CpuList, String> {
    parse_cpu_list(text).map(CpuList)
}

/// Why the arguments and the file give no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The file, one mistake a line.
    #[error(transparent)]
    File(#[from] ConfigErrors),
    /// `--listen` opens the broker to other machines without saying so.
    #[error(
        "--listen {0}: other machines reach this address, and clients are not asked for credentials; \
         add --allow-anonymous, or listen on a local address like 127.0.0.1:1883"
    )]
    Open(ListenAddress),
    /// The same `--listen` twice.
    #[error("--listen {0} is given twice")]
    Twice(ListenAddress),
    /// A promise that nothing can keep.
    #[error("--durability {0} needs --data-dir, or data_dir in the file: say where to keep it")]
    NoDataDir(String),
}

impl RunArguments {
    /// The configuration: defaults, then the file, then the arguments.
    ///
    /// # Errors
    /// What is wrong with the file or with the arguments.
    pub fn resolve(&self) -> Result<Config, ResolveError> {
        let mut config = match &self.config {
            Some(file) => config::load(file)?,
            None => Config::default(),
        };
        if !self.listen.is_empty() {
            config.listeners = self.listeners(&config)?;
        }
        if let Some(cores) = &self.cores {
            config.cores = Some(cores.0.clone());
        }
        if let Some(shards) = self.shards {
            config.shards = Some(shards);
        }
        if self.data_dir.is_some() {
            config.data_dir.clone_from(&self.data_dir);
        }
        if let Some(word) = &self.durability {
            config.durability = match word.as_str() {
                "memory" => Some(Durability::Memory),
                "os" => Some(Durability::Os),
                _ => Some(Durability::Fsync),
            };
            if config.data_dir.is_none() && word != "memory" {
                return Err(ResolveError::NoDataDir(word.clone()));
            }
        }
        if let Some(level) = &self.log_level {
            config.log.level.clone_from(level);
        }
        match self.log_format.as_deref() {
            Some("json") => config.log.format = LogFormat::Json,
            Some(_) => config.log.format = LogFormat::Text,
            None => {}
        }
        Ok(config)
    }

    /// Listeners with default limits: those of the file belong to its own listeners.
    fn listeners(&self, config: &Config) -> Result<Vec<Listener>, ResolveError> {
        let mut listeners: Vec<Listener> = Vec::new();
        for address in &self.listen {
            let mut listener = Listener::at(address.clone());
            listener.limits = config.profile.listener_limits();
            let authenticates = config.authenticates(&listener);
            listener.allow_anonymous =
                self.allow_anonymous || (address.is_local() && !authenticates);
            if !listener.allow_anonymous && !authenticates {
                return Err(ResolveError::Open(address.clone()));
            }
            if listeners
                .iter()
                .any(|other| config::same_place(&other.address, address))
            {
                return Err(ResolveError::Twice(address.clone()));
            }
            listener.name = config::free_listener_name(&listeners, &listener.name);
            listeners.push(listener);
        }
        Ok(listeners)
    }
}

/// Reads the command line of the process; ends it for `--help`, `--version` and usage errors.
pub fn parse() -> Command {
    command(Cli::parse())
}

/// Reads a command line that is not that of this process; the first word is the program.
///
/// # Errors
/// As clap says it.
pub fn parse_words(words: impl Iterator<Item = OsString>) -> Result<Command, clap::Error> {
    Cli::try_parse_from(words).map(command)
}

/// The whole command line, for what is made from it.
pub fn definition() -> clap::Command {
    let mut definition = Cli::command();
    definition.build();
    definition
}

fn command(cli: Cli) -> Command {
    match cli.command {
        None => Command::Run(cli.run),
        Some(Subcommands::Run(arguments)) => Command::Run(arguments),
        Some(Subcommands::Check { file, explain }) => Command::Check { file, explain },
        Some(Subcommands::Admin(command)) => Command::Admin(Box::new(command)),
        Some(Subcommands::Import { file, output }) => Command::Import { file, output },
        Some(Subcommands::Doctor(arguments)) => Command::Doctor(arguments),
        Some(Subcommands::Passwd {
            file,
            action,
            user,
            scram,
        }) => Command::Passwd {
            file,
            change: match action {
                PasswordAction::Add => PasswordChange::Add { scram },
                PasswordAction::Remove => PasswordChange::Remove,
                PasswordAction::Verify => PasswordChange::Verify,
            },
            user,
        },
        Some(Subcommands::Reload(arguments)) => Command::Reload(arguments),
        Some(Subcommands::Store { action }) => Command::Store(action),
        Some(Subcommands::Man { command }) => Command::Man { command },
        Some(Subcommands::Completions { shell }) => Command::Completions { shell },
        Some(Subcommands::Explain { key }) => Command::Explain { key },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        let words = std::iter::once("ringmq").chain(line.split_whitespace());
        Cli::try_parse_from(words)
            .map(command)
            .map_err(|error| error.to_string())
    }

    #[track_caller]
    fn run(line: &str) -> RunArguments {
        match parsed(line) {
            Ok(Command::Run(arguments)) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn no_subcommand_is_run() {
        assert_eq!(run(""), RunArguments::default());
        assert_eq!(
            run("--shards 2 --cores 0-1"),
            run("run --shards 2 --cores 0-1")
        );
        assert_eq!(RunArguments::default().resolve(), Ok(Config::default()));
    }

    #[test]
    fn arguments_override_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("r.toml");
        let text = "shards = 3\ncores = [5]\n[log]\nlevel = \"warn\"\n[session]\nin_flight_max = 7\n\
            [[listener]]\naddress = \"127.0.0.1:1\"\n";
        std::fs::write(&path, text).unwrap();
        let file = format!("--config {}", path.display());
        let config = run(&file).resolve().unwrap();
        assert_eq!(
            (config.shards, config.log.level.as_str()),
            (Some(3), "warn")
        );
        let line = format!(
            "{file} --shards 2 --cores 1,0 --log-level debug --log-format json \
             --listen 127.0.0.1:0 --listen [::1]:2 --listen unix:/tmp/s"
        );
        let config = run(&line).resolve().unwrap();
        assert_eq!(config.shards, Some(2));
        assert_eq!(config.cores, Some(vec![1, 0]));
        assert_eq!(config.log.level, "debug");
        assert_eq!(config.log.format, LogFormat::Json);
        assert_eq!(config.session.in_flight_max, 7);
        let names: Vec<_> = config
            .listeners
            .iter()
            .map(|listener| &listener.name[..])
            .collect();
        assert_eq!(names, ["mqtt", "mqtt-2", "unix"]);
    }

    #[test]
    fn an_open_address_needs_to_be_allowed() {
        let error = run("--listen 0.0.0.0:1883")
            .resolve()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("0.0.0.0:1883") && error.contains("--allow-anonymous"),
            "{error}"
        );
        let config = run("--listen 0.0.0.0:1883 --allow-anonymous")
            .resolve()
            .unwrap();
        assert!(config.listeners[0].allow_anonymous);
        assert!(
            parsed("--allow-anonymous")
                .unwrap_err()
                .contains("--listen")
        );
        let twice = run("--listen 127.0.0.1:1 --listen 127.0.0.1:1").resolve();
        assert!(matches!(twice, Err(ResolveError::Twice(_))));
    }

    #[test]
    fn wrong_arguments_are_clear() {
        for (line, part) in [
            ("--shards 0", "1..=256"),
            ("--shards 257", "1..=256"),
            ("--cores 3-1", "ends before it begins"),
            ("--listen 1883", "127.0.0.1:1883"),
            ("--log-level loud", "trace"),
            ("--log-format xml", "json"),
            ("--durability safe", "fsync"),
            ("check", "<FILE>"),
            ("--shards 2 explain", "cannot be used with"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
        let promised = run("--durability os").resolve().unwrap_err();
        assert!(promised.to_string().contains("--data-dir"), "{promised}");
        let error = run("--config /nonexistent/r.toml")
            .resolve()
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("/nonexistent/r.toml: cannot read"),
            "{error}"
        );
    }

    #[test]
    fn store() {
        let stats = StoreAction::Stats { dir: "d".into() };
        assert_eq!(parsed("store stats d"), Ok(Command::Store(stats)));
        assert!(parsed("store stats").unwrap_err().contains("<DIR>"));
    }

    #[test]
    fn check_and_explain() {
        let file = PathBuf::from("r.toml");
        let check = |explain| Command::Check {
            file: file.clone(),
            explain,
        };
        assert_eq!(parsed("check r.toml"), Ok(check(None)));
        assert_eq!(parsed("check r.toml --explain"), Ok(check(Some(None))));
        assert_eq!(
            parsed("check r.toml --explain session"),
            Ok(check(Some(Some("session".into()))))
        );
        assert_eq!(parsed("explain"), Ok(Command::Explain { key: None }));
        assert_eq!(
            parsed("explain shards"),
            Ok(Command::Explain {
                key: Some("shards".into())
            })
        );
    }
}
