//! The broker under a service manager: the test plays systemd's side.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::broker::{binary, config_text};
use crate::support::{Client, Connect, PATIENCE, Version, sleep_ms};

/// A broker whose service manager is this test.
struct Service {
    child: Child,
    socket: UnixDatagram,
    directory: TempDir,
}

impl Service {
    fn start(settings: &str, watchdog: Option<Duration>) -> Self {
        Self::with_socket(settings, watchdog, None)
    }

    /// With a socket that listens, passed as systemd does it, under `name`.
    fn with_socket(
        settings: &str,
        watchdog: Option<Duration>,
        passed: Option<(OwnedFd, &str)>,
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let config = directory.path().join("ringmq.toml");
        std::fs::write(&config, config_text(2, settings)).unwrap();
        // Descriptor 3 and LISTEN_PID can only be had in the process itself.
        let script = match passed {
            Some(_) => "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"",
            None => "exec \"$@\"",
        };
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh"])
            .arg(binary())
            .arg("run")
            .arg("--config")
            .arg(&config)
            .env("NOTIFY_SOCKET", &path)
            .env("RUNTIME_DIRECTORY", directory.path())
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(
                std::fs::File::create(directory.path().join("log")).unwrap(),
            ));
        if let Some(time) = watchdog {
            command.env("WATCHDOG_USEC", time.as_micros().to_string());
        }
        if let Some((socket, name)) = passed {
            command
                .stdin(Stdio::from(socket))
                .env("LISTEN_FDNAMES", name);
        }
        Self {
            child: command.spawn().unwrap(),
            socket,
            directory,
        }
    }

    /// The next message that has `part`.
    #[track_caller]
    fn expect(&self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        while Instant::now() < deadline {
            if let Some(message) = self.next(PATIENCE) {
                if message.contains(part) {
                    return message;
                }
                all.push(message);
            }
        }
        panic!("no {part} in {all:?}; {}", self.log());
    }

    fn next(&self, patience: Duration) -> Option<String> {
        let mut buffer = [0; 4096];
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// How many messages with `part` come in that time.
    fn count(&self, part: &str, time: Duration) -> usize {
        let deadline = Instant::now() + time;
        let mut count = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return count;
            }
            count += usize::from(
                self.next(left)
                    .is_some_and(|message| message.contains(part)),
            );
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ends it and gives the exit code.
    fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.child.wait().unwrap().code()
    }

    /// The thread of shard 0.
    fn shard_thread(&self) -> Pid {
        let tasks = format!("/proc/{}/task", self.child.id());
        let is_shard = |path: &Path| {
            std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("shard-0"))
        };
        let mut paths = std::fs::read_dir(tasks)
            .unwrap()
            .map(|task| task.unwrap().path());
        let path = paths.find(|path| is_shard(path)).expect("a shard");
        Pid::from_raw(path.file_name().unwrap().to_str().unwrap().parse().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in a message like `STATUS=accepting on 127.0.0.1:40000`.
fn address(message: &str) -> SocketAddr {
    let words = message.split(|c: char| c.is_whitespace() || c == ',' || c == ';');
    words
        .filter_map(|word| word.parse().ok())
        .next()
        .expect("an address")
}

fn client(address: SocketAddr, id: &str) -> Client {
    let mut client = Client::open(address, Version::V5);
    client.send_raw(&Connect::new(id).bytes());
    client.expect_accepted();
    client
}

#[test]
fn ready_means_that_listeners_accept() {
    let mut service = Service::start("", None);
    let first = service.next(PATIENCE).expect("a message");
    assert!(first.starts_with("READY=1\n"), "{first}");
    assert!(first.contains("STATUS=accepting on 127.0.0.1:"), "{first}");
    client(address(&first), "client").publish("t", "x", 1);

    service.signal(Signal::HUP);
    let reloading = service.expect("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    service.expect("READY=1");

    assert_eq!(service.stop(), Some(0), "{}", service.log());
    service.expect("STOPPING=1");
}

#[test]
fn nothing_is_ready_that_cannot_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut service = Service::start(
        &format!("---\n[[listener]]\naddress = \"{address}\"\n"),
        None,
    );
    assert_eq!(
        service.child.wait().unwrap().code(),
        Some(4),
        "{}",
        service.log()
    );
    assert_eq!(service.next(Duration::from_millis(10)), None);
}

#[test]
fn the_status_says_how_many_connections_there_are() {
    let mut service = Service::start("", Some(Duration::from_millis(600)));
    let address = address(&service.expect("READY=1"));
    let clients = [
        client(address, "a"),
        client(address, "b"),
        client(address, "c"),
    ];
    service.expect("; 3 connections");
    drop(clients);
    service.expect("; 0 connections");
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn a_shard_that_hangs_stops_the_watchdog_and_one_that_goes_on_feeds_it_again() {
    let service = Service::start("", Some(Duration::from_millis(300)));
    service.expect("READY=1");
    let second = Duration::from_secs(1);
    assert!(service.count("WATCHDOG=1", 2 * second) >= 5);

    // Every other thread goes on, the one that speaks to the service manager too.
    let thread = service.shard_thread();
    ptrace::attach(thread).unwrap();
    waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
    // What was on its way.
    service.count("WATCHDOG=1", second / 2);
    assert_eq!(service.count("WATCHDOG=1", second), 0);
    let log = service.log();
    assert!(
        log.contains("no turn has ended") && log.contains("[0]"),
        "{log}"
    );

    ptrace::detach(thread, None).unwrap();
    assert!(service.count("WATCHDOG=1", 2 * second) >= 5);
}

#[test]
fn a_passed_socket_outlives_the_broker() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let settings = "listener.name = \"lan\"";
    let start = || {
        let socket = OwnedFd::from(listener.try_clone().unwrap());
        Service::with_socket(settings, None, Some((socket, "lan")))
    };
    let mut service = start();
    let ready = service.expect("READY=1");
    assert!(ready.contains(&address.to_string()), "{ready}");
    // All shards accept at the one socket.
    let mut clients: Vec<Client> = (0..20)
        .map(|n| client(address, &format!("c-{n}")))
        .collect();
    for client in &mut clients {
        client.publish("t", "x", 1);
    }
    assert_eq!(service.stop(), Some(0), "{}", service.log());

    // Nobody is refused meanwhile: the connection waits for the next broker.
    let mut early = Client::open(address, Version::V5);
    early.send_raw(&Connect::new("early").bytes());
    sleep_ms(100);
    let mut service = start();
    service.expect("READY=1");
    early.expect_accepted();
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn a_passed_socket_is_found_by_its_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let settings = format!("---\n[[listener]]\nname = \"second\"\naddress = \"{address}\"\n");
    let passed = Some((OwnedFd::from(listener), "ringmq.socket"));
    let mut service = Service::with_socket(&settings, None, passed);
    service.expect("READY=1");
    client(address, "client").publish("t", "x", 1);
    assert_eq!(service.stop(), Some(0), "{}", service.log());
}

#[test]
fn a_passed_socket_that_no_listener_wants_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let passed = Some((OwnedFd::from(listener), "ringmq.socket"));
    let mut service = Service::with_socket("", None, passed);
    assert_eq!(service.child.wait().unwrap().code(), Some(2));
    let log = service.log();
    assert!(
        log.contains(&address.to_string()) && log.contains("FileDescriptorName="),
        "{log}"
    );
}
