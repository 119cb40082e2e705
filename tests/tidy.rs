//! Our own rules, as a test that reads the tree: what a compiler does not check, and reviews forget.
//!
//! Each rule is a function from a file to its faults, with a test of its own on a bad sample. The rules are
//! those of ARCHITECTURE.md; to change one, change both.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with a panic when something is not as expected"
)]

use std::fs;
use std::path::Path;

/// A source file: its path from the root, and its text.
struct File {
    path: String,
    text: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }

    /// The module below `src/` that it belongs to.
    fn module(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        Some(below.split(['/', '.']).next().unwrap_or(below))
    }

    fn is_core(&self) -> bool {
        self.module().is_some_and(|module| CORE.contains(&module))
    }

    /// Its numbered lines of code: without comments, text in quotes, and unit tests.
    fn code(&self) -> impl Iterator<Item = (usize, String)> + '_ {
        let all_tests = self.path.ends_with("_tests.rs");
        let lines = self
            .text
            .lines()
            .take_while(move |line| !all_tests && !line.starts_with("mod tests {"));
        (1..).zip(lines.map(bare))
    }

    fn fault(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// A line without its comment and with empty quotes. Good for code as rustfmt leaves it, not for all of Rust.
fn bare(line: &str) -> String {
    let mut code = String::new();
    let mut chars = line.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => {
                chars.next();
            }
            '"' => {
                quoted = !quoted;
                code.push(c);
            }
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            _ if quoted => {}
            _ => code.push(c),
        }
    }
    code
}

/// Whether `word` is in `code` and not a part of a longer name.
fn has_word(code: &str, word: &str) -> bool {
    let of_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(start, _)| {
        let before = code[..start].chars().next_back();
        let after = code[start + word.len()..].chars().next();
        !before.is_some_and(of_name) && !after.is_some_and(of_name)
    })
}

/// Modules without I/O, clock, threads and tasks.
const CORE: [&str; 5] = ["mqtt", "session", "routing", "journal", "broker"];

/// Which modules each module may use besides itself. A new module needs its line here.
const MAY_USE: &[(&str, &[&str])] = &[
    ("mqtt", &[]),
    ("config", &["mqtt"]),
    ("routing", &["config", "mqtt"]),
    ("session", &["config", "mqtt", "routing"]),
    ("observability", &["config", "mqtt"]),
    ("journal", &["config", "mqtt", "routing", "session"]),
    (
        "broker",
        &[
            "config",
            "journal",
            "mqtt",
            "observability",
            "routing",
            "session",
        ],
    ),
    ("net", &["config"]),
    ("access", &["broker", "config", "mqtt"]),
    (
        "storage",
        &["config", "journal", "mqtt", "observability", "routing"],
    ),
    (
        "shard",
        &[
            "broker",
            "config",
            "journal",
            "mqtt",
            "net",
            "observability",
            "routing",
            "storage",
        ],
    ),
    (
        "control",
        &[
            "broker",
            "config",
            "mqtt",
            "observability",
            "routing",
            "shard",
        ],
    ),
    (
        "runtime",
        &[
            "access",
            "broker",
            "config",
            "journal",
            "net",
            "observability",
            "routing",
            "shard",
            "storage",
        ],
    ),
    ("cli", &["config"]),
    (
        "command",
        &["cli", "config", "mqtt", "net", "observability", "runtime"],
    ),
];

/// Modules know only what is below them.
fn direction(file: &File) -> Vec<String> {
    let Some(module) = file
        .module()
        .filter(|module| !matches!(*module, "lib" | "main"))
    else {
        return Vec::new();
    };
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
        return vec![file.fault(1, &format!("the module {module} has no line in MAY_USE"))];
    };
    let mut faults = Vec::new();
    for (line, code) in file.code() {
        for used in code.split("crate::").skip(1) {
            let name: String = used
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if used.starts_with('{') {
                faults.push(file.fault(line, "one `use` for each module of the crate"));
            } else if name != module && !allowed.contains(&name.as_str()) {
                faults.push(file.fault(line, &format!("{module} must not use {name}")));
            }
        }
    }
    faults
}

/// What the core must not have: whatever reaches outside or waits.
const NOT_IN_CORE: &[&str] = &[
    "glommio",
    "io_uring",
    "tokio",
    "async",
    "await",
    "net",
    "fs",
    "thread",
    "Instant",
    "SystemTime",
    "rustix",
    "libc",
    "socket2",
    "Mutex",
    "RwLock",
];

/// The core is synchronous state machines.
fn core_purity(file: &File) -> Vec<String> {
    if !file.is_core() {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for (line, code) in file.code() {
        for word in NOT_IN_CORE {
            if has_word(&code, word) {
                faults.push(file.fault(line, &format!("`{word}` in the core")));
            }
        }
    }
    faults
}

/// Where each engine may be seen.
const SEAMS: &[(&str, &[&str])] = &[
    ("glommio", &["src/runtime/", "src/storage/"]),
    ("io_uring", &["src/net/ring/", "src/runtime/kernel_probe"]),
];

/// glommio and io_uring stay behind their seams.
fn seams(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    for (engine, places) in SEAMS {
        if !file.path.starts_with("src/") || places.iter().any(|place| file.path.starts_with(place))
        {
            continue;
        }
        for (line, code) in file
            .code()
            .filter(|(_, code)| code.contains(&format!("{engine}::")))
        {
            faults.push(file.fault(line, &format!("{engine} outside its seam: {}", code.trim())));
        }
    }
    faults
}

/// Files that may have `unsafe`.
const UNSAFE: &[&str] = &["src/net/ring/", "src/shard/mesh.rs", "src/storage/bell.rs"];

/// `unsafe` only where memory is shared with the kernel or another core.
fn no_unsafe(file: &File) -> Vec<String> {
    if UNSAFE.iter().any(|place| file.path.starts_with(place)) {
        return Vec::new();
    }
    let unsafes = file
        .text
        .lines()
        .zip(1..)
        .filter(|(line, _)| has_word(&bare(line), "unsafe"));
    unsafes
        .map(|(_, line)| file.fault(line, "`unsafe`"))
        .collect()
}

/// Lines that a file may have.
const FILE_LINES_MAX: usize = 800;

/// No file owns everything.
fn file_length(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    match lines > FILE_LINES_MAX {
        true => vec![file.fault(
            lines,
            &format!("{lines} lines, {FILE_LINES_MAX} are allowed: split it"),
        )],
        false => Vec::new(),
    }
}

/// Every queue has a cap with a name: a field that is a `VecDeque` names it in its doc, a channel takes it.
fn named_caps(file: &File) -> Vec<String> {
    if !file.path.starts_with("src/") {
        return Vec::new();
    }
    let names_cap = |text: &str| text.contains("_max") || text.contains("_MAX");
    let mut faults = Vec::new();
    let mut doc = String::new();
    let raw: Vec<&str> = file.text.lines().collect();
    for (line, code) in file.code() {
        let trimmed = raw[line - 1].trim();
        if trimmed.starts_with("///") {
            doc.push_str(trimmed);
            continue;
        }
        if code.contains(": VecDeque<") && code.trim_end().ends_with(',') && !names_cap(&doc) {
            faults.push(file.fault(line, "a queue whose doc does not name its cap (`..._max`)"));
        }
        for unlimited in ["unbounded(", "mpsc::channel(", "unbounded_channel("] {
            if code.contains(unlimited) {
                faults
                    .push(file.fault(line, &format!("`{unlimited}..)`: a channel without a cap")));
            }
        }
        if let Some((_, argument)) = code
            .split_once("bounded(")
            .or(code.split_once("sync_channel("))
        {
            let first = argument.trim_start().chars().next();
            if first.is_none_or(|c| c.is_ascii_digit())
                || !argument.contains(|c: char| c.is_alphabetic())
            {
                faults.push(file.fault(line, "the cap of a channel must have a name"));
            }
        }
        if !trimmed.starts_with("#[") {
            doc.clear();
        }
    }
    faults
}

/// Nothing is left for later.
fn leftovers(file: &File) -> Vec<String> {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
        concat!("#[ig", "nore"),
        concat!("db", "g!("),
    ];
    let mut faults = Vec::new();
    for (line, number) in file.text.lines().zip(1..) {
        for word in words.iter().filter(|word| line.contains(*word)) {
            faults.push(file.fault(number, &format!("`{word}` is left")));
        }
    }
    faults
}

/// Names that every collection of Rust has.
const OF_COLLECTIONS: [&str; 2] = ["get_mut", "get_or_insert"];

/// Names say what a thing is: no `get_`, `Manager`, `Handler`, `Util`.
fn house_words(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    for (line, code) in file.code() {
        for keyword in ["fn ", "struct ", "enum ", "trait ", "mod ", "type "] {
            for after in code.split(keyword).skip(1) {
                let name: String = after
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let banned = ["Manager", "Handler", "Util", "Helper"]
                    .iter()
                    .any(|word| name.contains(word))
                    || (name.starts_with("get_") && !OF_COLLECTIONS.contains(&name.as_str()))
                    || ["util", "utils", "helper", "helpers", "common", "misc"]
                        .contains(&name.as_str());
                if banned {
                    faults.push(
                        file.fault(line, &format!("the name `{name}` does not say what it is")),
                    );
                }
            }
        }
    }
    faults
}

/// Nothing of one machine is in the tree.
fn machine_paths(file: &File) -> Vec<String> {
    let places = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/wo", "rk/"),
    ];
    let mut faults = Vec::new();
    for (line, number) in file.text.lines().zip(1..) {
        for place in places.iter().filter(|place| line.contains(*place)) {
            faults.push(file.fault(number, &format!("a path of one machine: `{place}`")));
        }
    }
    faults
}

/// Every file begins with what it is for.
fn module_doc(file: &File) -> Vec<String> {
    let first = file.text.lines().next().unwrap_or_default();
    match first.starts_with("//! ") && first.len() > 10 {
        true => Vec::new(),
        false => vec![file.fault(1, "the file does not begin with `//!` and its purpose")],
    }
}

/// A file that no `mod` names is not compiled, and nobody notices.
fn declared(file: &File, files: &[File]) -> Vec<String> {
    let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let roots = ["main.rs", "lib.rs", "mod.rs"];
    let is_root = roots.contains(&name) || matches!(folder, "tests" | "benches" | "examples");
    if is_root || folder.ends_with("/bin") {
        return Vec::new();
    }
    let stem = name.trim_end_matches(".rs");
    let mut parents: Vec<String> = roots
        .iter()
        .map(|root| format!("{folder}/{root}"))
        .collect();
    parents.push(format!("{folder}.rs"));
    // A file of unit tests is named by the file that it tests.
    let tested = stem
        .strip_suffix("_tests")
        .map(|tested| format!("{folder}/{tested}.rs"));
    parents.extend(tested);
    let named = files
        .iter()
        .filter(|other| parents.contains(&other.path))
        .any(|parent| {
            let lines = parent.text.lines().map(str::trim);
            let mut mods = lines.filter(|line| line.ends_with(';') && has_word(line, "mod"));
            mods.any(|line| has_word(line, stem))
                || parent.text.contains(&format!("#[path = \"{name}\"]"))
        });
    match named {
        true => Vec::new(),
        false => vec![file.fault(1, "no `mod` names this file")],
    }
}

/// All source files of the tree.
fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "bench-harness"] {
        collect(root, &root.join(folder), &mut files);
    }
    assert!(files.len() > 30, "only {} files were found", files.len());
    files
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<File>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("an entry of a folder").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !matches!(&*name, "target" | "node_modules" | "corpus") && !name.starts_with('.') {
                collect(root, &path, files);
            }
        } else if name.ends_with(".rs") {
            let below = path.strip_prefix(root).expect("a path in the tree");
            let text = fs::read_to_string(&path).expect("a source file");
            files.push(File::new(&below.to_string_lossy(), &text));
        }
    }
}

/// Fails with all faults that `rule` finds in the tree.
fn check(rule: impl Fn(&File) -> Vec<String>) {
    let faults: Vec<String> = files().iter().flat_map(rule).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn modules_use_only_what_is_below_them() {
    check(direction);
}

#[test]
fn the_core_has_no_io_clock_or_threads() {
    check(core_purity);
}

#[test]
fn glommio_and_io_uring_stay_behind_their_seams() {
    check(seams);
}

#[test]
fn unsafe_is_where_it_must_be() {
    check(no_unsafe);
}

#[test]
fn files_are_short() {
    check(file_length);
}

#[test]
fn queues_have_named_caps() {
    check(named_caps);
}

#[test]
fn nothing_is_left_for_later() {
    check(leftovers);
}

#[test]
fn names_say_what_things_are() {
    check(house_words);
}

#[test]
fn the_tree_has_no_paths_of_one_machine() {
    check(machine_paths);
}

#[test]
fn files_begin_with_their_purpose() {
    check(module_doc);
}

#[test]
fn every_file_is_compiled() {
    let files = files();
    let faults: Vec<String> = files
        .iter()
        .flat_map(|file| declared(file, &files))
        .collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn documents_and_licences_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in [
        "README.md",
        "SECURITY.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        ".ci/run",
    ] {
        let text = fs::read_to_string(root.join(name)).unwrap_or_default();
        assert!(text.len() > 200, "{name} is missing or has nothing to say");
    }
}

/// The rules themselves: each finds what it is for, and nothing in good code.
mod rules {
    use super::*;

    #[track_caller]
    fn finds(rule: impl Fn(&File) -> Vec<String>, path: &str, bad: &[&str], good: &[&str]) {
        for text in bad {
            assert!(
                !rule(&File::new(path, text)).is_empty(),
                "not found: {text}"
            );
        }
        for text in good {
            let faults = rule(&File::new(path, text));
            assert!(faults.is_empty(), "{faults:?}");
        }
    }

    #[test]
    fn direction_finds_what_looks_up() {
        finds(
            direction,
            "src/mqtt/frame.rs",
            &[
                "use crate::broker::Broker;",
                "fn f() { crate::config::load(); }",
                "use crate::{broker, mqtt};",
            ],
            &[
                "use crate::mqtt::Frame;",
                "// crate::broker is elsewhere",
                "#[cfg(test)]\nmod tests {\n    use crate::broker::X;",
            ],
        );
        finds(
            direction,
            "src/broker/mod.rs",
            &["use crate::shard::Shard;"],
            &["use crate::session::Session;"],
        );
        finds(direction, "src/novelty/mod.rs", &["//! New."], &[]);
    }

    #[test]
    fn core_purity_finds_io_clock_and_tasks() {
        let bad = [
            "use std::net::SocketAddr;",
            "use std::time::Instant;",
            "let t = std::time::SystemTime::now();",
            "pub async fn f() {}",
            "std::thread::spawn(f);",
            "use glommio::Task;",
        ];
        let good = [
            "use std::time::Duration;",
            "/// No std::net here.",
            "let internet = threads;",
            "\"async\"",
        ];
        finds(core_purity, "src/routing/x.rs", &bad, &good);
        finds(core_purity, "src/net/x.rs", &[], &bad);
    }

    #[test]
    fn seams_finds_engines_elsewhere() {
        finds(
            seams,
            "src/shard/turn.rs",
            &["use glommio::Task;", "io_uring::opcode::Recv"],
            &["// glommio::x"],
        );
        finds(
            seams,
            "src/net/ring/mod.rs",
            &["use glommio::Task;"],
            &["use io_uring::IoUring;"],
        );
    }

    #[test]
    fn no_unsafe_finds_it() {
        let bad = ["unsafe { f() }", "unsafe impl Send for X {}"];
        finds(
            no_unsafe,
            "src/broker/x.rs",
            &bad,
            &["#![deny(unsafe_code)]", "// unsafe", "\"unsafe\""],
        );
        finds(no_unsafe, "src/net/ring/x.rs", &[], &bad);
    }

    #[test]
    fn file_length_finds_long_files() {
        finds(
            file_length,
            "src/x.rs",
            &[&"x\n".repeat(801)],
            &[&"x\n".repeat(800)],
        );
    }

    #[test]
    fn named_caps_finds_endless_queues() {
        let bad = [
            "struct A {\n    /// Waits.\n    queue: VecDeque<u8>,\n}",
            "struct A {\n    /// At most `x_max`.\n    a: u8,\n    queue: VecDeque<u8>,\n}",
            "let (a, b) = crossbeam_channel::unbounded();",
            "let (a, b) = mpsc::channel();",
            "let (a, b) = crossbeam_channel::bounded(16);",
            "let (a, b) = mpsc::sync_channel(0);",
        ];
        let good = [
            "struct A {\n    /// At most `waiting_max`.\n    queue: VecDeque<u8>,\n}",
            "let (a, b) = crossbeam_channel::bounded(INBOX_MAX);",
            "let (a, b) = crossbeam_channel::bounded(limits.batches_max);",
            "let (a, b) = mpsc::sync_channel(EVENTS_MAX);",
        ];
        finds(named_caps, "src/x.rs", &bad, &good);
    }

    #[test]
    fn leftovers_finds_them() {
        let bad = [
            concat!("// TO", "DO: later"),
            concat!("to", "do!()"),
            concat!("#[ig", "nore]"),
        ];
        finds(leftovers, "src/x.rs", &bad, &["let done = 1;"]);
    }

    #[test]
    fn house_words_finds_empty_names() {
        let bad = [
            "struct SessionManager;",
            "pub fn get_topic() {}",
            "mod utils;",
            "trait PacketHandler {}",
        ];
        finds(
            house_words,
            "src/x.rs",
            &bad,
            &["fn budget_of() {}", "let handler = 1;", "struct Session;"],
        );
    }

    #[test]
    fn machine_paths_finds_them() {
        finds(
            machine_paths,
            "src/x.rs",
            &[concat!("\"/ho", "me/me\"")],
            &["\"/run/ringmq.sock\""],
        );
    }

    #[test]
    fn module_doc_finds_its_absence() {
        finds(
            module_doc,
            "src/x.rs",
            &["use a;", "", "//!"],
            &["//! What it is for."],
        );
    }

    #[test]
    fn declared_finds_files_that_nobody_names() {
        let files = [
            File::new("src/a/mod.rs", "pub mod b;\nmod c;"),
            File::new("src/lib.rs", "mod a;"),
        ];
        for (path, faults) in [
            ("src/a/b.rs", 0),
            ("src/a/c.rs", 0),
            ("src/a/d.rs", 1),
            ("src/a.rs", 0),
        ] {
            assert_eq!(
                declared(&File::new(path, ""), &files).len(),
                faults,
                "{path}"
            );
        }
    }
}
