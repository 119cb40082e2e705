//! What happened, line by line: only kept while a failing seed is played again.

use std::cell::RefCell;

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Begins to keep lines on this thread.
pub fn start() {
    LINES.with(|lines| *lines.borrow_mut() = Some(Vec::new()));
}

/// Ends it and gives the lines.
pub fn finish() -> Vec<String> {
    LINES.with(|lines| lines.borrow_mut().take().unwrap_or_default())
}

/// Adds a line, which is made only if lines are kept.
pub fn say(line: impl FnOnce() -> String) {
    LINES.with(|lines| {
        if let Some(lines) = lines.borrow_mut().as_mut() {
            lines.push(line());
        }
    });
}
