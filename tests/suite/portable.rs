//! Rules that keep kernels portable, checked on naga's IR. docs/kernels.md says which compiler needs which.
//!
//! Tint judges what naga's IR no longer shows: uniform control flow and parentheses (`scripts/compilers.sh`).

use crate::support::{Outcome, require, test};
use grokscope::shaders;
use libtest_mimic::{Failed, Trial};
use naga::proc::TypeResolution;
use naga::valid::{Capabilities, FunctionInfo, ValidationFlags, Validator};
use naga::{
    AddressSpace, BinaryOperator, Binding, Block, BuiltIn, Expression, Function, Handle, Module, Span, Statement,
    TypeInner,
};

pub fn tests() -> Vec<Trial> {
    vec![
        test("portable_kernels_keep_the_rules", kernels_keep_the_rules),
        test("portable_rules_find_planted_faults", planted_faults_are_found),
    ]
}

/// Only software adapters run these. Their arrays become registers in LLVM.
const SOFTWARE_ONLY: &str = "_subgroup";

fn kernels_keep_the_rules() -> Outcome {
    let mut judged = 0;
    for kernel in shaders::kernels()?.iter().filter(|kernel| !kernel.stem.ends_with(SOFTWARE_ONLY)) {
        let violations = violations(&kernel.source)?;
        require!(violations.is_empty(), "shaders/{}.wgsl: {}", kernel.stem, violations.join("; "));
        judged += 1;
    }
    require!(judged >= 15, "only {judged} shaders were judged");
    Ok(())
}

/// What each rule must report, in a shader that breaks it, and a shader next to it that does not.
const PLANTED: &[(&str, &str, &str)] = &[
    (
        RUN_TIME_INDEX,
        "var a: array<f32, 4>; a[i] = 1.0; out[0] = a[1];",
        "var a: array<f32, 4>; a[2] = 1.0; out[0] = a[1];",
    ),
    (
        RUN_TIME_INDEX,
        "var a = array<f32, 4>(); a[1] = f32(i); out[0] = a[i];",
        "var a = array<f32, 4>(); out[0] = a[3];",
    ),
    (RUN_TIME_INDEX, "var v = vec4<f32>(); v[i] = 1.0; out[0] = v.x;", "var v = vec4<f32>(); v.y = 1.0; out[0] = v.x;"),
    (RUN_TIME_INDEX, "let v = many[0]; out[0] = v[i];", "out[0] = many[0][i];"),
    (
        RUN_TIME_INDEX,
        "var m = mat4x4<f32>(); m[i] = many[0]; out[0] = m[0].x;",
        "let m = mat4x4<f32>(); out[0] = m[0].x;",
    ),
    (RUN_TIME_INDEX, "var a: array<f32, 4>; put(&a, i); out[0] = a[0];", "out[i] = 1.0;"),
    (SHARED_COMPONENT, "shared_[i].x = 1.0;", "shared_[i] = many[0];"),
    (SHARED_COMPONENT, "shared_[0][i] = 1.0;", "out[0] = shared_[i].x;"),
    (
        SWITCH_IN_LOOP,
        "for (var n = 0u; n < i; n++) { switch n { case 0u: { out[0] = 1.0; } default: {} } }",
        "switch i { case 0u: { out[0] = 1.0; } default: {} }",
    ),
    (SWITCH_IN_LOOP, "for (var n = 0u; n < i; n++) { chosen(n); }", "chosen(i);"),
    (
        NAN_BY_COMPARISON,
        "let x = out[0]; if (x != x) { out[0] = 0.0; }",
        "let x = out[0]; if (x != out[1]) { out[0] = 0.0; }",
    ),
    (NOT_FROM_HERE, "out[group.x] = 1.0;", "out[here(group).x] = 1.0;"),
    (NOT_FROM_HERE, "let n = group; out[n.y * 4u + n.x] = 1.0;", "let n = here(group); out[n.y * 4u + n.x] = 1.0;"),
    (NOT_FROM_HERE, "var n = group; out[n.x] = 1.0;", "var n = here(group); out[n.x] = 1.0;"),
    (NOT_FROM_HERE, "out[here(group).x + group.y] = 1.0;", "out[here(group).x + here(group).y] = 1.0;"),
    (NOT_FROM_HERE, "out[first(group)] = 1.0;", "out[first(here(group))] = 1.0;"),
    (NOT_FROM_HERE, "out[(group + group).x] = 1.0;", "out[(here(group) + here(group)).x] = 1.0;"),
];

const PLANTED_IN: &str = "
@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@group(0) @binding(1) var<storage, read> many: array<vec4<f32>>;
var<workgroup> shared_: array<vec4<f32>, 64>;
fn put(a: ptr<function, array<f32, 4>>, i: u32) { (*a)[i] = 1.0; }
fn chosen(n: u32) { switch n { case 0u: { out[0] = 1.0; } default: {} } }
fn here(launched: vec3<u32>) -> vec3<u32> { return launched + vec3(1u); }
fn first(group: vec3<u32>) -> u32 { return group.x; }
@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) i: u32, @builtin(workgroup_id) group: vec3<u32>) { BODY }
";

fn planted_faults_are_found() -> Outcome {
    // `put` breaks a rule by itself, so shaders that do not call it leave it out.
    let with = |body: &str| {
        let lines = PLANTED_IN.lines().filter(|line| !line.starts_with("fn put") || body.contains("put("));
        lines.collect::<Vec<_>>().join("\n").replace("BODY", body)
    };
    for (rule, wrong, right) in PLANTED {
        let found = violations(&with(wrong))?;
        require!(found.iter().any(|found| found.contains(rule)), "{wrong}: {rule} was not found, but {found:?}");
        let found = violations(&with(right))?;
        require!(found.is_empty(), "{right}: {found:?}");
    }
    Ok(())
}

const RUN_TIME_INDEX: &str = "private memory is indexed at run time";
const SHARED_COMPONENT: &str = "a component of a vector in workgroup memory is written";
const SWITCH_IN_LOOP: &str = "a switch in a loop";
const NAN_BY_COMPARISON: &str = "a value is compared with itself";
const NOT_FROM_HERE: &str = "workgroup_id or global_invocation_id is used as it is: take it from here(), or every part of a dispatch begins at 0";

/// The rules that a shader breaks, with line numbers.
fn violations(source: &str) -> Result<Vec<String>, Failed> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::default())
        .validate(&module)
        .map_err(|e| e.emit_to_string(source))?;
    let mut found = Vec::new();
    let functions = module.functions.iter().map(|(handle, function)| (function, &info[handle]));
    let points = module.entry_points.iter().enumerate().map(|(n, point)| (&point.function, info.get_entry_point(n)));
    for (function, of_function) in functions.chain(points) {
        let judge = Judge { module: &module, function, of_function, source };
        judge.expressions(&mut found);
        judge.statements(&function.body, false, &mut found);
        judge.places_in_launch(&mut found);
    }
    Ok(found)
}

struct Judge<'a> {
    module: &'a Module,
    function: &'a Function,
    of_function: &'a FunctionInfo,
    source: &'a str,
}

impl Judge<'_> {
    fn expressions(&self, found: &mut Vec<String>) {
        for (handle, expression) in self.function.expressions.iter() {
            let span = self.function.expressions.get_span(handle);
            match *expression {
                Expression::Access { base, index } if !self.is_known(index) && self.is_private(base) => {
                    found.push(self.report(RUN_TIME_INDEX, span));
                }
                Expression::Binary { op: BinaryOperator::NotEqual | BinaryOperator::Equal, left, right }
                    if left == right =>
                {
                    found.push(self.report(NAN_BY_COMPARISON, span));
                }
                _ => {}
            }
        }
    }

    fn statements(&self, block: &Block, in_loop: bool, found: &mut Vec<String>) {
        for (statement, span) in block.span_iter() {
            match statement {
                Statement::Block(inner) => self.statements(inner, in_loop, found),
                Statement::If { accept, reject, .. } => {
                    self.statements(accept, in_loop, found);
                    self.statements(reject, in_loop, found);
                }
                Statement::Loop { body, continuing, .. } => {
                    self.statements(body, true, found);
                    self.statements(continuing, true, found);
                }
                Statement::Switch { cases, .. } => {
                    if in_loop {
                        found.push(self.report(SWITCH_IN_LOOP, *span));
                    }
                    cases.iter().for_each(|case| self.statements(&case.body, in_loop, found));
                }
                // Compilers inline functions, so what a loop calls is in the loop.
                Statement::Call { function, .. } if in_loop && has_switch(self.module, *function) => {
                    found.push(self.report(SWITCH_IN_LOOP, *span));
                }
                Statement::Store { pointer, .. } if self.is_shared_component(*pointer) => {
                    found.push(self.report(SHARED_COMPONENT, *span));
                }
                _ => {}
            }
        }
    }

    /// Reports workgroup_id and global_invocation_id wherever they are used other than as the argument of `here`.
    fn places_in_launch(&self, found: &mut Vec<String>) {
        for (handle, expression) in self.function.expressions.iter() {
            let Expression::FunctionArgument(number) = *expression else { continue };
            let binding = &self.function.arguments[number as usize].binding;
            if matches!(binding, Some(Binding::BuiltIn(BuiltIn::WorkGroupId | BuiltIn::GlobalInvocationId)))
                && self.of_function[handle].ref_count != self.calls_of_here(&self.function.body, handle)
            {
                found.push(self.report(NOT_FROM_HERE, self.function.expressions.get_span(handle)));
            }
        }
    }

    fn calls_of_here(&self, block: &Block, argument: Handle<Expression>) -> usize {
        let of_statement = |statement: &Statement| match statement {
            Statement::Block(inner) => self.calls_of_here(inner, argument),
            Statement::If { accept, reject, .. } => {
                self.calls_of_here(accept, argument) + self.calls_of_here(reject, argument)
            }
            Statement::Loop { body, continuing, .. } => {
                self.calls_of_here(body, argument) + self.calls_of_here(continuing, argument)
            }
            Statement::Call { function, arguments, .. } => {
                let is_here = self.module.functions[*function].name.as_deref() == Some("here");
                usize::from(is_here && arguments.contains(&argument))
            }
            _ => 0,
        };
        block.iter().map(of_statement).sum()
    }

    fn inner(&self, expression: Handle<Expression>) -> &TypeInner {
        match &self.of_function[expression].ty {
            TypeResolution::Handle(ty) => &self.module.types[*ty].inner,
            TypeResolution::Value(inner) => inner,
        }
    }

    /// Whether a compiler knows the index when it makes the pipeline.
    fn is_known(&self, index: Handle<Expression>) -> bool {
        matches!(
            self.function.expressions[index],
            Expression::Literal(_) | Expression::Constant(_) | Expression::Override(_) | Expression::ZeroValue(_)
        )
    }

    /// A value, or a pointer into a variable of one invocation.
    fn is_private(&self, base: Handle<Expression>) -> bool {
        match self.inner(base) {
            TypeInner::Pointer { space, .. } | TypeInner::ValuePointer { space, .. } => {
                matches!(space, AddressSpace::Function | AddressSpace::Private)
            }
            _ => true,
        }
    }

    /// A pointer to a scalar that is part of a vector in workgroup memory.
    fn is_shared_component(&self, pointer: Handle<Expression>) -> bool {
        let (Expression::Access { base, .. } | Expression::AccessIndex { base, .. }) =
            self.function.expressions[pointer]
        else {
            return false;
        };
        match *self.inner(base) {
            TypeInner::Pointer { base, space: AddressSpace::WorkGroup } => {
                matches!(self.module.types[base].inner, TypeInner::Vector { .. })
            }
            TypeInner::ValuePointer { size: Some(_), space: AddressSpace::WorkGroup, .. } => true,
            _ => false,
        }
    }

    fn report(&self, rule: &str, span: Span) -> String {
        format!("line {}: {rule}", span.location(self.source).line_number)
    }
}

/// Whether a function, or one that it calls, has a switch.
fn has_switch(module: &Module, function: Handle<Function>) -> bool {
    fn in_block(module: &Module, block: &Block) -> bool {
        block.iter().any(|statement| match statement {
            Statement::Switch { .. } => true,
            Statement::Block(inner) => in_block(module, inner),
            Statement::If { accept, reject, .. } => in_block(module, accept) || in_block(module, reject),
            Statement::Loop { body, continuing, .. } => in_block(module, body) || in_block(module, continuing),
            Statement::Call { function, .. } => has_switch(module, *function),
            _ => false,
        })
    }
    in_block(module, &module.functions[function].body)
}
