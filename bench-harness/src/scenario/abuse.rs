//! Clients that behave, while another does not: their latency and the broker's memory must stay.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::codec::{self, Stamp, Template};
use crate::engine::Engine;
use crate::process;

use super::messages::{Load, Options as MessageOptions, Shape};
use super::{await_packets, connect_all};

/// What the other client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Abuse {
    /// Subscribes to everything and reads nothing.
    SlowReader,
    /// Publishes as fast as it can.
    Flood,
    /// Sends bytes that are no MQTT.
    Garbage,
    /// 5,000 connections are cut at once.
    Cut,
    /// 5,000 connections with one Client Identifier.
    Takeover,
}

/// The options of a run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// What the other client does
    #[arg(long, value_enum)]
    pub abuse: Abuse,
    /// Length of each phase, seconds
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
}

/// Runs the scenario and describes what it saw.
///
/// # Errors
/// If the broker refuses or the network fails.
pub fn run(address: SocketAddr, options: &Options, broker_pid: u32) -> io::Result<String> {
    let behaved = MessageOptions {
        shape: Shape::P2p,
        publishers: 100,
        subscribers: 0,
        qos: 1,
        payload: 64,
        window: 0,
        rate: Some(1000),
        v5: false,
        warmup: 1.0,
        seconds: options.seconds,
    };
    let mut engine = Engine::new()?;
    let mut load = Load::connect(&mut engine, address, &behaved)?;
    load.run(&mut engine, 2.0, false)?;
    load.take_latency();
    load.run(&mut engine, options.seconds, false)?;
    let before = (load.take_latency(), process::resident_bytes(broker_pid));
    let abuser = std::thread::spawn({
        let options = options.clone();
        move || abuse(address, &options)
    });
    load.run(&mut engine, options.seconds + 1.0, false)?;
    let during = (load.take_latency(), process::resident_bytes(broker_pid));
    abuser
        .join()
        .map_err(|_| io::Error::other("the abuser's thread ended"))??;
    load.run(&mut engine, options.seconds, false)?;
    let after = (load.take_latency(), process::resident_bytes(broker_pid));
    load.run(&mut engine, 10.0, true)?;
    let mut text = format!(
        "{:?}: faults of the others {}",
        options.abuse,
        load.faults()
    );
    for (name, (latency, resident)) in [("before", before), ("during", during), ("after", after)] {
        let p99 = latency.value_at_quantile(0.99) as f64 / 1000.0;
        text += &format!(
            "; {name} p99 {p99:.0} us, {:.1} MiB",
            resident as f64 / 1048576.0
        );
    }
    match load.faults() {
        0 => Ok(text),
        _ => Err(io::Error::other(text)),
    }
}

fn abuse(address: SocketAddr, options: &Options) -> io::Result<()> {
    let mut engine = Engine::new()?;
    let time = Duration::from_secs_f64(options.seconds);
    let begun = std::time::Instant::now();
    match options.abuse {
        Abuse::SlowReader => {
            let slow = connect_all(&mut engine, address, "bench-slow", 1, false, 0)?;
            let packet = codec::subscribe(&["slow/#".into()], 1, false);
            engine.connections[slow].out.extend_from_slice(&packet);
            engine.flush_all()?;
            await_packets(&mut engine, 0x90, 1)?;
            engine.mute(slow)?;
            flood(&mut engine, address, "slow/topic", 1, time)
        }
        Abuse::Flood => flood(&mut engine, address, "flood/topic", 0, time),
        Abuse::Garbage => {
            while begun.elapsed() < time {
                let mut socket = TcpStream::connect(address)?;
                // The broker may close before all is written.
                let _ = socket.write_all(&[0x5a; 4096]);
            }
            Ok(())
        }
        Abuse::Cut => {
            let first = connect_all(&mut engine, address, "bench-cut", 5000, false, 600)?;
            engine.cut(first);
            Ok(())
        }
        Abuse::Takeover => {
            for _ in 0..5000 {
                let number = engine.connect(address)?;
                engine.connections[number]
                    .out
                    .extend_from_slice(&codec::connect("bench-same", false, 0));
                engine.flush(number)?;
            }
            await_packets(&mut engine, 0x20, 5000)
        }
    }
}

/// Publishes 1 KiB messages as fast as the socket takes them.
fn flood(
    engine: &mut Engine,
    address: SocketAddr,
    topic: &str,
    qos: u8,
    time: Duration,
) -> io::Result<()> {
    let number = connect_all(engine, address, "bench-flood", 1, false, 0)?;
    let mut template = Template::new(topic, qos, false, 1024);
    let begun = std::time::Instant::now();
    let mut sequence = 0u64;
    while begun.elapsed() < time {
        if engine.connections[number].out.is_empty() {
            for _ in 0..64 {
                sequence += 1;
                let identifier = u16::try_from(sequence % 65_535).unwrap_or(0) + 1;
                let stamp = Stamp {
                    publisher: 0,
                    sequence,
                    sent_ns: 0,
                };
                template.append(&mut engine.connections[number].out, stamp, identifier);
            }
            engine.flush(number)?;
        }
        engine.poll(Duration::from_millis(1), |_, _, _| {})?;
    }
    Ok(())
}
