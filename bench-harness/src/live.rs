//! The view of a run while it runs: on standard error, and only if that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::Sample;
use crate::report::text::{bytes, count};

/// Steps of a full bar.
const STEPS: u64 = 1000;
/// How often it is drawn, per second: drawing takes time from the generator.
const DRAWN_PER_S: u8 = 4;

/// One line that changes.
#[derive(Clone, Debug)]
pub struct Live(ProgressBar);

impl Live {
    /// For a run named `title`; shows nothing unless `shown` and there is a terminal.
    pub fn new(title: &str, shown: bool) -> Self {
        let target = match shown {
            true => ProgressDrawTarget::stderr_with_hz(DRAWN_PER_S),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(STEPS), target);
        let style = ProgressStyle::with_template("{prefix} [{bar:24}] {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(title.to_owned());
        Self(bar)
    }

    /// What is going on, without a measure.
    pub fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
        self.0.tick();
    }

    /// How far a phase has come, and what was seen last.
    pub fn progress(&self, phase: &str, share: f64, sample: Option<&Sample>) {
        if self.0.is_hidden() {
            return;
        }
        self.0
            .set_position((share.clamp(0.0, 1.0) * STEPS as f64) as u64);
        let mut message = phase.to_owned();
        if let Some(sample) = sample {
            message += &format!(
                ": in {} out {} msg/s",
                count(sample.in_per_s),
                count(sample.out_per_s)
            );
            if let Some(cpu) = sample.broker_cpu {
                message += &format!(", broker {:.0} % CPU", cpu * 100.0);
            }
            if let Some(rss) = sample.broker_rss_bytes {
                message += &format!(", {}", bytes(rss as f64));
            }
        }
        self.0.set_message(message);
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.0.disable_steady_tick();
        self.0.finish_and_clear();
    }

    /// Sleeps, and shows how far it is.
    pub fn sleep(&self, what: &str, seconds: f64) {
        let steps = (seconds * 10.0).ceil().max(1.0);
        for step in 0..steps as u64 {
            self.progress(what, step as f64 / steps, None);
            std::thread::sleep(Duration::from_secs_f64(seconds / steps));
        }
    }
}
