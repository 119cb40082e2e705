//! `cut`: many connections that end at once, without a word.

use std::io;

use crate::engine::Engine;
use crate::mqtt::Version;
use crate::mqtt::encode::Connect;
use crate::scenario::Scenario;

use super::{Caused, Disturbance, Disturbed, Scene, Trouble};

pub const SCENARIO: Scenario = Scenario {
    name: "cut",
    about: "disturbance: 5,000 connections with a subscription each are cut at once",
    prepare: |settings| {
        let connections = settings.scaled("connections", 5000);
        Disturbed::boxed(settings, Cut { connections })
    },
};

struct Cut {
    connections: usize,
}

impl Disturbance for Cut {
    fn set_up(&self, scene: &Scene) -> io::Result<Trouble> {
        let engine = settled(scene, self.connections)?.0;
        Ok(Box::new(move || {
            drop(engine);
            Ok(Caused::default())
        }))
    }
}

/// Clients that have connected and subscribed, with their Client Identifiers.
pub fn settled(scene: &Scene, connections: usize) -> io::Result<(Engine, Vec<String>)> {
    let mut engine = scene.engine()?;
    let identifiers: Vec<_> = (0..connections)
        .map(|number| format!("bench-{}-d{number}", scene.tag))
        .collect();
    let connect = Connect::clean(Version::V3);
    let (first, _) = engine.connect_all(scene.address, &identifiers, connect)?;
    engine.subscribe_all(first..first + connections, 0, Version::V3, |place| {
        vec![format!("bench/{}/d/{place}", scene.tag)]
    })?;
    Ok((engine, identifiers))
}
