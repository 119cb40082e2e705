//! Crashes and restarts: shards whose logs are on disks that tear writes and lose power, and clients who rely
//! on what was acknowledged.
//!
//! Whatever was acknowledged to a publisher comes to everybody who had SUBACK before, with QoS 2 once; sessions
//! and the last retained messages are there. With `os` the process may end at any moment, with `fsync` power
//! may be lost as well. A failed write ends the process, and so is a crash in which a part of it was written.

mod client;
mod disk;
mod ledger;
mod shards;

use std::collections::BTreeMap;

use ringmq::config::Config;
use ringmq::config::limits::Durability;

use crate::packet::{Connect, Kind, Packet, Subscribe, Version};
use crate::rng::Rng;

use client::Device;
use disk::Crash;
use ledger::Ledger;
use shards::Shards;

/// Turns in which everything must come to rest.
const TURNS_MAX: usize = 5_000;
/// Turns without anything new after which it is at rest.
const CALM: usize = 10;
const CALM_MS: u64 = 110;

struct World {
    shards: Shards,
    devices: Vec<Device>,
    ledger: Ledger,
    crashes: &'static [Crash],
}

impl World {
    fn new(seed: u64, rng: &mut Rng) -> Self {
        let count = rng.between(2, 4) as usize;
        let devices: Vec<_> = (0..count).map(|number| Device::new(number, rng)).collect();
        // The one who looks at what is retained comes last.
        let names: Vec<_> = (0..=count).map(Device::name).collect();
        let durability = rng.pick(&[Durability::Os, Durability::Fsync]);
        let mut config = Config {
            data_dir: Some("a virtual disk".into()),
            durability: Some(durability),
            ..Config::default()
        };
        config.observability.recorder_entries = 64;
        config.session.in_flight_max = rng.pick(&[1, 3, 1024]);
        config.retained.slice_messages = rng.pick(&[1, 64]);
        let shards = rng.between(1, 3) as usize;
        Self {
            shards: Shards::new(shards, config, &names, seed),
            devices,
            ledger: Ledger::default(),
            crashes: match durability {
                Durability::Fsync => &[Crash::Process, Crash::Power],
                _ => &[Crash::Process],
            },
        }
    }

    fn advance(&mut self, ms: u64) {
        self.shards.now.mono_ms += ms;
        self.shards.now.unix_s = 1_700_000_000 + self.shards.now.mono_ms / 1_000;
    }

    fn step(&mut self, rng: &mut Rng) {
        match rng.below(200) {
            0..2 => {
                let crash = rng.pick(self.crashes);
                self.shards.crash(crash, rng);
            }
            2..90 => {
                let shard = rng.below(self.shards.count());
                self.shards.turn(shard, rng, false);
            }
            90..110 => self.advance(rng.between(0, 300)),
            _ => {
                let client = rng.below(self.devices.len());
                self.devices[client].act(&mut self.shards, &mut self.ledger, rng);
            }
        }
    }

    /// Everybody is there, reads and acknowledges, until nothing moves.
    fn rest(&mut self, rng: &mut Rng) {
        let mut calm = 0;
        for _ in 0..TURNS_MAX {
            let before = self.shards.activity;
            for (number, device) in self.devices.iter_mut().enumerate() {
                if !self.shards.links.contains_key(&number) {
                    device.connect(&mut self.shards);
                }
                device.take(&mut self.shards, &mut self.ledger, usize::MAX);
                device.acknowledge(&mut self.shards, usize::MAX);
            }
            for shard in 0..self.shards.count() {
                self.shards.turn(shard, rng, true);
            }
            calm = if self.shards.activity == before {
                calm + 1
            } else {
                0
            };
            if calm > 0 {
                self.advance(CALM_MS);
            }
            if calm == CALM {
                for device in &self.devices {
                    assert!(device.is_done(), "nothing moves, but {device:?}");
                }
                return;
            }
        }
        panic!("the shards do not come to rest");
    }

    /// What a new client gets of what is retained is the last of each.
    fn check_retained(&mut self, rng: &mut Rng) {
        let judge = self.devices.len();
        self.shards.open(judge);
        let mut bytes = Connect::new(&Device::name(judge)).v311().bytes();
        bytes.extend(Subscribe::to("r/+", 0).bytes(Version::V311, 1));
        let link = self.shards.links.get_mut(&judge).expect("its connection");
        link.to_broker = bytes;
        for _ in 0..100 {
            for shard in 0..self.shards.count() {
                self.shards.turn(shard, rng, true);
            }
            self.advance(CALM_MS);
        }
        let mut rest = self.shards.links[&judge].to_client.as_slice();
        let mut found = BTreeMap::new();
        while let Some(packet) = Packet::parse(Version::V311, rest) {
            rest = &rest[packet.packet_bytes..];
            if packet.kind == Kind::Publish {
                let number = packet
                    .payload
                    .first_chunk()
                    .map(|one| u64::from_be_bytes(*one));
                found.insert(packet.topic, number.expect("a number") as usize);
            }
        }
        assert_eq!(found, self.ledger.retained(), "what is retained");
    }
}

/// Plays a seed; panics at the first promise that does not hold. Gives the virtual milliseconds that went by.
pub fn play(seed: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let mut world = World::new(seed, &mut rng);
    for _ in 0..rng.between(1, 3) {
        for _ in 0..rng.between(200, 1_500) {
            world.step(&mut rng);
        }
        world.rest(&mut rng);
        world.ledger.check();
    }
    world.check_retained(&mut rng);
    world.shards.now.mono_ms
}
