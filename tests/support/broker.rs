//! The broker as a process: started with a configuration file, stopped with SIGTERM.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Client, Connect, PATIENCE, Version, sleep_ms};

/// How long a broker may take to end after SIGTERM.
const EXIT_PATIENCE: Duration = Duration::from_secs(20);

/// The program under test: the one just built, or another one that `RINGMQ_TEST_BINARY` names.
pub fn binary() -> PathBuf {
    std::env::var_os("RINGMQ_TEST_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_ringmq").into(), PathBuf::from)
}

/// How many shards brokers have: `RINGMQ_TEST_SHARDS`, or two.
pub fn shards() -> u16 {
    std::env::var("RINGMQ_TEST_SHARDS").map_or(2, |text| {
        text.parse().expect("RINGMQ_TEST_SHARDS is a number")
    })
}

/// A running broker. Dropping it stops it and checks that it ended well, unless [`Broker::wait`] did.
pub struct Broker {
    child: Child,
    ended: bool,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    /// Taken by the broker that follows this one.
    directory: Option<TempDir>,
}

impl Broker {
    /// With the defaults.
    pub fn start() -> Self {
        Self::with("")
    }

    /// With `settings`, as [`config_text`] takes them.
    pub fn with(settings: &str) -> Self {
        Self::launch(settings, |program, config| {
            let mut command = Command::new(program);
            command.arg("run").arg("--config").arg(config);
            command
        })
    }

    /// With `settings`; writes into its own directory that it runs and with what.
    pub fn recorded(settings: &str) -> Self {
        Self::launch(settings, |program, config| {
            let mut command = Command::new(program);
            command.arg("run").arg("--config").arg(config);
            command.env("RUNTIME_DIRECTORY", config.parent().expect("a directory"));
            command
        })
    }

    /// With `settings` and a data directory, which outlives it: see [`Broker::restart`].
    pub fn durable(settings: &str) -> Self {
        Self::durable_in(TempDir::new().expect("a temporary directory"), settings)
    }

    fn durable_in(directory: TempDir, settings: &str) -> Self {
        let store = directory.path().join("store");
        let settings = format!("data_dir = \"{}\"\n{settings}", store.display());
        Self::launch_in(directory, &settings, |program, config| {
            let mut command = Command::new(program);
            command.arg("run").arg("--config").arg(config);
            command
        })
    }

    /// Kills it with SIGKILL and starts another one on the same data directory.
    pub fn restart(self, settings: &str) -> Self {
        Self::durable_in(self.kill(), settings)
    }

    /// Ends it with SIGTERM and starts another one on the same data directory.
    pub fn restart_gently(mut self, settings: &str) -> Self {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{status}:\n{}", self.log());
        let directory = self.directory.take().expect("a directory");
        Self::durable_in(directory, settings)
    }

    /// Kills it with SIGKILL; gives its directory.
    pub fn kill(mut self) -> TempDir {
        self.signal(Signal::KILL);
        self.wait();
        self.directory.take().expect("a directory")
    }

    /// Starts another broker on the data directory of this one, which has ended.
    pub fn restart_ended(mut self, settings: &str) -> Self {
        assert!(self.ended, "the broker has ended");
        let directory = self.directory.take().expect("a directory");
        Self::durable_in(directory, settings)
    }

    /// From now on it cannot write to a file beyond so many bytes (EFBIG).
    pub fn limit_file_bytes(&self, bytes: u64) {
        let limit = rustix::process::Rlimit {
            current: Some(bytes),
            maximum: Some(bytes),
        };
        rustix::process::prlimit(Some(self.pid()), rustix::process::Resource::Fsize, limit)
            .expect("a limit for the broker");
    }

    /// Starts a broker on the directory of one that is gone.
    pub fn revive(directory: TempDir, settings: &str) -> Self {
        Self::durable_in(directory, settings)
    }

    /// With arguments to `run` and no configuration file.
    pub fn with_arguments(arguments: &[&str]) -> Self {
        Self::launch("", |program, _| {
            let mut command = Command::new(program);
            command.arg("run").args(arguments);
            command
        })
    }

    /// With `settings` and at most `descriptors` open files.
    pub fn with_descriptors(settings: &str, descriptors: u32) -> Self {
        Self::launch(settings, |program, config| {
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!(
                "ulimit -n {descriptors}; exec \"$0\" run --config \"$1\""
            ));
            command.arg(program).arg(config);
            command
        })
    }

    fn launch(settings: &str, command: impl FnOnce(&Path, &Path) -> Command) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        Self::launch_in(directory, settings, command)
    }

    fn launch_in(
        directory: TempDir,
        settings: &str,
        command: impl FnOnce(&Path, &Path) -> Command,
    ) -> Self {
        let config = directory.path().join("ringmq.toml");
        std::fs::write(&config, config_text(shards(), settings)).expect("a configuration file");
        let mut child = command(&binary(), &config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the broker starts");
        let log = Arc::new(Mutex::new(String::new()));
        let readers = vec![
            follow(child.stdout.take().expect("stdout"), Arc::clone(&log)),
            follow(child.stderr.take().expect("stderr"), Arc::clone(&log)),
        ];
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut broker = Self {
            child,
            ended: false,
            address: unknown,
            log,
            readers,
            directory: Some(directory),
        };
        broker.address = broker.wait_until_listening();
        broker
    }

    fn wait_until_listening(&mut self) -> SocketAddr {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(address) = listening_address(&self.log()) {
                return address;
            }
            if let Some(status) = self.child.try_wait().expect("the state of the broker") {
                self.ended = true;
                panic!("the broker ended at start with {status}:\n{}", self.log());
            }
            assert!(
                Instant::now() < deadline,
                "the broker does not say where it listens:\n{}",
                self.log()
            );
            sleep_ms(2);
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A directory that lives as long as the broker.
    pub fn directory(&self) -> &Path {
        self.directory.as_ref().expect("a directory").path()
    }

    /// Its configuration file.
    pub fn configuration(&self) -> PathBuf {
        self.directory().join("ringmq.toml")
    }

    /// What it wrote to standard output and error so far.
    pub fn log(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for a log line that has all of `parts`.
    pub fn expect_log(&self, parts: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        while !self
            .log()
            .lines()
            .any(|line| parts.iter().all(|part| line.contains(part)))
        {
            assert!(
                Instant::now() < deadline,
                "no log line with {parts:?} in:\n{}",
                self.log()
            );
            sleep_ms(5);
        }
    }

    /// A 5.0 client with Clean Start.
    pub fn client(&self, client_identifier: &str) -> Client {
        Client::connect(self, Connect::new(client_identifier))
    }

    /// A client of `version` with Clean Start (Clean Session).
    pub fn client_of(&self, version: Version, client_identifier: &str) -> Client {
        Client::connect(self, Connect::new(client_identifier).version(version))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a signal to the broker");
    }

    /// Waits until the broker ends by itself or by a signal that the test sent.
    pub fn wait(&mut self) -> ExitStatus {
        self.ended = true;
        let deadline = Instant::now() + EXIT_PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the state of the broker") {
                self.readers
                    .drain(..)
                    .for_each(|reader| reader.join().expect("the log's reader"));
                return status;
            }
            if Instant::now() >= deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!("the broker does not end:\n{}", self.log());
            }
            sleep_ms(5);
        }
    }

    /// CPU time that it used so far, user and system.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))
            .expect("/proc/PID/stat");
        // The name is in parentheses and may have blanks; utime and stime are fields 14 and 15.
        let fields: Vec<&str> = stat[stat.rfind(')').expect("a name") + 1..]
            .split_whitespace()
            .collect();
        let ticks: u64 = [fields[11], fields[12]]
            .iter()
            .map(|text| text.parse::<u64>().expect("ticks"))
            .sum();
        // USER_HZ, the unit of these fields, is 100 on every Linux.
        Duration::from_millis(ticks * 10)
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))
            .expect("/proc/PID/fd")
            .count()
    }

    /// How often each of its threads has slept and been woken, by the thread's name.
    pub fn thread_sleeps(&self) -> Vec<(String, u64)> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let of_task = |task: std::io::Result<std::fs::DirEntry>| {
            let path = task.expect("a thread").path();
            let name = std::fs::read_to_string(path.join("comm")).expect("comm");
            let status = std::fs::read_to_string(path.join("status")).expect("status");
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
                .expect("voluntary_ctxt_switches");
            (name.trim().into(), line.trim().parse().expect("a number"))
        };
        let tasks = std::fs::read_dir(tasks).expect("/proc/PID/task");
        tasks.map(of_task).collect()
    }

    /// Resident memory, bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("/proc/PID/status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("VmRSS");
        let kib: u64 = line
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number");
        kib * 1024
    }

    /// Its process number.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            eprintln!("--- the broker's log ---\n{}---", self.log());
        } else if !self.ended {
            self.signal(Signal::TERM);
            let status = self.wait();
            assert_eq!(
                status.code(),
                Some(0),
                "the broker ended with {status}:\n{}",
                self.log()
            );
            assert!(
                !self.log().contains("panicked at"),
                "the broker panicked:\n{}",
                self.log()
            );
        }
    }
}

/// The text of a configuration file: the one place that knows how keys are written.
///
/// `settings` are lines `key = value`; a key `listener.x` is one of the listener on a free port. What
/// follows a line `---` is appended as it is. `RINGMQ_TEST_LOG` sets the level of the log.
pub fn config_text(shards: u16, settings: &str) -> String {
    let (settings, rest) = settings.split_once("---\n").unwrap_or((settings, ""));
    let lines: Vec<&str> = settings
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let of_listener = |line: &&&str| line.starts_with("listener.");
    let mut text = String::new();
    if !lines.iter().any(|line| line.starts_with("shards ")) {
        let _ = writeln!(text, "shards = {shards}");
    }
    if let Ok(level) = std::env::var("RINGMQ_TEST_LOG") {
        let _ = writeln!(text, "log.level = \"{level}\"");
    }
    for line in lines.iter().filter(|line| !of_listener(line)) {
        let _ = writeln!(text, "{line}");
    }
    text.push_str("[[listener]]\naddress = \"127.0.0.1:0\"\n");
    for line in lines.iter().filter(of_listener) {
        let _ = writeln!(text, "{}", line.trim_start_matches("listener."));
    }
    text.push_str(rest);
    text
}

/// Copies what the broker writes into `log`, line by line.
fn follow(source: impl Read + Send + 'static, log: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push_str(&String::from_utf8_lossy(&line));
            log.push('\n');
        }
    })
}

/// The first address with a real port in a line that speaks of listening.
fn listening_address(log: &str) -> Option<SocketAddr> {
    log.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .find_map(|line| {
            let start = line.to_ascii_lowercase().find("listen")?;
            let words =
                line[start..].split(|c: char| c.is_whitespace() || "\"'=,;()/\u{1b}".contains(c));
            words
                .filter_map(|word| word.parse::<SocketAddr>().ok())
                .find(|address| address.port() != 0)
        })
}
