//! Many clients with passwords at once, while others are at work.
//!
//! `RINGMQ_STORM_CLIENTS` sets how many come (300 if it is not set); what was measured is printed with
//! `--nocapture`.

use std::fmt::Write as _;
use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::files::Files;
use crate::support::packet::PINGREQ;
use crate::support::{Broker, Client, Connect, Kind, Version, sleep_ms};

/// Far above what is measured, since other programs may take the CPU meanwhile.
const MOVED_MAX: Duration = Duration::from_millis(100);

/// Round trips of a client that is connected, until `stop`.
fn round_trips(client: &mut Client, stop: &AtomicBool) -> Vec<Duration> {
    let mut times = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let start = Instant::now();
        client.send_raw(&PINGREQ);
        client.expect(Kind::PingResp);
        times.push(start.elapsed());
        sleep_ms(1);
    }
    times.sort();
    times
}

fn p99(times: &[Duration]) -> Duration {
    times[times.len() * 99 / 100]
}

fn connack(mut stream: &TcpStream) -> u8 {
    let mut answer = [0; 4];
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream.read_exact(&mut answer).expect("a CONNACK");
    answer[3]
}

#[test]
fn established_clients_do_not_feel_a_storm_of_passwords() {
    let count = std::env::var("RINGMQ_STORM_CLIENTS").map_or(300, |text| text.parse().unwrap());
    let files = Files::new();
    let path = files.passwords(&[("user", "secret")]);
    let text = std::fs::read_to_string(&path).unwrap();
    let hash = text
        .lines()
        .find_map(|line| line.strip_prefix("user:$argon2id"));
    let hash = hash.expect("an argon2id entry").to_owned();
    let mut users = String::new();
    for number in 0..=count {
        let _ = writeln!(users, "user{number}:$argon2id{hash}");
    }
    files.write("passwords", users);
    let broker = Broker::with(&format!(
        "authentication.chain = [\"password_file\"]\nauthentication.password_file = \"{path}\"\nlog.level = \"warn\""
    ));
    let connect = |number: usize| {
        Connect::new(&format!("c{number}"))
            .user_name(&format!("user{number}"))
            .password(b"secret")
    };
    let mut client = Client::connect(&broker, connect(count));
    let stop = Arc::new(AtomicBool::new(false));
    let phase = |client: Client, work: &mut dyn FnMut()| {
        let seen = Arc::clone(&stop);
        stop.store(false, Ordering::SeqCst);
        let mut client = client;
        let meter = std::thread::spawn(move || {
            let times = round_trips(&mut client, &seen);
            (client, times)
        });
        work();
        stop.store(true, Ordering::SeqCst);
        meter.join().unwrap()
    };
    let (back, before) = phase(client, &mut || sleep_ms(2_000));
    client = back;
    let (mut accepted, mut busy) = (0, 0);
    let start = Instant::now();
    let (_, during) = phase(client, &mut || {
        let streams: Vec<TcpStream> = (0..count)
            .map(|number| {
                let mut client = Client::open(broker.address(), Version::V5);
                client.send_raw(&connect(number).bytes());
                client.stream().try_clone().unwrap()
            })
            .collect();
        for stream in &streams {
            match connack(stream) {
                0 => accepted += 1,
                0x89 => busy += 1,
                other => panic!("CONNACK {other:#04x}"),
            }
        }
    });
    eprintln!(
        "{count} clients in {:?}: {accepted} accepted, {busy} told that the server is busy; p99 of a round trip \
         {:?} before, {:?} during, of {} and {}",
        start.elapsed(),
        p99(&before),
        p99(&during),
        before.len(),
        during.len()
    );
    assert!(accepted > 0);
    assert!(
        p99(&during) < p99(&before) + MOVED_MAX,
        "{:?} before, {:?} during",
        p99(&before),
        p99(&during)
    );
}
