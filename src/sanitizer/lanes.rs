//! A workgroup in lockstep: every statement is done for all lanes that reach it.

mod expressions;
mod trace;

use super::memory::{Access, Memory, Who, Wrong};
use super::words::{size, size_of};
use super::{Buffers, Dispatch, Fault, Faults, Kind, Shader, Trace};
use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{
    AddressSpace, AtomicFunction, Barrier, Binding, Block, BuiltIn, Expression, Function, GatherMode, GlobalVariable,
    Handle, Module, ScalarKind, Span, Statement, TypeInner,
};
use std::collections::HashMap;
use std::rc::Rc;
use trace::{Arrivals, Tracer};

/// Which lanes do something.
type Mask = Vec<bool>;

/// Iterations after which a loop counts as one without an end.
const ITERATIONS: usize = 1 << 16;

/// What an expression is, for all lanes.
enum Value {
    /// Lane l has `words[l * size ..][..size]`.
    Words {
        size: usize,
        words: Vec<u32>,
    },
    Pointer(Pointer),
}

#[derive(Clone)]
struct Pointer {
    root: Root,
    /// What it points to.
    inner: TypeInner,
    /// The first word, lane by lane; None where an index was out of bounds.
    at: Vec<Option<usize>>,
    /// Where it points to a component: the first words of the vectors, and how many components they have.
    vector: Option<(Vec<Option<usize>>, usize)>,
}

/// The vectors that a pointer leads to, whose components a store may all touch (WGSL, "Accessing components of a vector").
fn vectors(pointer: &Pointer) -> Option<(Vec<Option<usize>>, usize)> {
    match pointer.inner {
        TypeInner::Vector { size, .. } => Some((pointer.at.clone(), size as usize)),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Root {
    Storage(Handle<GlobalVariable>),
    Workgroup(Handle<GlobalVariable>),
    /// A variable of the function that runs at this depth.
    Local(usize, usize),
}

/// Lanes that left a loop's body early.
struct Leaving {
    broke: Mask,
    continued: Mask,
}

/// A function that runs.
struct Frame<'a> {
    function: &'a Function,
    info: &'a FunctionInfo,
    values: Vec<Option<Rc<Value>>>,
    arguments: Vec<Rc<Value>>,
    /// By variable: words of all lanes.
    locals: Vec<Vec<u32>>,
    loops: Vec<Leaving>,
    returned: Mask,
    result: Option<Value>,
    arrivals: Arrivals,
}

/// One workgroup.
pub struct Group<'a> {
    shader: &'a Shader,
    module: &'a Module,
    info: &'a ModuleInfo,
    entry: usize,
    size: [u32; 3],
    subgroup: u32,
    workgroups: [u32; 3],
    workgroup: [u32; 3],
    number: u32,
    lanes: usize,
    frames: Vec<Frame<'a>>,
    shared: HashMap<Handle<GlobalVariable>, Memory>,
    storage_epoch: u32,
    shared_epoch: u32,
    buffers: &'a mut Buffers,
    faults: &'a mut Faults,
    trace: Option<Tracer>,
}

fn unknown<T>(what: impl std::fmt::Debug) -> Result<T, String> {
    Err(format!("{what:?} is not known to the sanitizer"))
}

fn any(mask: &[bool]) -> bool {
    mask.contains(&true)
}

fn and(mask: &[bool], other: &[bool], expected: bool) -> Mask {
    mask.iter().zip(other).map(|(&a, &b)| a && b == expected).collect()
}

impl<'a> Group<'a> {
    #[expect(clippy::too_many_arguments, reason = "everything that one workgroup stands on")]
    pub fn new(
        shader: &'a Shader,
        module: &'a Module,
        info: &'a ModuleInfo,
        entry: usize,
        dispatch: &Dispatch,
        workgroup: [u32; 3],
        number: u32,
        buffers: &'a mut Buffers,
        faults: &'a mut Faults,
    ) -> Self {
        let size = module.entry_points[entry].workgroup_size;
        let lanes = size.iter().product::<u32>() as usize;
        Self {
            shader,
            module,
            info,
            entry,
            size,
            subgroup: dispatch.subgroup,
            workgroups: dispatch.workgroups,
            workgroup,
            number,
            lanes,
            frames: Vec::new(),
            shared: HashMap::new(),
            storage_epoch: 0,
            shared_epoch: 0,
            buffers,
            faults,
            trace: None,
        }
    }

    /// Runs it, and follows what it waits for.
    pub fn trace(mut self) -> Result<Trace, String> {
        self.trace = Some(Tracer::new(self.lanes));
        self.run()?;
        self.trace.take().map(Tracer::finish).ok_or("nothing was followed".into())
    }

    pub fn run(&mut self) -> Result<(), String> {
        for (handle, variable) in self.module.global_variables.iter() {
            if variable.space == AddressSpace::WorkGroup {
                self.shared.insert(handle, Memory::new(size(self.module, variable.ty)?));
            }
        }
        let point = &self.module.entry_points[self.entry];
        let arguments = point.function.arguments.iter().map(|argument| self.builtin(&argument.binding));
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        let arrivals = vec![Default::default(); arguments.len()];
        self.call(&point.function, self.info.get_entry_point(self.entry), arguments, arrivals, vec![true; self.lanes])?;
        Ok(())
    }

    fn builtin(&self, binding: &Option<Binding>) -> Result<Rc<Value>, String> {
        let Some(Binding::BuiltIn(builtin)) = binding else { return unknown(binding) };
        let local =
            |lane: u32| [lane % self.size[0], lane / self.size[0] % self.size[1], lane / self.size[0] / self.size[1]];
        let of_lane = |lane: u32| -> Option<Vec<u32>> {
            Some(match builtin {
                BuiltIn::GlobalInvocationId => {
                    (0..3).map(|i| self.workgroup[i] * self.size[i] + local(lane)[i]).collect()
                }
                BuiltIn::LocalInvocationId => local(lane).to_vec(),
                BuiltIn::LocalInvocationIndex => vec![lane],
                BuiltIn::WorkGroupId => self.workgroup.to_vec(),
                BuiltIn::NumWorkGroups => self.workgroups.to_vec(),
                BuiltIn::SubgroupInvocationId => vec![lane % self.subgroup],
                BuiltIn::SubgroupId => vec![lane / self.subgroup],
                BuiltIn::SubgroupSize => vec![self.subgroup],
                _ => return None,
            })
        };
        let lanes = (0..self.lanes as u32).map(of_lane).collect::<Option<Vec<_>>>();
        let Some(lanes) = lanes else { return unknown(builtin) };
        Ok(Rc::new(Value::Words { size: lanes[0].len(), words: lanes.concat() }))
    }

    /// Runs a function for some lanes.
    fn call(
        &mut self,
        function: &'a Function,
        info: &'a FunctionInfo,
        arguments: Vec<Rc<Value>>,
        arrivals: Vec<trace::Arrival>,
        active: Mask,
    ) -> Result<Option<(Value, trace::Arrival)>, String> {
        let mut locals = Vec::new();
        for (_, variable) in function.local_variables.iter() {
            locals.push(vec![0; self.lanes * size(self.module, variable.ty)?]);
        }
        let result = match &function.result {
            Some(result) => Some(self.words(size(self.module, result.ty)?)),
            None => None,
        };
        self.frames.push(Frame {
            function,
            info,
            values: vec![None; function.expressions.len()],
            arguments,
            locals,
            loops: Vec::new(),
            returned: vec![false; self.lanes],
            result,
            arrivals: Arrivals::default(),
        });
        self.begin_arrivals(arrivals);
        for (index, (_, variable)) in function.local_variables.iter().enumerate() {
            if let Some(init) = variable.init {
                let value = self.get(init)?;
                let (_, words) = self.expect_words(&value)?;
                let words = words.to_vec();
                self.frame().locals[index] = words;
            }
        }
        self.block(&function.body, active)?;
        Ok(self.frames.pop().and_then(|frame| Some((frame.result?, frame.arrivals.result))))
    }

    fn frame(&mut self) -> &mut Frame<'a> {
        self.frames.last_mut().expect("a function runs")
    }

    fn words(&self, size: usize) -> Value {
        Value::Words { size, words: vec![0; size * self.lanes] }
    }

    fn fault(&mut self, kind: Kind, span: Span, lane: usize, detail: String) {
        let line = span.location(&self.shader.source).line_number;
        let (shader, workgroup) = (self.shader.name.clone(), self.workgroup);
        self.faults.add(Fault { kind, shader, line, detail, workgroup, lane: lane as u32, count: 1 });
    }

    fn block(&mut self, block: &'a Block, mut active: Mask) -> Result<Mask, String> {
        for (statement, &span) in block.span_iter() {
            if !any(&active) {
                break;
            }
            active = self.statement(statement, span, active)?;
        }
        Ok(active)
    }

    /// Does a statement, and says which lanes go on behind it.
    fn statement(&mut self, statement: &'a Statement, span: Span, active: Mask) -> Result<Mask, String> {
        match statement {
            Statement::Emit(range) => {
                for handle in range.clone() {
                    let value = self.evaluate(handle, &active)?;
                    self.frame().values[handle.index()] = Some(Rc::new(value));
                    self.evaluated(handle, &active)?;
                }
            }
            Statement::Block(inner) => return self.block(inner, active),
            Statement::If { condition, accept, reject } => {
                self.branches(*condition, &active);
                let condition = self.bools(*condition)?;
                let yes = self.block(accept, and(&active, &condition, true))?;
                let no = self.block(reject, and(&active, &condition, false))?;
                return Ok(yes.iter().zip(&no).map(|(&a, &b)| a || b).collect());
            }
            Statement::Loop { body, continuing, break_if } => {
                return self.repeat(body, continuing, *break_if, span, active);
            }
            Statement::Break => return self.leave(active, |leaving| &mut leaving.broke),
            Statement::Continue => return self.leave(active, |leaving| &mut leaving.continued),
            Statement::Return { value } => {
                if let Some(value) = value {
                    self.returns(*value);
                    let value = self.get(*value)?;
                    let Value::Words { words, .. } = &*value else {
                        return unknown("a function that returns a pointer");
                    };
                    let frame = self.frame();
                    let Some(Value::Words { size, words: result }) = &mut frame.result else {
                        return unknown("a function that returns a pointer");
                    };
                    copy_lanes(words, result, *size, &active);
                }
                for (returned, &active) in self.frame().returned.iter_mut().zip(&active) {
                    *returned |= active;
                }
                return Ok(vec![false; self.lanes]);
            }
            Statement::ControlBarrier(barrier) => {
                self.all_come(&active, span);
                self.meets();
                self.storage_epoch += u32::from(barrier.contains(Barrier::STORAGE));
                self.shared_epoch += u32::from(barrier.contains(Barrier::WORK_GROUP));
            }
            Statement::Store { pointer, value } => {
                self.stores(*pointer, *value, &active)?;
                let (pointer, value) = (self.pointer(*pointer)?, self.get(*value)?);
                let (size, words) = self.expect_words(&value)?;
                for lane in (0..self.lanes).filter(|&lane| active[lane]) {
                    for i in 0..size {
                        self.put(&pointer, lane, i, words[lane * size + i], span)?;
                    }
                    self.touch_beside(&pointer, lane, span)?;
                }
            }
            Statement::Atomic { pointer, fun, value, result } => {
                self.atomic(*pointer, fun, *value, *result, span, &active)?;
            }
            Statement::WorkGroupUniformLoad { pointer, result } => {
                // A barrier before the load, and one after it.
                self.all_come(&active, span);
                self.meets();
                self.shared_epoch += 1;
                let pointer = self.pointer(*pointer)?;
                let value = self.load(&pointer, span, &active)?;
                self.shared_epoch += 1;
                self.frame().values[result.index()] = Some(Rc::new(value));
            }
            Statement::Call { function, arguments, result } => {
                let arrivals = self.arrivals(arguments);
                let arguments = arguments.iter().map(|&argument| self.get(argument)).collect::<Result<_, _>>()?;
                let (called, info) = (&self.module.functions[*function], &self.info[*function]);
                let value = self.call(called, info, arguments, arrivals, active.clone())?;
                if let (Some(handle), Some((value, arrival))) = (result, value) {
                    self.arrives(*handle, arrival);
                    self.frame().values[handle.index()] = Some(Rc::new(value));
                }
            }
            Statement::SubgroupGather { mode: GatherMode::Broadcast(index), argument, result } => {
                let arrival = self.works(&[*index, *argument], 1, &active);
                self.arrives(*result, arrival);
                let (index, argument) = (self.get(*index)?, self.get(*argument)?);
                let (_, index) = self.expect_words(&index)?;
                let (size, words) = self.expect_words(&argument)?;
                let mut out = vec![0; words.len()];
                for lane in (0..self.lanes).filter(|&lane| active[lane]) {
                    let first = lane - lane % self.subgroup as usize;
                    let from = first + index[lane] as usize;
                    if index[lane] >= self.subgroup || from >= self.lanes || !active[from] {
                        self.fault(Kind::InactiveLane, span, lane, format!("lane {} of its subgroup", index[lane]));
                        continue;
                    }
                    out[lane * size..][..size].copy_from_slice(&words[from * size..][..size]);
                }
                self.frame().values[result.index()] = Some(Rc::new(Value::Words { size, words: out }));
            }
            other => return unknown(other),
        }
        Ok(active)
    }

    fn all_come(&mut self, active: &[bool], span: Span) {
        if let Some(lane) = active.iter().position(|&reaches| !reaches) {
            self.fault(Kind::DivergentBarrier, span, lane, "this invocation does not come here".into());
        }
    }

    fn leave(&mut self, active: Mask, into: impl Fn(&mut Leaving) -> &mut Mask) -> Result<Mask, String> {
        let Some(leaving) = self.frame().loops.last_mut() else { return unknown("break outside of a loop") };
        for (left, active) in into(leaving).iter_mut().zip(active) {
            *left |= active;
        }
        Ok(vec![false; self.lanes])
    }

    fn repeat(
        &mut self,
        body: &'a Block,
        continuing: &'a Block,
        break_if: Option<Handle<Expression>>,
        span: Span,
        active: Mask,
    ) -> Result<Mask, String> {
        let nobody = vec![false; self.lanes];
        self.frame().loops.push(Leaving { broke: nobody.clone(), continued: nobody.clone() });
        self.boundary(&active);
        let mut running = active.clone();
        let mut iterations = 0;
        while any(&running) {
            let began = running.clone();
            let after = self.block(body, running)?;
            let leaving = self.frame().loops.last_mut().ok_or("a loop runs")?;
            let continued = std::mem::replace(&mut leaving.continued, nobody.clone());
            running = after.iter().zip(continued).map(|(&a, b)| a || b).collect();
            running = self.block(continuing, running)?;
            if let Some(condition) = break_if
                && any(&running)
            {
                self.branches(condition, &running);
                running = and(&running, &self.bools(condition)?, false);
            }
            self.boundary(&began);
            iterations += 1;
            if iterations == ITERATIONS {
                let lane = running.iter().position(|&runs| runs).unwrap_or(0);
                self.fault(Kind::Endless, span, lane, format!("{ITERATIONS} iterations"));
                break;
            }
        }
        self.frame().loops.pop();
        let returned = self.frame().returned.clone();
        Ok(and(&active, &returned, false))
    }

    fn atomic(
        &mut self,
        pointer: Handle<Expression>,
        fun: &AtomicFunction,
        value: Handle<Expression>,
        result: Option<Handle<Expression>>,
        span: Span,
        active: &[bool],
    ) -> Result<(), String> {
        self.stores(pointer, value, active)?;
        let (pointer, value) = (self.pointer(pointer)?, self.get(value)?);
        let (_, words) = self.expect_words(&value)?;
        let signed = pointer.inner.scalar().is_some_and(|scalar| scalar.kind == ScalarKind::Sint);
        let mut old = vec![0; self.lanes];
        for lane in (0..self.lanes).filter(|&lane| active[lane]) {
            let Some(at) = pointer.at[lane] else { continue };
            self.check(&pointer, at, lane, Access::Atomic, span)?;
            let memory = self.memory(pointer.root)?;
            let (before, word) = (memory.get(at), words[lane]);
            old[lane] = before;
            memory.set(
                at,
                match fun {
                    AtomicFunction::Add => before.wrapping_add(word),
                    AtomicFunction::Subtract => before.wrapping_sub(word),
                    AtomicFunction::And => before & word,
                    AtomicFunction::ExclusiveOr => before ^ word,
                    AtomicFunction::InclusiveOr => before | word,
                    AtomicFunction::Min if signed => (before as i32).min(word as i32) as u32,
                    AtomicFunction::Max if signed => (before as i32).max(word as i32) as u32,
                    AtomicFunction::Min => before.min(word),
                    AtomicFunction::Max => before.max(word),
                    AtomicFunction::Exchange { compare: None } => word,
                    other => return unknown(other),
                },
            );
        }
        if let Some(handle) = result {
            self.frame().values[handle.index()] = Some(Rc::new(Value::Words { size: 1, words: old }));
        }
        Ok(())
    }

    // Memory.

    fn memory(&mut self, root: Root) -> Result<&mut Memory, String> {
        let variable =
            |handle: Handle<GlobalVariable>| self.module.global_variables[handle].name.clone().unwrap_or_default();
        match root {
            Root::Storage(handle) => {
                let name = variable(handle);
                self.buffers.get_mut(&name).ok_or(format!("{name} is bound to nothing"))
            }
            Root::Workgroup(handle) => self.shared.get_mut(&handle).ok_or("no such variable".into()),
            Root::Local(..) => Err("a function's variable has no shadow".into()),
        }
    }

    fn name(&self, root: Root) -> String {
        let name = match root {
            Root::Storage(handle) | Root::Workgroup(handle) => self.module.global_variables[handle].name.clone(),
            Root::Local(depth, index) => {
                self.frames[depth].function.local_variables.iter().nth(index).and_then(|(_, v)| v.name.clone())
            }
        };
        name.unwrap_or("?".into())
    }

    /// Notes an access to shared memory and reports what is wrong with it.
    fn check(&mut self, pointer: &Pointer, at: usize, lane: usize, access: Access, span: Span) -> Result<(), String> {
        let epoch = match pointer.root {
            Root::Storage(_) => self.storage_epoch,
            Root::Workgroup(_) => self.shared_epoch,
            Root::Local(..) => return Ok(()),
        };
        let who = Who { workgroup: self.number, lane: lane as u32, epoch };
        if let Some(wrong) = self.memory(pointer.root)?.touch(at, access, who) {
            let name = self.name(pointer.root);
            let (kind, detail) = match wrong {
                Wrong::Fenced => (Kind::OutOfBounds, format!("{name} at word {at}, which lies between its parts")),
                Wrong::NeverWritten => (Kind::NeverWritten, format!("{name} at word {at}")),
                Wrong::Race => (Kind::Race, format!("{name} at word {at}")),
            };
            self.fault(kind, span, lane, detail);
        }
        Ok(())
    }

    fn put(&mut self, pointer: &Pointer, lane: usize, word: usize, value: u32, span: Span) -> Result<(), String> {
        let Some(at) = pointer.at[lane] else { return Ok(()) };
        match pointer.root {
            Root::Local(depth, index) => {
                let size = self.frames[depth].locals[index].len() / self.lanes;
                self.frames[depth].locals[index][lane * size + at + word] = value;
            }
            root => {
                self.check(pointer, at + word, lane, Access::Write, span)?;
                self.memory(root)?.set(at + word, value);
            }
        }
        Ok(())
    }

    /// A store to one component of a vector may write the others again.
    fn touch_beside(&mut self, pointer: &Pointer, lane: usize, span: Span) -> Result<(), String> {
        let Some((firsts, count)) = &pointer.vector else { return Ok(()) };
        let (Some(first), Some(at)) = (firsts[lane], pointer.at[lane]) else { return Ok(()) };
        (first..first + count)
            .filter(|&other| other != at)
            .try_for_each(|other| self.check(pointer, other, lane, Access::Beside, span))
    }

    fn load(&mut self, pointer: &Pointer, span: Span, active: &[bool]) -> Result<Value, String> {
        let size = size_of(self.module, &pointer.inner)?;
        let mut words = vec![0; size * self.lanes];
        for lane in (0..self.lanes).filter(|&lane| active[lane]) {
            let Some(at) = pointer.at[lane] else { continue };
            for i in 0..size {
                words[lane * size + i] = match pointer.root {
                    Root::Local(depth, index) => {
                        let local = &self.frames[depth].locals[index];
                        local[lane * (local.len() / self.lanes) + at + i]
                    }
                    root => {
                        self.check(pointer, at + i, lane, Access::Read, span)?;
                        self.memory(root)?.get(at + i)
                    }
                };
            }
        }
        Ok(Value::Words { size, words })
    }
}

fn copy_lanes(from: &[u32], to: &mut [u32], size: usize, active: &[bool]) {
    for lane in (0..active.len()).filter(|&lane| active[lane]) {
        to[lane * size..][..size].copy_from_slice(&from[lane * size..][..size]);
    }
}
