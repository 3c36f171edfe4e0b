//! What a workgroup waits for: a clock in rounds of loads, kept beside the interpreter's values.
//!
//! An invocation issues its loads from storage in order, and goes on until a value is needed that is still on its way. So each value
//! has a round in which it arrives, and each warp a round that has come (`now`):
//! - a load is issued when its address has arrived, and arrives a round later: loads that do not need each other share a round, wherever
//!   they stand between two boundaries, because compilers move loads up;
//! - a load from a variable that the shader only reads is issued once for as long as its address stays: compilers move it out of loops;
//! - a branch waits for its condition;
//! - a boundary waits for whatever arithmetic or a store has used so far. Boundaries are barriers, the beginning of a loop, the end of
//!   an iteration, and the end. Compilers do not move loads over them: they neither pipeline loops nor, because wgpu gives each
//!   loop a second exit that bounds its iterations, unroll them.
//!
//! A tile that is fetched before the one at hand is worked on is used in the next iteration only. Then the wait comes after the
//! arithmetic between, which counts as covering it.

use super::*;
use crate::sanitizer::Trace;
use naga::{BinaryOperator, MathFunction, StorageAccess};
use std::collections::HashSet;

/// Warps at most that are followed; in larger workgroups a warp has more lanes.
const WARPS: usize = 8;
/// Lanes of a warp.
const LANES: usize = 32;
/// Words of a line of a cache.
const LINE: usize = 32;
/// Words of a sector, the part of a line that goes from one cache to the next by itself.
const SECTOR: usize = 8;

/// For each warp, the round in which a value arrives.
pub(super) type Arrival = [u32; WARPS];

/// Rounds of the values of a function that runs.
#[derive(Default)]
pub(super) struct Arrivals {
    values: Vec<Arrival>,
    pub(super) arguments: Vec<Arrival>,
    locals: Vec<Arrival>,
    pub(super) result: Arrival,
}

#[derive(Default)]
struct Warp {
    /// The round that has come.
    now: u32,
    /// The last round of which arithmetic or a store has used something.
    used: u32,
    /// The last round of a load that was issued.
    issued: u32,
    /// By round, instructions that were done while it was on its way.
    covered: Vec<u64>,
    multiply_adds: u64,
    instructions: u64,
    shared_bytes: u64,
}

impl Warp {
    fn wait(&mut self, round: u32) {
        self.now = self.now.max(round);
    }

    /// Instructions that need what arrives in a round.
    fn work(&mut self, arrival: u32, instructions: u64) {
        self.used = self.used.max(arrival);
        self.instructions += instructions;
        if arrival <= self.now && self.issued > self.now {
            let round = self.now as usize + 1;
            self.covered.resize(self.covered.len().max(round + 1), 0);
            self.covered[round] += instructions;
        }
    }
}

/// Follows a workgroup.
pub(super) struct Tracer {
    lanes_per_warp: usize,
    warps: Vec<Warp>,
    /// By round, whether one of its loads touched a line for the first time.
    missed: Vec<bool>,
    lines: HashSet<(Handle<GlobalVariable>, usize)>,
    sectors_read: HashSet<(Handle<GlobalVariable>, usize)>,
    sectors_written: HashSet<(Handle<GlobalVariable>, usize)>,
    held: HashMap<Place, Held>,
}

/// An expression of a function.
type Place = (*const Function, Handle<Expression>);

/// What a load from memory that is only read gave last.
struct Held {
    /// Lane by lane.
    at: Vec<Option<usize>>,
    arrival: Arrival,
}

impl Tracer {
    pub(super) fn new(lanes: usize) -> Self {
        let lanes_per_warp = LANES.max(lanes.div_ceil(WARPS));
        let warps = (0..lanes.div_ceil(lanes_per_warp)).map(|_| Warp::default()).collect();
        Self {
            lanes_per_warp,
            warps,
            missed: Vec::new(),
            lines: HashSet::new(),
            sectors_read: HashSet::new(),
            sectors_written: HashSet::new(),
            held: HashMap::new(),
        }
    }

    /// What the warp that waits most often did, and what all of them moved.
    pub(super) fn finish(mut self) -> Trace {
        for warp in &mut self.warps {
            warp.wait(warp.used);
        }
        let missed = |round: u32| self.missed[round as usize];
        let waits = |warp: &Warp, far: bool| (1..=warp.now).filter(|&round| missed(round) == far).count() as u64;
        let Some(longest) = self.warps.iter().max_by_key(|warp| (warp.now, waits(warp, true), warp.instructions))
        else {
            return Trace::default();
        };
        let covered = |far: bool| {
            let rounds = 1..=longest.now;
            let of = |round: u32| longest.covered.get(round as usize).copied().unwrap_or(0);
            rounds.filter(|&round| missed(round) == far).map(of).sum()
        };
        Trace {
            waits_l2: waits(longest, true),
            waits_l1: waits(longest, false),
            covered_l2: covered(true),
            covered_l1: covered(false),
            multiply_adds: longest.multiply_adds,
            instructions: longest.instructions,
            shared_bytes: longest.shared_bytes,
            bytes_read: (4 * SECTOR * self.sectors_read.len()) as u64,
            bytes_written: (4 * SECTOR * self.sectors_written.len()) as u64,
        }
    }

    /// Numbers of the warps with a lane that does something.
    fn running(&self, active: &[bool]) -> Vec<usize> {
        let warps = active.chunks(self.lanes_per_warp).enumerate();
        warps.filter(|(_, lanes)| any(lanes)).map(|(warp, _)| warp).collect()
    }
}

fn latest(a: Arrival, b: Arrival) -> Arrival {
    std::array::from_fn(|warp| a[warp].max(b[warp]))
}

/// Loads or stores that a value of so many words takes.
fn transfers(words: usize) -> u64 {
    words.div_ceil(4) as u64
}

impl Group<'_> {
    /// When a value arrives.
    fn arrival(&mut self, handle: Handle<Expression>) -> Arrival {
        let frame = self.frame();
        match frame.function.expressions[handle] {
            Expression::FunctionArgument(index) => frame.arrivals.arguments[index as usize],
            _ => frame.arrivals.values[handle.index()],
        }
    }

    pub(super) fn begin_arrivals(&mut self, arguments: Vec<Arrival>) {
        if self.trace.is_some() {
            let frame = self.frame();
            frame.arrivals = Arrivals {
                values: vec![Arrival::default(); frame.function.expressions.len()],
                arguments,
                locals: vec![Arrival::default(); frame.locals.len()],
                result: Arrival::default(),
            };
        }
    }

    /// When the arguments of a call arrive.
    pub(super) fn arrivals(&mut self, handles: &[Handle<Expression>]) -> Vec<Arrival> {
        match self.trace {
            Some(_) => handles.iter().map(|&handle| self.arrival(handle)).collect(),
            None => Vec::new(),
        }
    }

    pub(super) fn returns(&mut self, value: Handle<Expression>) {
        if self.trace.is_some() {
            let result = latest(self.frame().arrivals.result, self.arrival(value));
            self.frame().arrivals.result = result;
        }
    }

    /// A value that a statement makes of others: a call's result, or one of a subgroup operation.
    pub(super) fn arrives(&mut self, handle: Handle<Expression>, arrival: Arrival) {
        if self.trace.is_some() {
            self.frame().arrivals.values[handle.index()] = arrival;
        }
    }

    /// Instructions that need these values, whose result arrives with the last of them.
    pub(super) fn works(&mut self, needed: &[Handle<Expression>], instructions: u64, active: &[bool]) -> Arrival {
        if self.trace.is_none() {
            return Arrival::default();
        }
        let arrival = needed.iter().map(|&handle| self.arrival(handle)).fold(Arrival::default(), latest);
        if let Some(trace) = &mut self.trace {
            for warp in trace.running(active) {
                trace.warps[warp].work(arrival[warp], instructions);
            }
        }
        arrival
    }

    pub(super) fn branches(&mut self, condition: Handle<Expression>, active: &[bool]) {
        let arrival = self.works(&[condition], 1, active);
        if let Some(trace) = &mut self.trace {
            for warp in trace.running(active) {
                trace.warps[warp].wait(arrival[warp]);
            }
        }
    }

    /// The beginning of a loop, or the end of an iteration.
    pub(super) fn boundary(&mut self, active: &[bool]) {
        if let Some(trace) = &mut self.trace {
            for warp in trace.running(active) {
                let used = trace.warps[warp].used;
                trace.warps[warp].wait(used);
            }
        }
    }

    /// All warps go on when the last one has come.
    pub(super) fn meets(&mut self) {
        if let Some(trace) = &mut self.trace {
            let last = trace.warps.iter().map(|warp| warp.now.max(warp.used)).max().unwrap_or(0);
            for warp in &mut trace.warps {
                warp.wait(last);
                warp.instructions += 1;
            }
        }
    }

    /// An expression that was evaluated.
    pub(super) fn evaluated(&mut self, handle: Handle<Expression>, active: &[bool]) -> Result<(), String> {
        if self.trace.is_none() {
            return Ok(());
        }
        let function = self.frame().function;
        let words = |group: &mut Self, of: Handle<Expression>| {
            let inner = group.inner(of);
            size_of(group.module, &inner).map(|words| words as u64)
        };
        let arrival = match &function.expressions[handle] {
            Expression::Load { pointer } => self.loads((function, handle), *pointer, active)?,
            Expression::Access { base, index } => latest(self.arrival(*base), self.arrival(*index)),
            Expression::AccessIndex { base, .. } | Expression::ArrayLength(base) => self.arrival(*base),
            Expression::Splat { value, .. } => self.arrival(*value),
            Expression::Swizzle { vector, .. } => self.arrival(*vector),
            Expression::Compose { components, .. } => {
                components.iter().map(|&part| self.arrival(part)).fold(Arrival::default(), latest)
            }
            Expression::Unary { expr, .. } => {
                let count = words(self, *expr)?;
                self.works(&[*expr], count, active)
            }
            Expression::As { expr, convert, .. } => {
                let count = if convert.is_some() { words(self, *expr)? } else { 0 };
                self.works(&[*expr], count, active)
            }
            Expression::Relational { argument, .. } => {
                let count = words(self, *argument)?;
                self.works(&[*argument], count, active)
            }
            Expression::Select { condition, accept, reject } => {
                let count = words(self, *accept)?;
                self.works(&[*condition, *accept, *reject], count, active)
            }
            Expression::Binary { op, left, right } => {
                let (count, floats) = (words(self, handle)?, self.kind(*left)? == ScalarKind::Float);
                // A product whose sum is a product of matrices' or vectors'.
                let is_product = |of: Handle<Expression>| {
                    matches!(function.expressions[of], Expression::Binary { op: BinaryOperator::Multiply, .. })
                };
                let fused = floats
                    && matches!(op, BinaryOperator::Add | BinaryOperator::Subtract)
                    && (is_product(*left) || is_product(*right));
                if floats && *op == BinaryOperator::Multiply {
                    self.multiply_adds(count, active);
                }
                self.works(&[*left, *right], if fused { 0 } else { count }, active)
            }
            Expression::Math { fun, arg, arg1, arg2, .. } => {
                let needed: Vec<_> = [Some(*arg), *arg1, *arg2].into_iter().flatten().collect();
                let count = match fun {
                    MathFunction::Transpose => 0,
                    MathFunction::Dot => words(self, *arg)?,
                    _ => words(self, handle)?,
                };
                if matches!(fun, MathFunction::Dot | MathFunction::Fma) {
                    self.multiply_adds(count, active);
                }
                self.works(&needed, count, active)
            }
            _ => Arrival::default(),
        };
        self.frame().arrivals.values[handle.index()] = arrival;
        Ok(())
    }

    fn multiply_adds(&mut self, count: u64, active: &[bool]) {
        if let Some(trace) = &mut self.trace {
            for warp in trace.running(active) {
                trace.warps[warp].multiply_adds += count;
            }
        }
    }

    fn loads(&mut self, place: Place, handle: Handle<Expression>, active: &[bool]) -> Result<Arrival, String> {
        let (pointer, address) = (self.pointer(handle)?, self.arrival(handle));
        let is_read_only = match pointer.root {
            Root::Storage(variable) => match self.module.global_variables[variable].space {
                AddressSpace::Storage { access } => !access.contains(StorageAccess::STORE),
                _ => true,
            },
            _ => false,
        };
        let words = size_of(self.module, &pointer.inner)?;
        let local = match pointer.root {
            Root::Local(depth, index) => self.frames[depth].arrivals.locals[index],
            _ => Arrival::default(),
        };
        let Some(trace) = &mut self.trace else { return Ok(address) };
        let mut arrival = latest(address, local);
        if is_read_only && let Some(held) = trace.held.get(&place) {
            let same = |lane: usize| held.at[lane].is_some() && held.at[lane] == pointer.at[lane];
            if (0..active.len()).filter(|&lane| active[lane]).all(same) {
                return Ok(held.arrival);
            }
        }
        for warp in trace.running(active) {
            match pointer.root {
                Root::Local(..) => {}
                Root::Workgroup(_) => {
                    trace.warps[warp].work(address[warp], transfers(words));
                    trace.warps[warp].shared_bytes += 4 * words as u64;
                }
                Root::Storage(variable) => {
                    let sectors = sectors(&pointer, words, trace.lanes_per_warp, warp, active);
                    let round = trace.warps[warp].now.max(address[warp]) + 1;
                    trace.missed.resize(trace.missed.len().max(round as usize + 1), false);
                    trace.warps[warp].work(address[warp], transfers(words));
                    trace.warps[warp].issued = trace.warps[warp].issued.max(round);
                    for sector in sectors {
                        trace.missed[round as usize] |= trace.lines.insert((variable, sector * SECTOR / LINE));
                        trace.sectors_read.insert((variable, sector));
                    }
                    arrival[warp] = round;
                }
            }
        }
        if is_read_only {
            let at = (0..active.len()).map(|lane| pointer.at[lane].filter(|_| active[lane])).collect();
            trace.held.insert(place, Held { at, arrival });
        }
        Ok(arrival)
    }

    pub(super) fn stores(
        &mut self,
        handle: Handle<Expression>,
        value: Handle<Expression>,
        active: &[bool],
    ) -> Result<(), String> {
        if self.trace.is_none() {
            return Ok(());
        }
        let (pointer, value) = (self.pointer(handle)?, latest(self.arrival(handle), self.arrival(value)));
        let words = size_of(self.module, &pointer.inner)?;
        if let Root::Local(depth, index) = pointer.root {
            let stored = &mut self.frames[depth].arrivals.locals[index];
            *stored = latest(*stored, value);
        } else if let Some(trace) = &mut self.trace {
            for warp in trace.running(active) {
                trace.warps[warp].work(value[warp], transfers(words));
                if let Root::Storage(variable) = pointer.root {
                    let sectors = sectors(&pointer, words, trace.lanes_per_warp, warp, active);
                    trace.sectors_written.extend(sectors.into_iter().map(|sector| (variable, sector)));
                }
            }
        }
        Ok(())
    }
}

/// The sectors that a warp's lanes touch, each once.
fn sectors(pointer: &Pointer, words: usize, lanes_per_warp: usize, warp: usize, active: &[bool]) -> Vec<usize> {
    let lanes = warp * lanes_per_warp..active.len().min((warp + 1) * lanes_per_warp);
    let firsts = lanes.filter(|&lane| active[lane]).filter_map(|lane| pointer.at[lane]);
    let mut sectors: Vec<usize> = firsts.flat_map(|at| at / SECTOR..=(at + words - 1) / SECTOR).collect();
    sectors.sort_unstable();
    sectors.dedup();
    sectors
}
