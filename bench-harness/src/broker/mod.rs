//! Starts a broker, waits until it listens, and ends it.

mod preset;

use std::fs::{self, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::measure::placement;
use crate::settings::Options;

use preset::Preset;

/// How long a broker may take to listen.
const START_MAX: Duration = Duration::from_secs(20);
/// How long a broker may take to end.
const END_MAX: Duration = Duration::from_secs(15);
/// Lines of a broker's output that an error shows.
const SHOWN_LINES: usize = 10;

/// How a broker is started.
#[derive(Clone)]
pub struct Launch {
    /// Its name in the report.
    pub name: String,
    /// Program and arguments, with placeholders; never empty.
    words: Vec<String>,
    preset: Option<&'static Preset>,
}

impl Launch {
    /// `NAME`, which must be known, or `NAME=COMMAND`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some((name, command)) = text.split_once('=') {
            let words = shell_words::split(command)
                .map_err(|error| format!("the command of broker {name}: {error}"))?;
            if words.is_empty() || !command.contains("{port}") {
                return Err(format!(
                    "the command of broker {name} must have {{port}} where its port belongs"
                ));
            }
            return Ok(Self {
                name: name.into(),
                words,
                preset: None,
            });
        }
        let preset = preset::ALL
            .iter()
            .find(|preset| preset.name == text)
            .ok_or_else(|| {
                let known: Vec<_> = preset::ALL.iter().map(|preset| preset.name).collect();
                format!(
                    "broker {text} is not known: write NAME=COMMAND, or one of {}",
                    known.join(", ")
                )
            })?;
        Ok(Self {
            name: text.into(),
            words: preset.command.split(' ').map(str::to_owned).collect(),
            preset: Some(preset),
        })
    }

    /// Program and arguments as they were given.
    pub fn command(&self) -> String {
        self.words.join(" ")
    }

    /// Lowers the QoS to what the broker grants, and says so in the name that is given back.
    pub fn fit(&self, options: &mut Options) -> String {
        match self.preset {
            Some(preset) if options.qos.is_some_and(|qos| qos > preset.qos_max.into()) => {
                options.qos = Some(preset.qos_max.into());
                format!("{} (QoS {})", self.name, preset.qos_max)
            }
            _ => self.name.clone(),
        }
    }
}

/// A broker that listens. Ended when it is dropped.
pub struct Running {
    child: Child,
    name: String,
    program: PathBuf,
    words: Vec<String>,
    cpus: Vec<usize>,
    dir: TempDir,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it says of its version.
    pub version: Option<String>,
}

impl Running {
    /// Starts a broker on `cpus`, at a free port and with an empty directory.
    ///
    /// # Errors
    /// If its program is not there, or it does not listen in time.
    pub fn start(launch: &Launch, cpus: &[usize]) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = free_port()?;
        let fill = |text: &str| {
            text.replace("{port}", &port.to_string())
                .replace("{dir}", &dir.path().to_string_lossy())
        };
        for (name, text) in launch.preset.map_or(&[][..], |preset| preset.files) {
            fs::write(dir.path().join(name), fill(text))?;
        }
        let words: Vec<_> = launch.words.iter().map(|word| fill(word)).collect();
        let program = preset::find(&words[0]).ok_or_else(|| {
            let install = launch
                .preset
                .map_or("is it on PATH?", |preset| preset.install);
            io::Error::other(format!(
                "broker {}: there is no program {}; {install}",
                launch.name, words[0]
            ))
        })?;
        let child = spawn(&program, &words, cpus, dir.path())
            .map_err(|error| io::Error::other(format!("broker {}: {error}", launch.name)))?;
        let mut running = Self {
            child,
            name: launch.name.clone(),
            version: launch.preset.and_then(|preset| version(&program, preset)),
            program,
            words,
            cpus: cpus.to_vec(),
            dir,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        };
        running.await_port()?;
        Ok(running)
    }

    /// Starts it again at the same port with the same directory, after [`Self::kill`].
    ///
    /// # Errors
    /// If it does not listen in time.
    pub fn start_again(&mut self) -> io::Result<()> {
        self.child = spawn(&self.program, &self.words, &self.cpus, self.dir.path())?;
        self.await_port()
    }

    /// Ends it as a crash would, with SIGKILL.
    ///
    /// # Errors
    /// If it had ended before.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            return Err(self.explain(&format!("has ended with {} meanwhile", code(status))));
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// How it was started.
    pub fn command(&self) -> String {
        self.words.join(" ")
    }

    fn await_port(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.explain(&format!("ended at once with {}", code(status))));
            }
            if TcpStream::connect_timeout(&self.address, Duration::from_millis(200)).is_ok() {
                return Ok(());
            }
            if begun.elapsed() > START_MAX {
                return Err(self.explain(&format!("does not listen on {}", self.address)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error with the last that the broker wrote.
    pub fn explain(&self, what: &dyn std::fmt::Display) -> io::Error {
        let output = fs::read(self.dir.path().join("output")).unwrap_or_default();
        let output = String::from_utf8_lossy(&output);
        let lines: Vec<_> = output.lines().collect();
        let last = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        let mut text = format!("broker {}: {what}", self.name);
        if !last.is_empty() {
            text += &format!("; it wrote:\n{}", last.join("\n"));
        }
        io::Error::other(text)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself, which the wait says.
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends it as an operator would, with SIGTERM.
    ///
    /// # Errors
    /// If it had ended before, or does not end.
    pub fn end(mut self) -> io::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            return Err(self.explain(&format!("has ended with {} meanwhile", code(status))));
        }
        self.signal(Signal::TERM);
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > END_MAX {
                return Err(self.explain(&"does not end on SIGTERM"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn code(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".into(),
    }
}

/// Starts a process on `cpus`, with its output in a file of `dir`. A child inherits the CPUs of the thread that
/// starts it.
fn spawn(program: &Path, words: &[String], cpus: &[usize], dir: &Path) -> io::Result<Child> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join("output"))?;
    let mut command = Command::new(program);
    command
        .args(&words[1..])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    std::thread::scope(|scope| {
        let starter = scope.spawn(move || {
            if !cpus.is_empty() {
                placement::pin(cpus)?;
            }
            command.spawn()
        });
        starter
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the starting thread panicked")))
    })
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// The first line that names a version.
fn version(program: &Path, preset: &Preset) -> Option<String> {
    let output = Command::new(program).args(preset.version).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text
        .lines()
        .find(|line| line.chars().any(|c| c.is_ascii_digit()))?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_needs_a_place_for_the_port() {
        assert!(Launch::parse("x=broker -p 1883").is_err());
        let launch = Launch::parse("x=broker -p {port} 'a b'").ok().unwrap();
        assert_eq!(launch.words, ["broker", "-p", "{port}", "a b"]);
        assert!(Launch::parse("unknown").is_err());
    }

    #[test]
    fn a_broker_with_less_qos_is_named_so() {
        let floor = Launch::parse("floor").ok().unwrap();
        let mut options = Options {
            qos: Some(2.0),
            ..Options::default()
        };
        assert_eq!(floor.fit(&mut options), "floor (QoS 1)");
        assert_eq!(options.qos, Some(1.0));
        assert_eq!(floor.fit(&mut options), "floor");
    }

    #[test]
    fn a_program_that_is_not_there_or_ends_is_told() {
        let start = |text: &str| Running::start(&Launch::parse(text).ok().unwrap(), &[]);
        let error = start("x=no-such-program-anywhere {port}").err().unwrap();
        assert!(error.to_string().contains("no-such-program-anywhere"));
        let error = start("x=sh -c 'echo port {port} is bad; exit 3'")
            .err()
            .unwrap();
        let text = error.to_string();
        assert!(
            text.contains("exit code 3") && text.contains("is bad"),
            "{text}"
        );
    }
}
