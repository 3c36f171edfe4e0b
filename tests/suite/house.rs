//! Which way things may point: gpu, cpu <- program <- train <- the program; analysis knows neither gpu nor train.

use crate::support::{Outcome, require, test};
use libtest_mimic::Trial;
use std::path::{Path, PathBuf};

/// A room of src/, and the modules of the crate that it may name.
const ROOMS: &[(&str, &[&str])] = &[
    ("random", &[]),
    ("gpu", &[]),
    ("matrices", &[]),
    ("cpu", &["matrices", "model", "plan"]),
    ("method", &[]),
    ("plan", &["method", "task"]),
    ("task", &["random"]),
    ("model", &["plan", "random"]),
    ("shaders", &["gpu"]),
    ("sanitizer", &[]),
    ("program", &["cpu", "gpu", "matrices", "method", "model", "plan", "shaders", "task"]),
    ("self_check", &["cpu", "gpu", "method", "model", "plan", "program", "random", "shaders", "task"]),
    ("analysis", &["cpu", "model", "plan", "random", "task"]),
    ("report", &["analysis"]),
    ("train", &["model", "plan", "program"]),
    ("signals", &["progress"]),
    ("learning", &["train"]),
    ("run", &["analysis", "learning", "method", "model", "plan", "program", "task", "train"]),
    ("sweep", &["analysis", "learning", "plan", "progress", "random", "report", "run", "session", "train"]),
    ("bench", &["devices", "gpu", "model", "plan", "program", "run", "sanitizer", "shaders", "task"]),
];

/// Rooms that are fit for a browser: no files, no clocks, no threads of their own.
const FOR_THE_BROWSER: &[&str] = &[
    "random",
    "gpu",
    "matrices",
    "method",
    "plan",
    "task",
    "model",
    "shaders",
    "sanitizer",
    "program",
    "self_check",
    "analysis",
    "train",
    "learning",
    "report",
];

pub fn tests() -> Vec<Trial> {
    vec![
        test("modules_point_one_way", modules_point_one_way),
        test("the_core_is_fit_for_a_browser", no_files_in_the_core),
        test("unsafe_stands_where_it_is_listed_and_says_why", unsafe_is_listed),
        test("nothing_speaks_to_a_network", no_network),
    ]
}

/// Files of src/ with unsafe in them, and how often. docs/reliability.md says why each is needed.
const UNSAFE: &[(&str, usize)] =
    &[("cpu/matmul.rs", 7), ("devices/pipeline_cache.rs", 1), ("gpu/device.rs", 1), ("main.rs", 1), ("signals.rs", 2)];

fn all_sources() -> Vec<(PathBuf, String)> {
    files(vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")])
}

/// The texts of files, and of those in directories.
fn files(mut pending: Vec<PathBuf>) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            found.push((path, text));
        }
    }
    found
}

fn unsafe_is_listed() -> Outcome {
    for (path, text) in all_sources() {
        let lines: Vec<&str> = text.lines().collect();
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        let mut count = 0;
        for (i, line) in lines.iter().enumerate().filter(|(_, line)| is_code(line)) {
            if !line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe") {
                continue;
            }
            count += 1;
            let before = &lines[i.saturating_sub(4)..i];
            require!(before.iter().any(|line| line.contains("SAFETY:")), "{}:{}: no SAFETY", path.display(), i + 1);
        }
        let listed = UNSAFE.iter().find(|(file, _)| path.ends_with(Path::new("src").join(file))).map_or(0, |(_, n)| *n);
        require!(count == listed, "{} has unsafe {count} times, {listed} are listed", path.display());
    }
    Ok(())
}

/// Neither the program nor what it is built from; `deny.toml` bans the crates that would.
fn no_network() -> Outcome {
    for (path, text) in all_sources() {
        for word in ["std::net", "TcpStream", "UdpSocket"] {
            require!(!text.contains(word), "{} uses {word}", path.display());
        }
    }
    let speaking =
        ["reqwest", "hyper", "ureq", "curl", "curl-sys", "openssl-sys", "native-tls", "rustls", "socket2", "mio"];
    let built = |more: &[&str]| -> Result<Vec<String>, libtest_mimic::Failed> {
        let mut command = std::process::Command::new(std::env::var("CARGO").unwrap_or("cargo".into()));
        command.args(["tree", "--edges", "normal", "--prefix", "none", "--format", "{lib}", "--locked"]).args(more);
        let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
        require!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.lines().map(String::from).collect())
    };
    let names = built(&[])?;
    require!(names.len() > 100, "the tree of what is built has {} lines", names.len());
    for name in speaking {
        require!(!names.contains(&name.replace('-', "_")), "{name} is built in");
    }
    // What is asked for by name is found in the same way.
    require!(built(&["--features", "s3"])?.contains(&"reqwest".to_string()), "the feature s3 has no client");
    require!(!Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs").exists(), "there is a build script");
    Ok(())
}

/// A room's code, without comments and tests.
fn sources(room: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let code = |(path, text): (PathBuf, String)| {
        // Tests of a module may use whatever shows the point.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        (path, code)
    };
    files(vec![root.join(room), root.join(format!("{room}.rs"))]).into_iter().map(code).collect()
}

fn modules_point_one_way() -> Outcome {
    for (room, allowed) in ROOMS {
        let files = sources(room);
        require!(!files.is_empty(), "there is no room {room}");
        for (path, code) in files {
            for named in code.split("crate::").skip(1) {
                let named = named.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                let is_room = ROOMS.iter().any(|(room, _)| *room == named)
                    || ["cli", "session", "devices", "progress"].contains(&named);
                require!(
                    !is_room || named == *room || allowed.contains(&named),
                    "{} names {named}, which {room} must not know",
                    path.display()
                );
            }
        }
    }
    Ok(())
}

fn no_files_in_the_core() -> Outcome {
    for room in FOR_THE_BROWSER {
        for (path, code) in sources(room) {
            for word in ["std::fs", "std::thread", "Instant", "SystemTime", "pollster"] {
                require!(!code.contains(word), "{} uses {word}", path.display());
            }
        }
    }
    Ok(())
}
