//! Which way things may point: gpu, cpu <- program <- train <- the program; analysis knows neither gpu nor train.

use crate::support::{Outcome, require, test};
use libtest_mimic::Trial;
use std::path::{Path, PathBuf};

/// A room of src/, and the modules of the crate that it may name.
const ROOMS: &[(&str, &[&str])] = &[
    ("random", &[]),
    ("gpu", &[]),
    ("cpu", &["model", "plan"]),
    ("plan", &["task"]),
    ("task", &["random"]),
    ("model", &["plan", "random"]),
    ("shaders", &["gpu"]),
    ("program", &["cpu", "gpu", "model", "plan", "shaders", "task"]),
    ("analysis", &["cpu", "model", "plan", "random", "task"]),
    ("report", &["analysis"]),
    ("train", &["model", "plan", "program"]),
    ("run", &["model", "plan", "program", "task", "train"]),
    ("bench", &["devices", "gpu", "model", "plan", "program", "run", "task"]),
];

/// Rooms that are fit for a browser: no files, no clocks, no threads of their own.
const FOR_THE_BROWSER: &[&str] =
    &["random", "gpu", "plan", "task", "model", "shaders", "program", "analysis", "train", "report"];

pub fn tests() -> Vec<Trial> {
    vec![
        test("modules_point_one_way", modules_point_one_way),
        test("the_core_is_fit_for_a_browser", no_files_in_the_core),
    ]
}

fn sources(room: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut pending = vec![root.join(room), root.join(format!("{room}.rs"))];
    let mut found = Vec::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            // Tests of a module may use whatever shows the point.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            found.push((path, code));
        }
    }
    found
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
