//! What the tests share: shapes, batches, the adapter, the program.

use grokscope::gpu::device::{Gpu, KernelChoice, adapters, matches, title};
use grokscope::program::Call;
pub use grokscope::self_check::inputs::{layout, normals, pairs, shape};
use libtest_mimic::{Failed, Trial};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

pub type Outcome = Result<(), Failed>;

/// A test from its name and function.
pub fn test(name: &str, run: fn() -> Outcome) -> Trial {
    Trial::test(name, run)
}

/// Fails with a message unless the condition holds; NaN comparisons do not hold.
macro_rules! require {
    ($condition:expr, $($message:tt)+) => {
        let holds: bool = $condition;
        if !holds {
            return Err(format!($($message)+).into());
        }
    };
}
pub(crate) use require;

pub fn wanted_adapter() -> String {
    std::env::var("GROKSCOPE_TEST_ADAPTER").unwrap_or("llvmpipe".into())
}

/// Whether this machine is to have no adapter.
pub fn without_adapter() -> bool {
    std::env::var("GROKSCOPE_NO_ADAPTER").is_ok_and(|value| value == "1")
}

/// The adapter's device, opened once.
pub fn gpu() -> Result<Gpu, Failed> {
    static GPU: OnceLock<Result<Gpu, String>> = OnceLock::new();
    let open = || {
        let adapters = pollster::block_on(adapters());
        let wanted = wanted_adapter();
        let found = adapters.iter().find(|adapter| matches(&adapter.get_info(), &wanted));
        let names: Vec<_> = adapters.iter().map(|adapter| title(&adapter.get_info())).collect();
        let adapter = found.ok_or(format!(
            "no adapter is called '{wanted}', there are {names:?}: install mesa-vulkan-drivers, or set GROKSCOPE_NO_ADAPTER=1"
        ))?;
        // `GROKSCOPE_TEST_KERNELS=wide` takes the kernels for devices with many cores on a software adapter.
        let kernels = std::env::var("GROKSCOPE_TEST_KERNELS").unwrap_or("auto".into());
        let opened =
            KernelChoice::parse(&kernels).and_then(|kernels| pollster::block_on(Gpu::open_with(adapter, kernels)));
        opened.map_err(|e| format!("{e:#}"))
    };
    GPU.get_or_init(open).clone().map_err(Failed::from)
}

pub fn adapter_tests() -> Vec<Trial> {
    vec![test("the_adapter_is_the_one_asked_for", || {
        let gpu = gpu()?;
        println!("adapter: {} {}", title(&gpu.info), gpu.info.driver_info);
        require!(matches(&gpu.info, &wanted_adapter()), "ran on {}", title(&gpu.info));
        Ok(())
    })]
}

/// A test that needs what only Unix has; ignored elsewhere.
pub fn unix_test(name: &str, run: fn() -> Outcome) -> Trial {
    Trial::test(name, run).with_kind("unix").with_ignored_flag(!cfg!(unix))
}

/// The program. `GROKSCOPE_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"` starts it under an emulator.
pub fn program() -> Command {
    let program = env!("CARGO_BIN_EXE_grokscope");
    let runner = std::env::var("GROKSCOPE_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace();
    match words.next() {
        Some(emulator) => {
            let mut command = Command::new(emulator);
            command.args(words).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// The program's output as text, with `/` in paths as on Unix.
pub fn text(stream: &[u8]) -> String {
    let text = String::from_utf8_lossy(stream);
    if cfg!(windows) { text.replace('\\', "/") } else { text.into() }
}

/// Runs the program.
pub fn grokscope(arguments: &[&str]) -> Output {
    grokscope_in(Path::new("."), arguments)
}

pub fn grokscope_in(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = program();
    command.args(arguments).current_dir(directory).env("NO_COLOR", "1");
    command.output().expect("the program can be started")
}

/// Runs the program and expects success.
pub fn succeed(arguments: &[&str]) -> Outcome {
    let output = grokscope(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    require!(output.status.success(), "grokscope {arguments:?} ended with {}: {stderr}", output.status);
    Ok(())
}

/// Whether a dispatch of this title does a call: it has the call's title, or names what its calls write.
pub fn does(title: &str, call: &Call) -> bool {
    let (_, results) = title.split_once(" -> ").unwrap_or_default();
    let names_all = || call.written().iter().all(|name| results.split(", ").any(|result| result == *name));
    title == call.title() || (title.starts_with(&format!("{}.", call.kernel)) && !title.contains('(') && names_all())
}

/// A path as the text that an argument or a variable takes.
pub fn utf8(path: &Path) -> Result<&str, Failed> {
    Ok(path.to_str().ok_or(format!("{}: not UTF-8", path.display()))?)
}
