//! Arguments as they were typed.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Trains a small transformer on modular arithmetic until it groks, and takes it apart.
#[derive(Debug, Parser)]
#[command(name = "grokscope", version, about, arg_required_else_help = true)]
#[command(after_help = "Examples:
  grokscope train                              one network, its analysis and its page, in runs/default
  grokscope train --preset demo --device auto  five seconds; on a GPU where there is one
  grokscope report runs/default --open         the page in a browser

Exit codes: 0 done, 1 usage or input error, 42 diverged, 75 stopped and can be resumed, 130 ended by a second Ctrl-C.")]
pub struct Cli {
    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands with their arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a network and keep the run in a directory
    Train(Box<Train>),
    /// Take a trained network apart: findings.json and report.html, from a run or a model made elsewhere
    Analyze(Analyze),
    /// Make the page of a run again, and its figures and tables as files
    Report(Report),
    /// Write a network's weights for another program
    Export(Export),
    /// Make a directory that analyze takes from a state dict in safetensors: TransformerLens's, or one of the paper's code
    Import(Import),
    /// Compute 2D Fourier components of activations over all pairs (x, y), from a .npy or .npz file of any network
    Transform(Transform),
    /// Time every kernel and whole training steps on the CPU engine and the adapters
    Bench(Bench),
    /// Train many networks by one plan: a grid, or draws, over fields of the plan
    #[command(subcommand)]
    Sweep(Sweep),
    /// List runs, with what differs between their plans and what came of them
    #[command(after_help = "Examples:
  grokscope runs
  grokscope runs runs/add runs/mul --csv | column -ts,")]
    Runs {
        /// Runs, or directories with runs in them: those of an ensemble or a sweep, too
        #[arg(value_name = "DIR", default_value = "runs")]
        directories: Vec<PathBuf>,
        /// Print every column, as CSV
        #[arg(long)]
        csv: bool,
    },
    /// List the adapters, the CPU engine, and which of them `auto` takes
    Devices {
        /// Run the self-check now, on all adapters or on those whose name contains NAME. Exit code 1 if one fails
        #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
        check: Option<String>,
    },
    /// Print the completions of a shell
    #[command(
        after_help = "Example: grokscope completions bash > ~/.local/share/bash-completion/completions/grokscope"
    )]
    Completions {
        /// bash, zsh, fish, elvish or powershell
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command
    #[command(after_help = "Example: grokscope man ~/.local/share/man/man1")]
    Man {
        /// Where they go: grokscope.1, grokscope-train.1, ..
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

/// `grokscope sweep`
#[derive(Debug, Subcommand)]
#[command(after_help = "Example, as sweep.toml:
  preset = \"demo\"
  steps = 1500
  [grid]
  weight_decay = [0.5, 1, 2]
  train_fraction = { from = 0.2, to = 0.6, count = 5 }
  seed = { from = 0, to = 7 }
then  grokscope sweep run sweep.toml  as often as you like: runs that are done are left alone, those that were begun go on.")]
pub enum Sweep {
    /// Train what is left of a sweep, or of a shard of it, and make its table and page
    Run(SweepRun),
    /// Make the table (CSV, Parquet) and the page of what has come of a sweep so far
    Merge {
        /// The sweep's directory
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Write every figure of the page as SVG into this directory
        #[arg(long, value_name = "DIR")]
        figures: Option<PathBuf>,
        /// Fetch what DIR lacks from the object store that the sweep's tasks put their runs into, and put table and page there
        #[arg(long, value_name = "URL")]
        store: Option<String>,
    },
    /// Print a script that runs a sweep as an array of tasks
    Emit(SweepEmit),
}

/// `grokscope sweep run`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  grokscope sweep run sweep.toml --out runs/decay
  grokscope sweep run sweep.toml --shard 0/4      the first quarter; grokscope sweep merge makes the table
Without --shard a task of an array knows its shard: Slurm, Kubernetes, Grid Engine, AWS Batch and PBS say it in the environment.
Exit codes: 0 done, diverged runs included (the table names them), 1 an error, 75 stopped and to be called again.")]
pub struct SweepRun {
    /// The sweep's plan: any field of a run's plan, a table `[grid]` of lists or ranges, a table `[random]` of draws
    #[arg(value_name = "PLAN.toml")]
    pub plan: PathBuf,
    /// The sweep's directory; by default runs/ and the plan's name
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on in a directory that an earlier version of the plan was run in
    #[arg(long)]
    pub extend: bool,
    /// Which part is done here: i of n, i from 0
    #[arg(long, value_name = "I/N", allow_hyphen_values = true)]
    pub shard: Option<String>,
    /// How many shards there are, where a scheduler says the number of this one
    #[arg(long, value_name = "N", conflicts_with = "shard")]
    pub shards: Option<std::num::NonZeroUsize>,
    /// Put every run that has ended into an object store, and leave alone what is there: file:///PATH or s3://BUCKET/PREFIX
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Say what is left, how it would be trained and how long that may take, measured on a few steps, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Make the page of every run as well
    #[arg(long)]
    pub pages: bool,
    /// auto, cpu, or part of an adapter's name
    #[arg(long, default_value = "auto", value_name = "NAME")]
    pub device: String,
    /// Kernels of a GPU: auto, software, wide, or wide with tiles of one size: 32x32, 64x64
    #[arg(long, default_value = "auto", value_name = "NAME")]
    pub kernels: String,
    /// Threads of the CPU engine; 0 takes one for each core
    #[arg(long, default_value = "0", value_name = "N", allow_hyphen_values = true)]
    pub threads: String,
    /// Maximum number of runs trained side by side; 0 takes as many as fit and keep the machine busy, auto measures how many are fastest
    #[arg(long, default_value = "0", value_name = "N", allow_hyphen_values = true)]
    pub at_once: String,
    /// Say only how it ended
    #[arg(long)]
    pub quiet: bool,
}

/// `grokscope sweep emit`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  grokscope sweep emit slurm sweep.toml --out /shared/sweep --shards 8 > sweep.sbatch; sbatch sweep.sbatch
  grokscope sweep emit kubernetes /data/sweep.toml --out /data/sweep --shards 8 --image registry/grokscope > sweep.yaml
  grokscope sweep emit kubernetes sweep.toml --out /data/sweep --store s3://bucket/sweep --secret s3 > sweep.yaml
With --store the tasks need no directory in common; the manifest for Kubernetes then holds the plan.")]
pub struct SweepEmit {
    /// slurm or kubernetes
    #[arg(value_name = "SCHEDULER")]
    pub scheduler: String,
    /// The sweep's plan, as the tasks see it
    #[arg(value_name = "PLAN.toml")]
    pub plan: String,
    /// The sweep's directory, as the tasks see it
    #[arg(long, value_name = "DIR")]
    pub out: String,
    /// The object store that the tasks share
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Tasks of the array; each does its part of the runs
    #[arg(long, default_value = "8", value_name = "N")]
    pub shards: std::num::NonZeroUsize,
    /// Cores of a task
    #[arg(long, default_value = "2", value_name = "N")]
    pub cpus: std::num::NonZeroUsize,
    /// Of Slurm: the time that a task may take; one that needs more queues itself again
    #[arg(long, default_value = "04:00:00", value_name = "TIME")]
    pub time: String,
    /// Of Kubernetes: an image with grokscope in its path
    #[arg(long, default_value = "grokscope", value_name = "IMAGE")]
    pub image: String,
    /// Of Kubernetes: the claim of the volume that holds plan and directory
    #[arg(long, default_value = "grokscope", value_name = "NAME")]
    pub claim: String,
    /// Of Kubernetes: where the volume is mounted
    #[arg(long, default_value = "/data", value_name = "PATH")]
    pub mount: String,
    /// Of Kubernetes: the secret with the store's environment, such as AWS_ACCESS_KEY_ID
    #[arg(long, value_name = "NAME")]
    pub secret: Option<String>,
}

/// `grokscope export`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  grokscope export runs/default --format npz               for numpy.load
  grokscope export runs/paper --format paper --step 8000   for the code of Nanda et al. 2023")]
pub struct Export {
    /// A run, or a directory with a config.json and a model.safetensors
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// transformer-lens (safetensors), paper (safetensors) or npz
    #[arg(long, value_name = "NAME")]
    pub format: String,
    /// Instead of the weights what the network computes on every pair, by the names of TransformerLens's hooks; needs --format npz
    #[arg(long)]
    pub activations: bool,
    /// The checkpoint whose weights are written; by default the last one
    #[arg(long, value_name = "N")]
    pub step: Option<u64>,
    /// Output file [default: activations.npz with --activations, else one named after the format, in DIR]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `grokscope transform`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  grokscope transform acts.npz                                     every array over pairs
  grokscope transform acts.npz --array blocks.0.mlp.hook_post --out fourier
Arrays are [n, n], [n, n, m], or [n * n, m] as `grokscope export --activations` writes them: axis 0 is x, axis 1 is y.")]
pub struct Transform {
    /// A .npz or .npy file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Array to transform, repeatable [default: every array over pairs]
    #[arg(long, value_name = "NAME")]
    pub array: Vec<String>,
    /// Output directory [default: FILE without its extension, plus -transform]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Threads; 0 takes one for each core
    #[arg(long, default_value = "0", value_name = "N", allow_hyphen_values = true)]
    pub threads: String,
    /// Only errors
    #[arg(long)]
    pub quiet: bool,
}

/// `grokscope import`
#[derive(Debug, Args)]
#[command(after_help = "Example, a network trained in TransformerLens's Grokking_Demo:
  grokscope import state.safetensors --out runs/demo --split torch:598 --train-fraction 0.3
  grokscope analyze runs/demo
Pickled files become safetensors by scripts/pth_to_safetensors.py.")]
pub struct Import {
    /// A state dict as safetensors; its layout is told by its shapes
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The directory that is made
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The operation that it was trained on
    #[arg(long, default_value = "add", value_name = "NAME")]
    pub op: String,
    /// Heads, which the state dict of a TransformerBridge does not say
    #[arg(long, value_name = "N")]
    pub n_heads: Option<usize>,
    /// The rule that chose its train pairs: philox:S, torch:S or python:S
    #[arg(long, value_name = "RULE", requires = "train_fraction")]
    pub split: Option<String>,
    /// The share of the pairs that it was trained on
    #[arg(long, value_name = "X", requires = "split")]
    pub train_fraction: Option<f64>,
}

/// `grokscope bench`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  grokscope bench --device cpu --grow p
  grokscope bench --model=4090 --program composed
  grokscope bench --out before; grokscope bench --compare before/bench.json")]
pub struct Bench {
    /// cpu, auto, or part of an adapter's name; may be repeated; by default the CPU engine and every adapter
    #[arg(long, value_name = "NAME")]
    pub device: Vec<String>,
    /// Kernels of a GPU: auto, software, wide, or wide with tiles of one size: 32x32, 64x64
    #[arg(long, default_value = "auto", value_name = "NAME")]
    pub kernels: String,
    /// Threads of the CPU engine; 0 takes one for each core
    #[arg(long, default_value = "0", value_name = "N", allow_hyphen_values = true)]
    pub threads: String,
    /// The plan whose training step is timed: default, demo, paper, transformer-lens or seed
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub preset: String,
    /// Any field of the plan, e.g. --set d_mlp=256; may be repeated
    #[arg(long, value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
    /// layered, composed, or both
    #[arg(long, default_value = "both", value_name = "NAME")]
    pub program: String,
    /// Time a series of shapes as well: p (59, 113, 199, 307, 401) or models (1, 2, 4, 8, 16)
    #[arg(long, value_name = "FIELD")]
    pub grow: Option<String>,
    /// Seconds for the steps, and again for the kernels, of each shape
    #[arg(long, default_value = "3", value_name = "S", allow_hyphen_values = true)]
    pub seconds: String,
    /// Print the report as JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Write bench.json, bench.csv and a roofline (SVG) for each run into this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Mark what got slower, or faster, than in an older bench.json by more than the noise of both
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
    /// Predict the training step on a GPU that need not be here, by its name or a part of it: H200 (also where none is named), RTX 4090, RX
    /// 7900 XTX, M2 Max or Iris Xe. Nothing is measured; with --out writes model.json
    #[arg(
        long,
        value_name = "GPU",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "H200",
        conflicts_with_all = ["device", "grow", "compare", "seconds"]
    )]
    pub model: Option<String>,
}

/// `grokscope analyze`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  grokscope analyze runs/default --step 1000
  grokscope analyze runs/default --json | jq .key_frequencies")]
pub struct Analyze {
    /// A run, or a directory with a config.json and a model.safetensors under TransformerLens's names
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// The checkpoint to look at, written to findings-NNNNNN.json and report-NNNNNN.html; by default the last one
    #[arg(long, value_name = "N")]
    pub step: Option<u64>,
    /// The train pairs of a model made elsewhere: a CSV file of x,y
    #[arg(long, value_name = "FILE.csv")]
    pub split: Option<PathBuf>,
    /// Threads; 0 takes one for each core
    #[arg(long, default_value = "0", value_name = "N", allow_hyphen_values = true)]
    pub threads: String,
    /// Say only where the results are
    #[arg(long, conflicts_with = "json")]
    pub quiet: bool,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

/// `grokscope report`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  grokscope report runs/default --open
  grokscope report runs/default --figures figures --tables tables")]
pub struct Report {
    /// A run, or a directory with a config.json and a model.safetensors
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// The checkpoint whose page is made; by default the last one
    #[arg(long, value_name = "N")]
    pub step: Option<u64>,
    /// Open the page in a browser
    #[arg(long)]
    pub open: bool,
    /// Write every figure as SVG into this directory
    #[arg(long, value_name = "DIR")]
    pub figures: Option<PathBuf>,
    /// Write every table as CSV into this directory
    #[arg(long, value_name = "DIR")]
    pub tables: Option<PathBuf>,
    /// Threads; 0 takes one for each core
    #[arg(long, default_value = "0", value_name = "N", allow_hyphen_values = true)]
    pub threads: String,
    /// Show no progress
    #[arg(long)]
    pub quiet: bool,
}

/// `grokscope train`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  grokscope train --p 97 --op div --train-fraction 0.4 --out runs/div
  grokscope train --preset transformer-lens --seed 1
  grokscope train --plan runs/default/plan.toml --set lr=1e-3     the same again, but for one field
  grokscope train --each op=add,mul --each weight_decay=1,2       two networks side by side
  grokscope train --resume runs/default --steps 20000")]
pub struct Train {
    /// Where the plan begins: default, demo, paper, transformer-lens or seed
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// A TOML file whose fields are laid over the preset
    #[arg(long, value_name = "FILE.toml")]
    pub plan: Option<PathBuf>,
    /// Any field of the plan, e.g. --set d_mlp=256; may be repeated
    #[arg(long, value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
    /// A field with a value of its own for each model, e.g. --each lr=1e-3,2e-3; may be repeated. Without --models all have one seed
    #[arg(long, value_name = "FIELD=V,V,..")]
    pub each: Vec<String>,
    /// Print the plan with its memory and the time of a step, measured on a few, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// auto, cpu, or part of an adapter's name
    #[arg(long, default_value = "auto", value_name = "NAME")]
    pub device: String,
    /// Kernels of a GPU: auto, software, wide, or wide with tiles of one size: 32x32, 64x64
    #[arg(long, default_value = "auto", value_name = "NAME")]
    pub kernels: String,
    /// Threads of the CPU engine; 0 takes one for each core
    #[arg(long, default_value = "0", value_name = "N", allow_hyphen_values = true)]
    pub threads: String,
    /// Directory of the run; by default the next free name under runs/
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with the run in DIR; only steps, stop rules, device and --out may change
    #[arg(long, value_name = "DIR")]
    pub resume: Option<PathBuf>,
    /// Show nothing while training; the result is told at the end
    #[arg(long, conflicts_with = "json")]
    pub quiet: bool,
    /// Print a JSON line for each evaluation, and the summary as the last
    #[arg(long)]
    pub json: bool,
    /// Maximum number of models trained side by side, the others in later waves; 0 takes as many as fit and keep the machine busy, auto
    /// measures how many are fastest
    #[arg(long, default_value = "0", value_name = "N", allow_hyphen_values = true)]
    pub at_once: String,
    /// Write events for TensorBoard into the run's directory tensorboard/
    #[arg(long)]
    pub tensorboard: bool,
    /// What the plan says by flags.
    #[command(flatten)]
    pub fields: Fields,
}

/// Fields of the plan that have a flag of their own. Values are checked by the plan, so they come as text.
#[derive(Debug, Args)]
#[command(next_help_heading = "Plan")]
pub struct Fields {
    /// The list of kernels: layered, composed, or auto for the one with less to do
    #[arg(long, value_name = "NAME")]
    pub program: Option<String>,
    /// The modulus
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub p: Option<String>,
    /// The operation: add, sub, mul, div, squares (x^2 + y^2), quadratic (x^2 + x y + y^2), cubic (x^3 + x y), random
    /// (labels), or s5 (permutations of five things, p = 120)
    #[arg(long, value_name = "NAME")]
    pub op: Option<String>,
    /// Share of the pairs to train on
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub train_fraction: Option<String>,
    /// philox:S, torch:S, python:S or a CSV file of x,y
    #[arg(long, value_name = "RULE")]
    pub split: Option<String>,
    /// Initial weights: paper, transformer-lens, or a safetensors file with TransformerLens names
    #[arg(long, value_name = "RULE")]
    pub init: Option<String>,
    /// Width of the residual stream
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub d_model: Option<String>,
    /// Attention heads
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub n_heads: Option<String>,
    /// Neurons
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub d_mlp: Option<String>,
    /// Seed of the initial weights
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub seed: Option<String>,
    /// cross-entropy, or stablemax
    #[arg(long, value_name = "NAME")]
    pub loss: Option<String>,
    /// adamw, adam, sgd or muon
    #[arg(long, value_name = "NAME")]
    pub optimizer: Option<String>,
    /// Slow gradients made stronger: none, ema or ma
    #[arg(long, value_name = "NAME")]
    pub grokfast: Option<String>,
    /// Learning rate
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub lr: Option<String>,
    /// Weight decay, on every parameter
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub weight_decay: Option<String>,
    /// Decay of the first moment of adamw and adam
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub beta1: Option<String>,
    /// Decay of their second moment
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub beta2: Option<String>,
    /// Steps over which the learning rate rises
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub warmup: Option<String>,
    /// Updates at most
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub steps: Option<String>,
    /// Stop once the test loss is below this
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub stop_at_test_loss: Option<String>,
    /// Steps between evaluations
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub eval_every: Option<String>,
    /// Steps between checkpoints
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub checkpoint_every: Option<String>,
    /// Networks trained side by side, with seeds s, s+1, ..
    #[arg(long, value_name = "R", allow_hyphen_values = true)]
    pub models: Option<String>,
}

impl Fields {
    /// What was typed, as (field, text).
    pub fn typed(&self) -> Vec<(String, String)> {
        let fields = [
            ("program", &self.program),
            ("p", &self.p),
            ("op", &self.op),
            ("train_fraction", &self.train_fraction),
            ("split", &self.split),
            ("init", &self.init),
            ("d_model", &self.d_model),
            ("n_heads", &self.n_heads),
            ("d_mlp", &self.d_mlp),
            ("seed", &self.seed),
            ("loss", &self.loss),
            ("optimizer", &self.optimizer),
            ("grokfast", &self.grokfast),
            ("lr", &self.lr),
            ("weight_decay", &self.weight_decay),
            ("beta1", &self.beta1),
            ("beta2", &self.beta2),
            ("warmup", &self.warmup),
            ("steps", &self.steps),
            ("stop_at_test_loss", &self.stop_at_test_loss),
            ("eval_every", &self.eval_every),
            ("checkpoint_every", &self.checkpoint_every),
            ("models", &self.models),
        ];
        fields.into_iter().filter_map(|(name, text)| Some((name.to_string(), text.clone()?))).collect()
    }
}
