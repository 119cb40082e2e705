//! The settings of a scenario: each has its defaults, the command line may replace them, and the report tells
//! what they were.

use std::collections::{BTreeMap, BTreeSet};

use crate::mqtt::Version;
use crate::mqtt::template::STAMP_BYTES;
use crate::traffic::Phase;
use crate::traffic::plan::{Filters, Pace, Plan};

/// What may be set. A scenario refuses what it does not know.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Settings of scenarios (see `ringmq-bench list NAME`)")]
pub struct Options {
    /// Multiplies the clients of a scenario, and rates with them, to fit a machine
    #[arg(long, value_name = "FACTOR")]
    pub scale: Option<f64>,
    /// How many clients publish
    #[arg(long, value_name = "COUNT")]
    pub publishers: Option<f64>,
    /// How many clients subscribe
    #[arg(long, value_name = "COUNT")]
    pub subscribers: Option<f64>,
    /// How many clients only connect
    #[arg(long, value_name = "COUNT")]
    pub connections: Option<f64>,
    /// How many subscriptions with exact filters
    #[arg(long, value_name = "COUNT")]
    pub subscriptions: Option<f64>,
    /// How many subscriptions with wildcards
    #[arg(long, value_name = "COUNT")]
    pub wildcards: Option<f64>,
    /// How many messages
    #[arg(long, value_name = "COUNT")]
    pub messages: Option<f64>,
    /// QoS of messages and subscriptions
    #[arg(long)]
    pub qos: Option<f64>,
    /// Bytes of a payload, at least 16
    #[arg(long, value_name = "BYTES")]
    pub payload: Option<f64>,
    /// Closed loop: messages of each publisher on their way at once
    #[arg(long, value_name = "COUNT")]
    pub window: Option<f64>,
    /// Open loop: messages a second of all publishers together, evenly spaced
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Clients that connect in a second
    #[arg(long, value_name = "PER_SECOND")]
    pub connect_rate: Option<f64>,
    /// Keep Alive
    #[arg(long, value_name = "SECONDS")]
    pub keep_alive: Option<f64>,
    /// Time that is not measured
    #[arg(long, value_name = "SECONDS")]
    pub warmup: Option<f64>,
    /// Time that is measured, of each phase
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<f64>,
    /// Generator threads
    #[arg(long, value_name = "COUNT")]
    pub threads: Option<f64>,
    /// MQTT 5.0 (1) or 3.1.1 (0)
    #[arg(long, value_name = "0|1", num_args = 0..=1, default_missing_value = "1")]
    pub v5: Option<f64>,
    /// A topic for each publisher and one wildcard filter, instead of one topic for all
    #[arg(long, value_name = "0|1", num_args = 0..=1, default_missing_value = "1")]
    pub wildcard: Option<f64>,
    /// Only the disturbance, beside another process that measures
    #[arg(long, value_name = "0|1", num_args = 0..=1, default_missing_value = "1")]
    pub alone: Option<f64>,
    /// Times that something is done
    #[arg(long, value_name = "COUNT")]
    pub rounds: Option<f64>,
}

impl Options {
    fn given(&self) -> BTreeMap<&'static str, f64> {
        let all = [
            ("scale", self.scale),
            ("publishers", self.publishers),
            ("subscribers", self.subscribers),
            ("connections", self.connections),
            ("subscriptions", self.subscriptions),
            ("wildcards", self.wildcards),
            ("messages", self.messages),
            ("qos", self.qos),
            ("payload", self.payload),
            ("window", self.window),
            ("rate", self.rate),
            ("connect-rate", self.connect_rate),
            ("keep-alive", self.keep_alive),
            ("warmup", self.warmup),
            ("seconds", self.seconds),
            ("threads", self.threads),
            ("v5", self.v5),
            ("wildcard", self.wildcard),
            ("alone", self.alone),
            ("rounds", self.rounds),
        ];
        let given = all.into_iter();
        given
            .filter_map(|(key, value)| value.map(|value| (key, value)))
            .collect()
    }
}

/// The settings of one run, as its scenario asks for them.
#[derive(Clone, Debug)]
pub struct Settings {
    given: BTreeMap<&'static str, f64>,
    asked: BTreeSet<&'static str>,
    resolved: BTreeMap<String, f64>,
    scale: f64,
    faults: Vec<String>,
}

impl Settings {
    /// With what the command line says.
    pub fn new(options: &Options) -> Self {
        let mut given = options.given();
        let scale = given.remove("scale");
        let mut settings = Self {
            given,
            asked: BTreeSet::new(),
            resolved: BTreeMap::new(),
            scale: scale.unwrap_or(1.0),
            faults: Vec::new(),
        };
        if let Some(scale) = scale {
            settings.check("scale", scale > 0.0 && scale.is_finite(), "above 0");
            settings.resolved.insert("scale".into(), scale);
        }
        settings
    }

    fn check(&mut self, key: &str, is_good: bool, wanted: &str) {
        if !is_good {
            self.faults.push(format!("--{key} must be {wanted}"));
        }
    }

    fn take(&mut self, key: &'static str, default: f64) -> f64 {
        self.asked.insert(key);
        let value = self.given.get(key).copied().unwrap_or(default);
        self.resolved.insert(key.into(), value);
        value
    }

    /// A setting that is a whole number.
    pub fn count(&mut self, key: &'static str, default: usize) -> usize {
        let value = self.take(key, default as f64);
        self.check(
            key,
            value.fract() == 0.0 && (0.0..1e12).contains(&value),
            "a whole number",
        );
        value.max(0.0) as usize
    }

    /// A number of clients or the like, whose default follows the scale.
    pub fn scaled(&mut self, key: &'static str, default: usize) -> usize {
        let scaled = (default as f64 * self.scale).round().max(1.0);
        self.count(key, scaled as usize)
    }

    /// A rate, whose default follows the scale.
    pub fn scaled_rate(&mut self, key: &'static str, default: f64) -> f64 {
        self.number(key, default * self.scale)
    }

    /// A number above zero.
    pub fn number(&mut self, key: &'static str, default: f64) -> f64 {
        let value = self.take(key, default);
        self.check(key, value > 0.0 && value.is_finite(), "above 0");
        value
    }

    /// A time, seconds.
    pub fn seconds(&mut self, key: &'static str, default: f64) -> f64 {
        let value = self.take(key, default);
        self.check(key, (0.0..1e9).contains(&value), "a time in seconds");
        value.clamp(0.0, 1e9)
    }

    /// Yes or no.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let value = self.take(key, f64::from(u8::from(default)));
        self.check(key, value == 0.0 || value == 1.0, "0 or 1");
        value == 1.0
    }

    /// QoS.
    pub fn qos(&mut self, default: u8) -> u8 {
        let value = self.count("qos", default.into());
        self.check("qos", value <= 2, "0, 1 or 2");
        value.min(2) as u8
    }

    /// Which MQTT.
    pub fn version(&mut self, default: Version) -> Version {
        match self.flag("v5", default == Version::V5) {
            true => Version::V5,
            false => Version::V3,
        }
    }

    /// Bytes of a payload.
    pub fn payload_bytes(&mut self, default: usize) -> usize {
        let value = self.count("payload", default);
        let good = (STAMP_BYTES..200 << 20).contains(&value);
        self.check("payload", good, "from 16 bytes to 200 MiB");
        value.clamp(STAMP_BYTES, 200 << 20)
    }

    /// A plan, as far as the command line does not change it. Numbers of clients are the scenario's own.
    pub fn plan(&mut self, default: Plan) -> Plan {
        let (rate, window) = (self.given.get("rate"), self.given.get("window"));
        let pace = match (rate, window, default.pace) {
            (Some(_), Some(_), pace) => {
                self.faults
                    .push("either --rate (open loop) or --window (closed loop)".into());
                pace
            }
            (Some(_), None, _) => Pace::Rate(self.number("rate", 1.0)),
            (None, Some(_), _) => Pace::Window(self.count("window", 1) as u64),
            (None, None, Pace::Rate(rate)) => Pace::Rate(self.number("rate", rate)),
            (None, None, Pace::Window(window)) => {
                Pace::Window(self.count("window", window as usize) as u64)
            }
        };
        // A setting that the other pace has is known, too.
        self.asked.extend(["rate", "window"]);
        let keep_alive_s = self.count("keep-alive", default.keep_alive_s.into());
        self.check("keep-alive", keep_alive_s <= 65_535, "at most 65535");
        let plan = Plan {
            qos: self.qos(default.qos),
            payload_bytes: self.payload_bytes(default.payload_bytes),
            version: self.version(default.version),
            threads: self.count("threads", default.threads),
            keep_alive_s: u16::try_from(keep_alive_s).unwrap_or(0),
            pace,
            ..default
        };
        if let Err(fault) = plan.check() {
            self.faults.push(fault);
        }
        plan
    }

    /// How subscribers of a plan's topics subscribe, if they may choose.
    pub fn filters(&mut self) -> Filters {
        match self.flag("wildcard", false) {
            true => Filters::Wildcard,
            false => Filters::Exact,
        }
    }

    /// A warm-up and one measured phase.
    pub fn phases(&mut self) -> Vec<Phase> {
        Phase::simple(self.seconds("warmup", 2.0), self.seconds("seconds", 8.0))
    }

    /// All settings with their values.
    ///
    /// # Errors
    /// What is wrong with them, or given and not known to `scenario`.
    pub fn finish(self, scenario: &str) -> Result<BTreeMap<String, f64>, String> {
        let unknown = self.given.keys().filter(|key| !self.asked.contains(*key));
        let unknown: Vec<_> = unknown.map(|key| format!("--{key}")).collect();
        if !unknown.is_empty() {
            let known: Vec<_> = self.asked.iter().map(|key| format!("--{key}")).collect();
            return Err(format!(
                "{scenario} has no {}; it has --scale, {}",
                unknown.join(", "),
                known.join(", ")
            ));
        }
        match self.faults.first() {
            Some(fault) => Err(fault.clone()),
            None => Ok(self.resolved),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(change: impl FnOnce(&mut Options)) -> Settings {
        let mut options = Options::default();
        change(&mut options);
        Settings::new(&options)
    }

    #[test]
    fn defaults_follow_the_scale_and_given_values_do_not() {
        let mut scaled = settings(|options| {
            options.scale = Some(0.1);
            options.subscribers = Some(7.0);
        });
        assert_eq!(scaled.scaled("publishers", 1000), 100);
        assert_eq!(scaled.scaled("subscribers", 1000), 7);
        assert_eq!(scaled.scaled("connections", 1), 1);
        let resolved = scaled.finish("x").unwrap();
        assert_eq!((resolved["publishers"], resolved["scale"]), (100.0, 0.1));
    }

    #[test]
    fn a_setting_that_the_scenario_does_not_know_is_refused() {
        let mut unknown = settings(|options| options.messages = Some(5.0));
        unknown.count("publishers", 5);
        let error = unknown.finish("x").unwrap_err();
        assert!(error.contains("x has no --messages") && error.contains("--publishers"));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (key, mut bad) in [
            ("qos", settings(|options| options.qos = Some(3.0))),
            ("payload", settings(|options| options.payload = Some(3.0))),
            ("scale", settings(|options| options.scale = Some(0.0))),
        ] {
            bad.qos(0);
            bad.payload_bytes(64);
            assert!(bad.finish("x").unwrap_err().contains(key));
        }
    }
}
