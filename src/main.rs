//! The `ringmq` binary: arguments, configuration, kernel, launch, signals, end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use ringmq::access::passwd::{Change, passwd};
use ringmq::cli::{self, Command, PasswordChange, RunArguments, StoreAction};
use ringmq::command::reload::{self, Reloader};
use ringmq::command::{self, Failure, doctor, manual};
use ringmq::config::{self, Config, ConfigErrors};
use ringmq::control;
use ringmq::net::listener::ListenError;
use ringmq::observability::log;
use ringmq::runtime::activation::Passed;
use ringmq::runtime::certificates::Certificates;
use ringmq::runtime::launch::{LaunchError, Running, launch, print_block};
use ringmq::runtime::reload::Control;
use ringmq::runtime::service::Service;
use ringmq::runtime::signals::{Signal, Signals};
use ringmq::runtime::verification::Verification;
use ringmq::runtime::{exit_code, kernel_probe, placement, startup};
use ringmq::storage::{StoreError, inspect};

use signal_hook::consts::{SIGHUP, SIGTERM};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How much longer than the grace time the shards may take to end.
const END_MARGIN: Duration = Duration::from_secs(2);

/// Signals and ends that wait for the main thread.
const EVENTS_MAX: usize = 8;

fn main() -> ExitCode {
    let ended = match cli::parse() {
        Command::Run(arguments) => run(&arguments),
        Command::Check {
            file,
            explain: None,
        } => check(&file),
        Command::Admin(command) => ringmq::command::admin::run(&command),
        Command::Man { command } => manual::page(command.as_deref()).map(print_bytes),
        Command::Completions { shell } => {
            print_bytes(manual::completions(shell));
            Ok(())
        }
        Command::Import { file, output } => import(&file, output.as_deref()),
        Command::Doctor(arguments) => doctor::run(&arguments, print_block),
        Command::Reload(arguments) => reload::ask(&arguments).map(|text| print_block(&text)),
        Command::Store(action) => look_into(&action),
        Command::Check {
            explain: Some(key), ..
        }
        | Command::Explain { key } => explain(key.as_deref()),
        Command::Passwd { file, change, user } => change_password(&file, change, &user),
    };
    match ended {
        Ok(()) => ExitCode::from(exit_code::OK),
        Err(failure) => {
            eprintln!("ringmq: {}", failure.cause);
            ExitCode::from(failure.exit_code)
        }
    }
}

fn check(file: &std::path::Path) -> Result<(), Failure> {
    let failed = |errors: ConfigErrors| Failure::new(exit_code::CONFIGURATION, errors);
    let config = config::load(file).map_err(failed)?;
    for warning in &verification(&config)?.access().warnings {
        eprintln!("ringmq: warning: {warning}");
    }
    Certificates::load(&Arc::new(config)).map_err(failed)?;
    print_block(&format!("{}: no errors\n", file.display()));
    Ok(())
}

fn look_into(action: &StoreAction) -> Result<(), Failure> {
    let failed = |error: StoreError| Failure::new(exit_code::STORAGE, error);
    match action {
        StoreAction::Check { dir } => {
            let check = inspect::check(dir).map_err(failed)?;
            print_block(&check.text);
            match check.is_damaged {
                true => Err(Failure::new(exit_code::STORAGE, "the store is damaged")),
                false => Ok(()),
            }
        }
        StoreAction::Dump { dir } => inspect::dump(dir, print_block).map_err(failed),
        StoreAction::Stats { dir } => {
            print_block(&inspect::stats(dir).map_err(failed)?);
            Ok(())
        }
    }
}

fn print_bytes(bytes: Vec<u8>) {
    print_block(&String::from_utf8_lossy(&bytes));
}

fn import(file: &std::path::Path, output: Option<&std::path::Path>) -> Result<(), Failure> {
    let (toml, report) = command::import::run(file)?;
    match output {
        None => print_block(&toml),
        Some(output) => std::fs::write(output, toml).map_err(|error| {
            let cause = format!("cannot write {}: {error}", output.display());
            Failure::new(exit_code::CONFIGURATION, cause)
        })?,
    }
    eprint!("{report}");
    Ok(())
}

/// Reads the files about clients that the configuration names.
fn verification(config: &Config) -> Result<Verification, Failure> {
    Verification::load(config)
        .map_err(|errors| Failure::new(exit_code::CONFIGURATION, errors.join("\n")))
}

fn change_password(
    file: &std::path::Path,
    change: PasswordChange,
    user: &str,
) -> Result<(), Failure> {
    let change = match change {
        PasswordChange::Add { scram } => Change::Add { scram },
        PasswordChange::Remove => Change::Remove,
        PasswordChange::Verify => Change::Verify,
    };
    let told = passwd(file, change, user)
        .map_err(|error| Failure::new(exit_code::CONFIGURATION, error))?;
    print_block(&format!("{told}\n"));
    Ok(())
}

fn explain(key: Option<&str>) -> Result<(), Failure> {
    let text =
        config::explain(key).map_err(|error| Failure::new(exit_code::CONFIGURATION, error))?;
    print_block(&text);
    Ok(())
}

fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let config = arguments
        .resolve()
        .map_err(|error| Failure::new(exit_code::CONFIGURATION, error))?;
    if arguments.print_config {
        print_block(&config::to_toml(&config));
        return Ok(());
    }
    let wrong = |error| Failure::new(exit_code::CONFIGURATION, error);
    let passed = Passed::take().map_err(wrong)?;
    passed.check(&config).map_err(wrong)?;
    // Huge pages would make a small, scattered heap resident as a whole: twice the memory for idle
    // connections. A kernel without them needs no telling.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let log = log::init(&config.log).map_err(wrong)?;
    let kernel = kernel_probe::diagnose(&kernel_probe::gather())
        .map_err(|diagnosis| Failure::new(exit_code::KERNEL, diagnosis))?;
    for warning in &kernel.warnings {
        tracing::warn!("{warning}");
    }
    let config = Arc::new(config);
    let cpus = cpus(&config).map_err(wrong)?;
    let certificates = Certificates::load(&config)
        .map_err(|errors| Failure::new(exit_code::CONFIGURATION, errors))?;
    let certificates = Arc::new(certificates);
    let verification = verification(&config)?;
    for warning in &verification.access().warnings {
        tracing::warn!("{warning}");
    }
    let signals = Signals::new().map_err(|error| Failure::new(exit_code::UNEXPECTED, error))?;
    let doors =
        control::bind(&config.admin).map_err(|error| Failure::new(exit_code::LISTEN, error))?;
    let launched = launch(&config, &cpus, &passed, &certificates, &verification);
    let mut running = launched.map_err(|error| {
        let code = match &error {
            LaunchError::Listen(ListenError::Owner { .. }) => exit_code::CONFIGURATION,
            LaunchError::Listen(ListenError::Bind { .. }) => exit_code::LISTEN,
            LaunchError::Shard { .. } => exit_code::KERNEL,
            LaunchError::Store(_) | LaunchError::Log { .. } => exit_code::STORAGE,
            LaunchError::Mesh(_) | LaunchError::Threads(_) => exit_code::UNEXPECTED,
        };
        Failure::new(code, error)
    })?;
    let log = Arc::new(log);
    let places = doors.places();
    let setup = control::Setup {
        config: Arc::clone(&config),
        peers: running.peers(),
        hasher: running.hasher.clone(),
        log: Arc::clone(&log),
        drain: || raise(SIGTERM),
        reload: || raise(SIGHUP),
    };
    if let Err(error) = control::start(doors, setup) {
        running.drainer().drain();
        return Err(Failure::new(exit_code::CONFIGURATION, error));
    }
    let summary = running.store.as_ref().map(|store| store.summary.as_str());
    let block = startup::block(
        &config,
        &running.listeners,
        &cpus,
        &kernel.line(),
        summary,
        &places,
    );
    let listeners = std::mem::take(&mut running.listeners);
    let control = Control::new(
        config,
        running.peers(),
        listeners,
        passed,
        Arc::clone(&certificates),
        verification,
    );
    let service = Service::default();
    let mut reloader = Reloader::new(arguments.clone(), control, log, service.clone());
    // What is written down is there before anybody is told.
    print_block(&block);
    reloader.tell_ready();
    service.watch(running.peers());
    std::thread::spawn(move || certificates.watch());
    supervise(running, signals, &mut reloader, &service)
}

fn cpus(config: &Config) -> Result<Vec<usize>, String> {
    let allowed = placement::allowed_cpus()?;
    placement::place(config.shards, config.cores.as_deref(), &allowed)
}

/// Sends this process a signal, as a service manager would.
fn raise(signal: i32) {
    if let Err(error) = signal_hook::low_level::raise(signal) {
        tracing::error!(%error, signal, "cannot signal this process");
    }
}

/// What the main thread waits for.
enum Event {
    Signal(Signal),
    Ended(Result<(), LaunchError>),
}

/// Waits for a signal or for the shards to fail; drains; waits for the end, a second signal, or the end of
/// the grace time.
fn supervise(
    running: Running,
    mut signals: Signals,
    reloader: &mut Reloader,
    service: &Service,
) -> Result<(), Failure> {
    let (events, incoming) = crossbeam_channel::bounded(EVENTS_MAX);
    let of_signals = events.clone();
    std::thread::spawn(
        move || {
            while of_signals.send(Event::Signal(signals.wait())).is_ok() {}
        },
    );
    let drain = running.drainer();
    std::thread::spawn(move || {
        // The receiver lives until the process ends.
        let _ = events.send(Event::Ended(running.join()));
    });
    let unexpected =
        |cause: &dyn std::fmt::Display| Failure::new(exit_code::UNEXPECTED, cause.to_string());
    loop {
        match incoming.recv() {
            Ok(Event::Signal(signal)) if signal.ends() => {
                tracing::info!(
                    signal = signal.name(),
                    "shutting down; a second signal ends at once"
                );
                break;
            }
            Ok(Event::Signal(_)) => reloader.reload(),
            Ok(Event::Ended(Ok(()))) => return Err(unexpected(&"the shards ended by themselves")),
            Ok(Event::Ended(Err(error @ LaunchError::Log { .. }))) => {
                return Err(Failure::new(exit_code::STORAGE, error));
            }
            Ok(Event::Ended(Err(error))) => return Err(unexpected(&error)),
            Err(error) => return Err(unexpected(&error)),
        }
    }
    service.stopping();
    drain.drain();
    let deadline = std::time::Instant::now()
        + Duration::from_secs(u64::from(reloader.config().shutdown_grace_s))
        + END_MARGIN;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        match incoming.recv_timeout(left) {
            Ok(Event::Ended(Ok(()))) => return Ok(()),
            Ok(Event::Ended(Err(error))) => return Err(unexpected(&error)),
            Ok(Event::Signal(signal)) if signal.ends() => {
                return Err(Failure::new(
                    exit_code::CUT_SHORT,
                    "ended by a second signal",
                ));
            }
            Ok(Event::Signal(_)) => {}
            Err(RecvTimeoutError::Timeout) => {
                return Err(Failure::new(
                    exit_code::CUT_SHORT,
                    "the shards did not end within the grace time",
                ));
            }
            Err(error) => return Err(unexpected(&error)),
        }
    }
}
