//! The program in a shell: completions, manual pages, colours, pipes.

use crate::support::{self, Outcome, grokscope_in, require, succeed, test};
use libtest_mimic::Trial;
use std::path::Path;
use std::process::{Command, Stdio};

pub fn tests() -> Vec<Trial> {
    vec![
        test("shells_read_the_completions_and_man_the_pages", shells),
        test("colours_are_for_terminals_that_want_them", colours),
        test("a_reader_that_has_seen_enough_is_no_error", broken_pipes),
        test("runs_are_listed_with_what_differs", listed),
        #[cfg(unix)]
        test("open_hands_the_page_to_the_desktop", open),
    ]
}

fn shells() -> Outcome {
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    for (shell, word) in
        [("bash", "complete -F"), ("zsh", "#compdef"), ("fish", "complete -c"), ("powershell", "Register-")]
    {
        let output = grokscope_in(at, &["completions", shell]);
        require!(output.status.success(), "{output:?}");
        let script = String::from_utf8_lossy(&output.stdout).into_owned();
        require!(script.contains(word) && script.contains("checkpoint-every"), "{shell}: {script:.200}");
        std::fs::write(at.join(shell), script)?;
    }
    // What bash itself offers after "grokscope ana".
    let ask =
        "source ./bash; COMP_WORDS=(grokscope ana); COMP_CWORD=1; _grokscope grokscope ana; echo \"${COMPREPLY[*]}\"";
    let output = Command::new("bash").args(["-c", ask]).current_dir(at).output()?;
    require!(String::from_utf8_lossy(&output.stdout).trim() == "analyze", "{output:?}");
    succeed(&["man", &at.join("man").display().to_string()])?;
    for name in ["grokscope.1", "grokscope-train.1", "grokscope-export.1"] {
        let page = std::fs::read_to_string(at.join("man").join(name))?;
        require!(page.contains(".TH ") && page.contains(".SH OPTIONS"), "{name}: {page:.200}");
    }
    Ok(())
}

fn listed() -> Outcome {
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    let train = |more: &[&str]| {
        let small = ["train", "--preset", "demo", "--set", "p=13", "--device", "cpu", "--quiet"];
        let output = grokscope_in(at, &[&small, more].concat());
        require!(output.status.success() || output.status.code() == Some(42), "{output:?}");
        Outcome::Ok(())
    };
    train(&["--out", "runs/b-10", "--lr", "1e-3", "--steps", "30"])?;
    train(&["--out", "runs/b-9", "--lr", "1e30", "--steps", "20"])?;
    train(&["--out", "runs/many", "--models", "2", "--steps", "20"])?;
    std::fs::create_dir_all(at.join("runs/notes"))?;
    std::fs::create_dir_all(at.join("runs/torn"))?;
    std::fs::write(at.join("runs/torn/plan.toml"), "p = ")?;
    let output = grokscope_in(at, &["runs"]);
    let (said, noted) = (support::text(&output.stdout), support::text(&output.stderr));
    require!(output.status.success() && noted.lines().count() == 1 && noted.contains("runs/torn/plan.toml"), "{noted}");
    let rows: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    let heads = ["run", "status", "seed", "lr", "steps", "phase", "grok_step", "ended_at_step"];
    require!(rows[0][..heads.len()] == heads, "{:?}", rows[0]);
    let starts = [
        ["runs/b-9", "diverged", "0", "1e30", "20"],
        ["runs/b-10", "done", "0", "0.001", "30"],
        ["runs/many/model-0", "done", "0", "0.002", "20"],
        ["runs/many/model-1", "done", "1", "0.002", "20"],
    ];
    require!(rows.len() == 5, "{said}");
    for (row, start) in rows[1..].iter().zip(starts) {
        require!(row[..4] == start[..4] && row[4] == start[4], "{row:?}, expected {start:?}");
    }
    // Every column, which says the numbers to their last digit.
    let output = grokscope_in(at, &["runs", "runs/b-10", "--csv"]);
    let said = String::from_utf8_lossy(&output.stdout);
    let last = std::fs::read_to_string(at.join("runs/b-10/metrics.jsonl"))?;
    let last: serde_json::Value = serde_json::from_str(last.lines().last().ok_or("no row")?)?;
    require!(said.contains(&last["test_loss"].to_string()) && said.contains("d_mlp"), "{said}");
    for (place, part) in [("nowhere", "not a directory"), ("runs/notes", "holds no run")] {
        let output = grokscope_in(at, &["runs", place]);
        let said = String::from_utf8_lossy(&output.stderr);
        require!(output.status.code() == Some(1) && said.contains(part) && said.lines().count() == 1, "{said}");
    }
    Ok(())
}

/// Takes away what this process was told about colours.
fn forget_wishes(command: &mut Command) {
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
}

/// A run of a second.
const SMALL: &str = "train --preset demo --set p=13 --steps 40 --device cpu";

/// Whether a text has sequences that set colours or weights: ESC [ numbers m.
fn is_coloured(text: &[u8]) -> bool {
    text.split(|&byte| byte == 0x1b).skip(1).any(|after| {
        let end = after.iter().position(|byte| !matches!(byte, b'[' | b';' | b'0'..=b'9'));
        after.first() == Some(&b'[') && end.is_some_and(|end| after[end] == b'm')
    })
}

/// On a terminal of its own, which `script` makes; what it shows.
fn on_a_terminal(at: &Path, arguments: &str, no_color: Option<&str>) -> Result<Vec<u8>, libtest_mimic::Failed> {
    let program = env!("CARGO_BIN_EXE_grokscope");
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &format!("'{program}' {arguments}"), "/dev/null"]);
    command.current_dir(at).stdin(Stdio::null()).env("TERM", "xterm").env("SHELL", "/bin/sh");
    forget_wishes(&mut command);
    let output = command.envs(no_color.map(|value| ("NO_COLOR", value))).output()?;
    require!(output.status.success(), "{arguments}: {output:?}");
    Ok(output.stdout)
}

fn colours() -> Outcome {
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    let coloured = |arguments: &str, no_color| {
        Ok::<_, libtest_mimic::Failed>(is_coloured(&on_a_terminal(at, arguments, no_color)?))
    };
    require!(coloured("--help", None)?, "no colours in the help on a terminal");
    require!(!coloured("--help", Some("1"))?, "NO_COLOR is not heeded by the help");
    let train = |out: &str| format!("{SMALL} --out {out}");
    let shown = on_a_terminal(at, &train("bar"), None)?;
    let text = String::from_utf8_lossy(&shown);
    require!(shown.contains(&0x1b) && text.contains("left at most"), "no bar on a terminal: {text}");
    for arguments in ["--help", "devices", &train("piped")] {
        let words: Vec<&str> = arguments.split(' ').collect();
        let mut command = support::program();
        forget_wishes(&mut command);
        let output = command.args(words).current_dir(at).output()?;
        let escapes = output.stdout.contains(&0x1b) || output.stderr.contains(&0x1b);
        require!(output.status.success() && !escapes, "{arguments}: {output:?}");
    }
    Ok(())
}

/// As in `grokscope devices | head -0`: the pipe is closed before the first word.
fn broken_pipes() -> Outcome {
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    let commands = [
        &format!("{SMALL} --out run")[..],
        "--help",
        "--version",
        "devices",
        "completions bash",
        "train --dry-run --preset demo --device cpu",
        "analyze run",
        "analyze run --json",
        "report run --figures figures",
        "export run --format npz",
        "bench --device cpu --preset demo --seconds 0.01",
        "bench --device cpu --preset demo --seconds 0.01 --json",
    ];
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output = support::program().args(words).current_dir(at).stdout(writer).output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        let quiet = !told.contains("error") && !told.contains("panicked");
        require!(output.status.success() && quiet, "{command}: {} and {told}", output.status);
    }
    Ok(())
}

/// A desktop whose `xdg-open` notes what it is to open.
#[cfg(unix)]
fn open() -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir()?;
    let at = directory.path();
    let (desktop, opened) = (at.join("xdg-open"), at.join("opened"));
    std::fs::write(
        &desktop,
        format!("#!/bin/sh\necho \"$1\" > '{0}.part' && mv '{0}.part' '{0}'\n", opened.display()),
    )?;
    std::fs::set_permissions(&desktop, std::fs::Permissions::from_mode(0o755))?;
    let train: Vec<&str> = SMALL.split(' ').chain(["--out", "run", "--quiet"]).collect();
    require!(grokscope_in(at, &train).status.success(), "no run to open");
    let path = format!("{}:{}", at.display(), std::env::var("PATH")?);
    let mut command = support::program();
    let output = command.args(["report", "run", "--open"]).current_dir(at).env("PATH", path).output()?;
    require!(output.status.success(), "{output:?}");
    // The program does not wait for the desktop.
    let began = std::time::Instant::now();
    while !opened.exists() && began.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    require!(std::fs::read_to_string(&opened)?.trim() == "run/report.html", "it opened {opened:?}");
    Ok(())
}
