//! Reports as one HTML file that needs nothing else: the tables, and plots as inline SVG.

use std::io;

use super::Report;
use super::markdown::markdown;
use super::plot;

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#1c2430}\
table{border-collapse:collapse;display:block;overflow-x:auto;font-size:13px;margin:1rem 0}\
th,td{border-bottom:1px solid #d5dbe3;padding:.3rem .6rem;text-align:right;white-space:nowrap}\
th:nth-child(-n+3),td:nth-child(-n+3){text-align:left}\
th{background:#f2f5f9}\
svg{max-width:100%;height:auto;margin:1rem 0}\
li{font-size:13px}";

/// The page.
///
/// # Errors
/// If a plot cannot be drawn.
pub fn page(reports: &[Report]) -> io::Result<String> {
    let mut body = format!("<h1>{}</h1>\n", escape(&title(reports)));
    body += &blocks(&markdown(reports));
    body += "<h2>Latency by percentile</h2>\n";
    body += &plot::latency(reports)?;
    if let Some(svg) = plot::throughput_against_cpu(reports)? {
        body += "<h2>Throughput against CPU</h2>\n";
        body += &svg;
    }
    if let Some(svg) = plot::throughput_over_time(reports)? {
        body += "<h2>Throughput over time</h2>\n";
        body += &svg;
    }
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n{body}</body>\n</html>\n",
        escape(&title(reports))
    ))
}

fn title(reports: &[Report]) -> String {
    let mut scenarios: Vec<_> = reports
        .iter()
        .map(|report| report.scenario.as_str())
        .collect();
    scenarios.dedup();
    format!("ringmq-bench: {}", scenarios.join(", "))
}

/// The Markdown of our own tables and lists as HTML.
fn blocks(markdown: &str) -> String {
    let mut out = String::new();
    for block in markdown.split("\n\n") {
        let mut lines = block.lines().peekable();
        if lines.peek().is_some_and(|line| line.starts_with('|')) {
            out += "<table>\n";
            for (number, line) in lines.enumerate().filter(|(number, _)| *number != 1) {
                let tag = if number == 0 { "th" } else { "td" };
                let cells = line.trim_matches('|').split(" | ");
                let cells = cells.map(|cell| format!("<{tag}>{}</{tag}>", escape(cell.trim())));
                out += &format!("<tr>{}</tr>\n", cells.collect::<String>());
            }
            out += "</table>\n";
        } else {
            let items = lines.map(|line| {
                let text = escape(line.trim_start_matches("- "));
                format!("<li>{}</li>\n", text.replace('`', ""))
            });
            out += &format!("<ul>\n{}</ul>\n", items.collect::<String>());
        }
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample_report;

    #[test]
    fn a_page_is_self_contained() {
        let page = page(&[sample_report("a<b"), sample_report("c")]).unwrap();
        assert!(page.contains("a&lt;b") && !page.contains("a<b"));
        assert_eq!(page.matches("<svg").count(), 3);
        assert_eq!(page.matches("<table>").count(), 2);
        assert!(!page.contains("src=") && !page.contains("href="));
    }
}
