//! The machine that a run was given: the kernels on a device, or their twins on the CPU.

use super::batch::Layout;
use super::on_cpu::OnCpu;
use super::on_gpu::OnGpu;
use super::{Program, State};
use crate::gpu::device::Gpu;
use crate::model::Weights;
use crate::not_finite::NotFinite;
use crate::plan::Update;
use anyhow::Result;

/// What a program runs on.
pub enum Engine {
    /// The twins, in f32.
    Cpu(OnCpu<f32>),
    /// The kernels.
    Gpu(Box<OnGpu>),
}

/// Loss and hit (1 or 0) of every pair of a model's grid, in the order of the pairs.
pub struct Scores {
    /// Cross-entropy in nats.
    pub losses: Vec<f32>,
    /// 1 where the label is the first of the largest logits, else 0.
    pub correct: Vec<f32>,
}

impl Engine {
    /// On the CPU with so many threads, 0 being one for each core.
    pub fn on_cpu(program: &Program, layout: Layout, threads: usize) -> Result<Self> {
        Ok(Self::Cpu(OnCpu::new(program, layout, threads)?))
    }

    /// On a device; an error names the kernel that it refuses.
    pub async fn on_gpu(gpu: Gpu, program: &Program, layout: Layout) -> Result<Self> {
        let kernels = crate::shaders::kernels()?;
        Ok(Self::Gpu(Box::new(OnGpu::new(gpu, kernels, program, layout).await?)))
    }

    /// Networks side by side.
    pub fn models(&self) -> usize {
        match self {
            Self::Cpu(machine) => machine.models(),
            Self::Gpu(machine) => machine.models(),
        }
    }

    /// Goes on with these models alone, whose numbers rise and become 0, 1 ..: the others cost nothing any more, and no bit of these changes.
    pub async fn keep(&mut self, models: &[usize]) -> Result<()> {
        match self {
            Self::Cpu(machine) => {
                machine.keep(models);
                Ok(())
            }
            Self::Gpu(machine) => machine.keep(models).await,
        }
    }

    /// Whether the device went away: nothing comes from this engine any more.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Cpu(_) => false,
            Self::Gpu(machine) => machine.gpu.is_lost(),
        }
    }

    /// Sets a model's weights, moments and remembered gradients, of which there must be as many as the program keeps.
    pub fn write_state(&mut self, model: usize, state: &State<f32>) -> Result<()> {
        match self {
            Self::Cpu(machine) => {
                machine.write_state(model, state);
                Ok(())
            }
            Self::Gpu(machine) => machine.write_state(model, state),
        }
    }

    /// Weights and moments of every model.
    pub async fn read_states(&self) -> Result<Vec<State<f32>>> {
        match self {
            Self::Cpu(machine) => Ok((0..machine.models()).map(|model| machine.read_state(model)).collect()),
            Self::Gpu(machine) => machine.read_states().await,
        }
    }

    /// Weights of every model.
    pub async fn read_weights(&self) -> Result<Vec<Weights<f32>>> {
        match self {
            Self::Cpu(machine) => Ok((0..machine.models()).map(|model| machine.read_weights(model)).collect()),
            Self::Gpu(machine) => machine.read_weights().await,
        }
    }

    /// One update a model for each of its `updates`, [`WINDOW`](crate::model::WINDOW) at most; all models have the same number of them. Says, for each model, what was
    /// first not finite.
    pub async fn steps(&mut self, updates: &[Vec<Update>]) -> Result<Vec<Option<NotFinite>>> {
        match self {
            Self::Cpu(machine) => {
                machine.steps(updates);
                Ok(machine.not_finite())
            }
            Self::Gpu(machine) => machine.steps(updates).await,
        }
    }

    /// Runs every model over its grid.
    pub async fn evaluate(&mut self) -> Result<Vec<Scores>> {
        match self {
            Self::Cpu(machine) => {
                machine.evaluate();
                let rows = |model, name| machine.of_grid(model, name);
                let scores = |model| Scores { losses: rows(model, "row_loss"), correct: rows(model, "row_correct") };
                Ok((0..machine.models()).map(scores).collect())
            }
            Self::Gpu(machine) => {
                let rows = machine.evaluate().await?;
                Ok(rows.into_iter().map(|(losses, correct)| Scores { losses, correct }).collect())
            }
        }
    }
}
