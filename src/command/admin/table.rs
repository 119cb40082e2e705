//! Answers as tables for people.

use serde_json::Value;

/// A column: its head, the field of a row, and whether it is a number.
#[derive(Clone, Copy)]
pub(super) struct Column {
    head: &'static str,
    field: &'static str,
    right: bool,
}

impl Column {
    pub(super) const fn text(head: &'static str, field: &'static str) -> Self {
        Self {
            head,
            field,
            right: false,
        }
    }

    pub(super) const fn number(head: &'static str, field: &'static str) -> Self {
        Self {
            head,
            field,
            right: true,
        }
    }
}

/// A value as it is read; what a client chose cannot steer the terminal.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => {
            let safe = |c: char| if c.is_control() { '\u{fffd}' } else { c };
            text.chars().map(safe).collect()
        }
        Value::Number(number) if number.is_f64() => {
            format!("{:.1}", number.as_f64().unwrap_or_default())
        }
        other => other.to_string(),
    }
}

/// Rows as a table with a head.
pub(super) fn rows(rows: &Value, columns: &[Column]) -> String {
    let none = Vec::new();
    let rows = rows.as_array().unwrap_or(&none);
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            columns
                .iter()
                .map(|column| shown(&row[column.field]))
                .collect()
        })
        .collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(place, column)| {
            let widest = cells.iter().map(|row| row[place].chars().count()).max();
            widest.unwrap_or(0).max(column.head.len())
        })
        .collect();
    let line = |cells: &[&str]| {
        let parts: Vec<String> = cells
            .iter()
            .zip(columns)
            .zip(&widths)
            .map(|((cell, column), width)| match column.right {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            })
            .collect();
        format!("{}\n", parts.join("  ").trim_end())
    };
    let heads: Vec<&str> = columns.iter().map(|column| column.head).collect();
    let mut text = line(&heads);
    for row in &cells {
        let row: Vec<&str> = row.iter().map(String::as_str).collect();
        text.push_str(&line(&row));
    }
    text
}

/// The fields of one thing, one a line.
pub(super) fn fields(value: &Value) -> String {
    let Some(fields) = value.as_object() else {
        return format!("{}\n", shown(value));
    };
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    fields
        .iter()
        .map(|(name, value)| format!("{name:<width$}  {}\n", shown(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_line_up_and_controls_are_replaced() {
        let columns = [Column::text("NAME", "n"), Column::number("BYTES", "b")];
        let answer = json!([{ "n": "long-name", "b": 7 }, { "n": "\u{1b}[2J", "b": null }]);
        assert_eq!(
            rows(&answer, &columns),
            "NAME       BYTES\nlong-name      7\n\u{fffd}[2J           -\n"
        );
        assert_eq!(fields(&json!({ "a": 1, "bc": "x" })), "a   1\nbc  x\n");
    }
}
