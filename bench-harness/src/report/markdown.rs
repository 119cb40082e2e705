//! Reports as a table for documents: a row for each phase of each run.

use super::Report;
use super::text::{count, faults_line, figure_value, us};

/// The table, the other figures, and where it was.
pub fn markdown(reports: &[Report]) -> String {
    let mut out = String::from(
        "| scenario | broker | phase | in /s | out /s | in+out /s | broker CPU us each | p50 us | p90 us | p99 us | p99.9 us | \
         max us | switches /s | limit | faults |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    );
    for report in reports {
        for phase in &report.findings.phases {
            let (sent, delivered) = (phase.in_per_s(), phase.out_per_s());
            let latency = &phase.latency;
            let times = [
                latency.p50,
                latency.p90,
                latency.p99,
                latency.p999,
                latency.max,
            ];
            let times = times.map(|time| match latency.count {
                0 => "-".into(),
                _ => us(time),
            });
            let optional = |value: Option<String>| value.unwrap_or_else(|| "-".into());
            out += &format!(
                "\n| {} | {} | {} ({}s) | {} | {} | {} | {} | {} | {} | {} | {} |",
                report.scenario,
                report.broker.name,
                phase.name,
                phase.unit,
                count(sent),
                count(delivered),
                count(sent + delivered),
                optional(phase.cpu_us().map(|value| format!("{value:.3}"))),
                times.join(" | "),
                optional(phase.switches_per_s().map(count)),
                phase.limit(report.broker.cpus.len()).word(),
                faults_line(&report.findings.faults),
            );
        }
    }
    out + &figures(reports) + &origin(reports)
}

fn figures(reports: &[Report]) -> String {
    let mut rows = String::new();
    for report in reports {
        let (scenario, broker) = (&report.scenario, &report.broker.name);
        for figure in &report.findings.figures {
            let value = figure_value(figure);
            rows += &format!("\n| {scenario} | {broker} | {} | {value} |", figure.name);
        }
        for failure in &report.findings.failures {
            rows += &format!("\n| {scenario} | {broker} | FAILED | {failure} |");
        }
    }
    match rows.as_str() {
        "" => rows,
        _ => format!("\n\n| scenario | broker | figure | value |\n|---|---|---|---|{rows}"),
    }
}

/// Settings, versions and machine, each once.
fn origin(reports: &[Report]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for report in reports {
        let settings = report.configuration.iter();
        let settings: Vec<_> = settings
            .map(|(key, value)| format!("{key} {value}"))
            .collect();
        let broker = &report.broker;
        let mut started = broker
            .command
            .clone()
            .unwrap_or_else(|| broker.address.clone());
        if let Some(version) = &broker.version {
            started += &format!(" ({version})");
        }
        for line in [
            format!("{}: {}", report.scenario, settings.join(", ")),
            format!("{}: `{started}`", broker.name),
            format!(
                "ringmq-bench {} on {}",
                report.version,
                report.machine.line()
            ),
        ] {
            // Ports and directories differ from run to run: the first says enough.
            let label = line.split(": ").next().unwrap_or_default();
            if !lines
                .iter()
                .any(|known| known.split(": ").next() == Some(label))
            {
                lines.push(line);
            }
        }
    }
    format!("\n\n- {}", lines.join("\n- "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample_report;

    #[test]
    fn a_row_has_as_many_cells_as_the_head() {
        let text = markdown(&[sample_report("a"), sample_report("b")]);
        let cells = |line: &str| line.matches(" | ").count();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(cells(lines[0]), cells(lines[2]));
        assert!(
            lines[2].contains("| 1,000 | 2,000 | 3,000 | 0.250 |"),
            "{text}"
        );
        assert!(lines[3].contains("| b |"));
        assert!(text.contains("| memory | 576 B |"));
    }
}
