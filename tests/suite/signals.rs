//! Which signals stop a run, in which order and number, and which end it at once.

use crate::support::{Outcome, program, require, unix_test};
use libtest_mimic::{Failed, Trial};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub fn tests() -> Vec<Trial> {
    vec![
        unix_test("signals_that_come_twice_leave_a_checkpoint", repeated_signals),
        unix_test("a_hangup_that_is_ignored_stays_ignored", ignored_hangup),
        unix_test("a_second_interrupt_ends_a_run_whose_messages_nobody_reads", unread_messages),
    ]
}

/// A run that takes far longer than the test. `before` is what a shell does first.
fn start(out: &Path, before: &str, arguments: &[&str]) -> Result<Child, Failed> {
    let own = program();
    let train = "train --preset demo --p 11 --d-model 16 --d-mlp 24 --device cpu --threads 1 --steps 1000000 --stop-at-test-loss 0";
    let mut shell = Command::new("sh");
    restore_hangup(&mut shell);
    Ok(shell
        .args(["-c", &format!("{before} exec \"$@\""), "sh"])
        .arg(own.get_program())
        .args(own.get_args())
        .args(train.split(' '))
        .args(arguments)
        .arg("--out")
        .arg(out)
        .stderr(Stdio::piped())
        .spawn()?)
}

/// Restores the default action of SIGHUP, which children of nohup inherit as ignored.
#[cfg(unix)]
fn restore_hangup(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: signal() is async-signal-safe, and the closure calls nothing else.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        });
    }
}

#[cfg(not(unix))]
fn restore_hangup(_: &mut Command) {}

/// Waits up to a minute for a run to end, and returns its output.
fn output(mut child: Child) -> Result<Output, Failed> {
    let start = Instant::now();
    while child.try_wait()?.is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            child.kill()?;
            return Err("still running a minute after its signals".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(child.wait_with_output()?)
}

fn rows(out: &Path) -> usize {
    std::fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

/// Waits until the run has evaluated `more` times more.
fn wait_for_rows(child: &mut Child, out: &Path, more: usize) -> Outcome {
    let wanted = rows(out) + more;
    while rows(out) < wanted {
        require!(child.try_wait()?.is_none(), "the run ended by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn send(child: &Child, signal: &str) -> Outcome {
    let sent = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status()?;
    require!(sent.success(), "kill -{signal} failed");
    Ok(())
}

fn repeated_signals() -> Outcome {
    for signals in
        [&["HUP", "HUP"][..], &["TERM", "TERM", "HUP"], &["USR1", "TERM", "INT"], &["HUP", "INT"], &["INT", "TERM"]]
    {
        let directory = tempfile::tempdir()?;
        let out = directory.path().join("run");
        let mut child = start(&out, "", &["--quiet"])?;
        wait_for_rows(&mut child, &out, 3)?;
        for signal in signals {
            // The run may have ended after the first.
            let _ = send(&child, signal);
            std::thread::sleep(Duration::from_millis(1));
        }
        let output = output(child)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        require!(output.status.code() == Some(75), "{signals:?}: ended with {:?}: {stderr}", output.status);
        require!(stderr.contains("grokscope train --resume"), "{signals:?}: {stderr}");
    }
    Ok(())
}

fn ignored_hangup() -> Outcome {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("run");
    let mut child = start(&out, "trap '' HUP;", &["--quiet"])?;
    wait_for_rows(&mut child, &out, 2)?;
    send(&child, "HUP")?;
    // It goes on.
    wait_for_rows(&mut child, &out, 5)?;
    send(&child, "TERM")?;
    let output = output(child)?;
    require!(output.status.code() == Some(75), "ended with {:?}", output.status);
    Ok(())
}

fn unread_messages() -> Outcome {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("run");
    let mut child = start(&out, "", &["--eval-every", "1"])?;
    // Until the pipe is full: no row comes for a second and a half.
    let (mut before, mut unchanged) = (0, 0);
    while before < 100 || unchanged < 3 {
        std::thread::sleep(Duration::from_millis(500));
        require!(child.try_wait()?.is_none(), "the run ended by itself");
        let now = rows(&out);
        unchanged = if now == before { unchanged + 1 } else { 0 };
        before = now;
    }
    send(&child, "INT")?;
    std::thread::sleep(Duration::from_millis(100));
    send(&child, "INT")?;
    for _ in 0..100 {
        if let Some(status) = child.try_wait()? {
            require!(status.code() == Some(130), "ended with {status:?}");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill()?;
    Err("still there five seconds after the second Ctrl-C".into())
}
