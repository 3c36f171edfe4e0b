//! All integration tests in one binary, with a harness that can report a test as ignored at run time.
//!
//! Tests of kernels run on the adapter that GROKSCOPE_TEST_ADAPTER names (llvmpipe by default) and fail where it is
//! missing. With GROKSCOPE_NO_ADAPTER=1 they are ignored, and say so.

mod algorithms;
mod bench;
mod bound_faults;
mod bounds;
mod claims;
mod determinism;
mod exchange;
mod faults;
mod finite;
mod golden;
mod gradients;
mod history;
mod house;
mod input;
mod kernels;
mod keys;
mod layers;
mod loaders;
mod loss;
mod losses;
mod methods;
mod mutant_list;
mod mutants;
mod near_misses;
mod peers;
mod planted;
mod portable;
mod reflection;
mod resumes;
mod runs;
mod self_check;
mod shell;
mod signals;
mod soak;
mod step_model;
mod stores;
mod support;
mod sweep_directories;
mod sweeps;
mod traces;
mod transform;

use libtest_mimic::{Arguments, Trial};

fn main() -> std::process::ExitCode {
    // Self-checks of the tests and of the programs that they start are cached apart from the user's.
    let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/cache");
    // SAFETY: the first statement of main; no other thread runs that could read the environment.
    unsafe { std::env::set_var(grokscope::devices::cache::CACHE_DIR, cache) };
    if let Ok(device) = std::env::var("GROKSCOPE_SOAK") {
        return match soak::child(&device) {
            Ok(()) => std::process::ExitCode::SUCCESS,
            Err(failed) => {
                println!("{}", failed.message().unwrap_or("failed"));
                std::process::ExitCode::FAILURE
            }
        };
    }
    let arguments = Arguments::from_args();
    let anywhere = [
        house::tests(),
        history::tests(),
        reflection::tests(),
        portable::tests(),
        loss::tests(),
        gradients::tests(),
        golden::tests(),
        methods::tests(),
        determinism::tests(),
        runs::tests(),
        resumes::tests(),
        input::tests(),
        planted::tests(),
        algorithms::tests(),
        transform::tests(),
        claims::tests(),
        keys::tests(),
        peers::tests(),
        bench::tests(),
        step_model::tests(),
        traces::tests(),
        exchange::tests(),
        exchange::lens_tests(),
        shell::tests(),
        signals::tests(),
        sweep_directories::tests(),
        sweeps::tests(),
        stores::tests(),
        bounds::tests(),
        finite::tests(),
        faults::tests(),
        loaders::tests(),
        soak::tests(),
    ];
    let on_adapter = [
        kernels::tests(),
        self_check::adapter_tests(),
        mutants::tests(),
        golden::adapter_tests(),
        methods::adapter_tests(),
        loss::adapter_tests(),
        determinism::adapter_tests(),
        finite::adapter_tests(),
        losses::adapter_tests(),
        soak::adapter_tests(),
        runs::adapter_tests(),
        resumes::adapter_tests(),
        input::adapter_tests(),
        support::adapter_tests(),
        bench::adapter_tests(),
        layers::adapter_tests(),
    ];
    let ignore = |trial: Trial| {
        let ignored = trial.has_ignored_flag() || support::without_adapter();
        trial.with_kind("adapter").with_ignored_flag(ignored)
    };
    let mut trials: Vec<Trial> = anywhere.into_iter().flatten().collect();
    trials.extend(on_adapter.into_iter().flatten().map(ignore));
    libtest_mimic::run(&arguments, trials).exit_code()
}
