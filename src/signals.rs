//! Requests to stop a run: signals on Unix, console events on Windows.
//!
//! The first request sets the flag of [`flag`]; training then writes a checkpoint and ends. A second Ctrl-C ends the program at once. Other
//! signals may come any number of times: when a terminal closes, kernel and shell both send SIGHUP, and schedulers repeat SIGTERM.

use crate::progress::note;
use anyhow::{Context, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Exit code after a second Ctrl-C: 128 + SIGINT, the shells' convention.
const KILLED: i32 = 130;

/// A request of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// Ctrl-C, Ctrl-Break, SIGINT.
    Interrupt,
    /// SIGTERM, SIGHUP, and SIGUSR1, which schedulers send when the time limit is near.
    #[cfg_attr(windows, allow(dead_code, reason = "Windows has no such signals"))]
    Notice,
    /// The console closes, the user logs off, or the system shuts down. Windows ends the process when the handler returns, or after
    /// some five seconds.
    #[cfg_attr(unix, allow(dead_code, reason = "Unix sends SIGHUP and SIGTERM instead"))]
    Close,
}

/// The program's reaction to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Stop at the next step.
    Stop,
    /// Stop, and keep the handler from returning until the program ends.
    StopAndWait,
    /// Exit at once, without writing a checkpoint.
    Exit,
}

fn action(request: Request, was_interrupted: bool) -> Action {
    match request {
        Request::Interrupt if was_interrupted => Action::Exit,
        Request::Interrupt | Request::Notice => Action::Stop,
        Request::Close => Action::StopAndWait,
    }
}

/// The state that handlers share with the main thread.
struct Stop {
    flag: AtomicBool,
    /// Whether an interrupt came before.
    interrupted: AtomicBool,
    has_ended: Mutex<bool>,
    ended: Condvar,
}

impl Stop {
    const fn new() -> Self {
        Self {
            flag: AtomicBool::new(false),
            interrupted: AtomicBool::new(false),
            has_ended: Mutex::new(false),
            ended: Condvar::new(),
        }
    }

    /// Sets the flag, waits for the end of the program if the request is to close, and returns the action.
    fn handle(&self, request: Request) -> Action {
        self.flag.store(true, Ordering::SeqCst);
        let is_interrupt = request == Request::Interrupt;
        let action = action(request, is_interrupt && self.interrupted.swap(true, Ordering::SeqCst));
        if action == Action::StopAndWait {
            let has_ended = self.has_ended.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.ended.wait_while(has_ended, |has_ended| !*has_ended).unwrap_or_else(PoisonError::into_inner));
        }
        action
    }

    fn end(&self) {
        *self.has_ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.notify_all();
    }
}

static STOP: Stop = Stop::new();

/// The flag that the first request sets.
pub fn flag() -> &'static AtomicBool {
    &STOP.flag
}

/// Lets waiting handlers return. Call it last, after all files are written.
pub fn end() {
    STOP.end();
}

fn exit_if_asked(action: Action) {
    if action == Action::Exit {
        // On a thread of its own: a full pipe that nobody reads must not keep the program from ending.
        std::thread::spawn(|| {
            note("stopped at once: the last checkpoint stays, for train --resume, or for the same sweep run again")
        });
        std::thread::sleep(Duration::from_millis(100));
        std::process::exit(KILLED);
    }
}

/// Listens for SIGINT, SIGTERM, SIGUSR1, and SIGHUP unless it is ignored, as under nohup.
#[cfg(unix)]
pub fn listen() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    let mut wanted = vec![SIGINT, SIGTERM, SIGUSR1];
    if !is_ignored(SIGHUP) {
        wanted.push(SIGHUP);
    }
    let mut signals = signal_hook::iterator::Signals::new(wanted).context("cannot listen for signals")?;
    let request = |signal| if signal == SIGINT { Request::Interrupt } else { Request::Notice };
    std::thread::spawn(move || signals.forever().for_each(|signal| exit_if_asked(STOP.handle(request(signal)))));
    Ok(())
}

/// Whether the process ignores a signal, which it inherits from its parent.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action, sigaction only writes the present one, and all zeros is a valid value of it.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Listens for console events: Ctrl-C, Ctrl-Break, and closing, logoff and shutdown.
#[cfg(windows)]
pub fn listen() -> Result<()> {
    use windows_sys::Win32::System::Console::SetConsoleCtrlHandler;
    // SAFETY: the handler is a function of the signature that Windows calls, lives as long as the program, and touches only a
    // thread-safe static.
    let is_set = unsafe { SetConsoleCtrlHandler(Some(on_event), 1) } != 0;
    if is_set { Ok(()) } else { Err(std::io::Error::last_os_error()).context("cannot listen for console events") }
}

/// Runs on a thread of its own that Windows starts for each event. Returns 1: the event is handled.
#[cfg(windows)]
extern "system" fn on_event(event: u32) -> windows_sys::core::BOOL {
    let action = STOP.handle(request_of(event));
    exit_if_asked(action);
    if action == Action::StopAndWait {
        // Windows ends the process when this returns. The pause lets the main thread, which is about to return, exit with its own code first.
        std::thread::sleep(Duration::from_secs(1));
    }
    1
}

#[cfg(windows)]
fn request_of(event: u32) -> Request {
    use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, CTRL_C_EVENT};
    match event {
        CTRL_C_EVENT | CTRL_BREAK_EVENT => Request::Interrupt,
        _ => Request::Close,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_second_interrupt_exits_and_other_requests_do_not() {
        for (request, first, second) in [
            (Request::Interrupt, Action::Stop, Action::Exit),
            (Request::Notice, Action::Stop, Action::Stop),
            (Request::Close, Action::StopAndWait, Action::StopAndWait),
        ] {
            assert_eq!(action(request, false), first, "{request:?}");
            assert_eq!(action(request, true), second, "{request:?} after an interrupt");
        }
    }

    #[test]
    fn interrupts_and_notices_return_at_once() {
        let stop = Stop::new();
        assert_eq!(stop.handle(Request::Notice), Action::Stop);
        assert!(stop.flag.load(Ordering::SeqCst));
        assert_eq!(stop.handle(Request::Notice), Action::Stop);
        // A notice is no Ctrl-C: the second of these ends the program.
        assert_eq!(stop.handle(Request::Interrupt), Action::Stop);
        assert_eq!(stop.handle(Request::Notice), Action::Stop);
        assert_eq!(stop.handle(Request::Interrupt), Action::Exit);
    }

    #[test]
    fn closing_waits_until_the_program_ends() {
        let (stop, returned) = (Stop::new(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            // Logoff may follow the closing of the console: both handlers wait.
            for _ in 0..2 {
                scope.spawn(|| {
                    assert_eq!(stop.handle(Request::Close), Action::StopAndWait);
                    returned.fetch_add(1, Ordering::SeqCst);
                });
            }
            while !stop.flag.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            // The time in which a checkpoint is written.
            std::thread::sleep(Duration::from_millis(200));
            assert_eq!(returned.load(Ordering::SeqCst), 0, "a handler returned before the end");
            stop.end();
        });
        assert_eq!(returned.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn closing_after_the_end_returns() {
        let stop = Stop::new();
        stop.end();
        assert_eq!(stop.handle(Request::Close), Action::StopAndWait);
    }

    #[cfg(windows)]
    #[test]
    fn console_events_are_requests() {
        use windows_sys::Win32::System::Console::*;
        for event in [CTRL_C_EVENT, CTRL_BREAK_EVENT] {
            assert_eq!(request_of(event), Request::Interrupt);
        }
        for event in [CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT] {
            assert_eq!(request_of(event), Request::Close);
        }
    }

    /// The handler as Windows calls it, on threads of its own.
    #[cfg(windows)]
    #[test]
    fn the_handler_returns_from_ctrl_break_at_once_and_from_closing_after_the_end() {
        use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, CTRL_CLOSE_EVENT};
        listen().unwrap();
        assert_eq!(on_event(CTRL_BREAK_EVENT), 1);
        assert!(flag().load(Ordering::SeqCst));
        let closing = std::thread::spawn(|| on_event(CTRL_CLOSE_EVENT));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!closing.is_finished(), "the handler returned before the end");
        end();
        assert_eq!(closing.join().unwrap(), 1);
    }
}
