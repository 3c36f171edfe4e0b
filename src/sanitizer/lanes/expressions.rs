//! What expressions are, for all lanes at once.

use super::*;
use crate::sanitizer::arithmetic::{self, Failure};
use crate::sanitizer::words::{member, parts};
use naga::{Literal, MathFunction, RelationalFunction, Type};

impl Group<'_> {
    pub(super) fn inner(&mut self, handle: Handle<Expression>) -> TypeInner {
        let types = &self.module.types;
        self.frame().info[handle].ty.inner_with(types).clone()
    }

    pub(super) fn kind(&mut self, handle: Handle<Expression>) -> Result<ScalarKind, String> {
        let inner = self.inner(handle);
        inner.scalar().map(|scalar| scalar.kind).ok_or(format!("{inner:?} is not made of numbers"))
    }

    /// The value of an expression that was evaluated, or that needs no evaluation.
    pub(super) fn get(&mut self, handle: Handle<Expression>) -> Result<Rc<Value>, String> {
        if let Some(value) = &self.frame().values[handle.index()] {
            return Ok(value.clone());
        }
        let everybody = vec![true; self.lanes];
        let value = Rc::new(self.evaluate(handle, &everybody)?);
        self.frame().values[handle.index()] = Some(value.clone());
        Ok(value)
    }

    pub(super) fn expect_words<'v>(&self, value: &'v Value) -> Result<(usize, &'v [u32]), String> {
        match value {
            Value::Words { size, words } => Ok((*size, words)),
            Value::Pointer(_) => unknown("a pointer as a value"),
        }
    }

    pub(super) fn pointer(&mut self, handle: Handle<Expression>) -> Result<Pointer, String> {
        match &*self.get(handle)? {
            Value::Pointer(pointer) => Ok(pointer.clone()),
            Value::Words { .. } => unknown("a value as a pointer"),
        }
    }

    pub(super) fn bools(&mut self, handle: Handle<Expression>) -> Result<Mask, String> {
        let value = self.get(handle)?;
        Ok(self.expect_words(&value)?.1.iter().map(|&word| word != 0).collect())
    }

    /// A constant's words.
    fn constant(&self, handle: Handle<Expression>) -> Result<Vec<u32>, String> {
        match &self.module.global_expressions[handle] {
            Expression::Literal(literal) => literal_word(literal).map(|word| vec![word]),
            Expression::ZeroValue(ty) => Ok(vec![0; size(self.module, *ty)?]),
            Expression::Constant(constant) => self.constant(self.module.constants[*constant].init),
            Expression::Compose { components, .. } => {
                Ok(components.iter().map(|&part| self.constant(part)).collect::<Result<Vec<_>, _>>()?.concat())
            }
            Expression::Splat { size, value } => Ok(self.constant(*value)?.repeat(*size as usize)),
            other => unknown(other),
        }
    }

    fn same_in_all_lanes(&self, words: Vec<u32>) -> Value {
        Value::Words { size: words.len(), words: words.repeat(self.lanes) }
    }

    fn at_start(&self, root: Root, ty: Handle<Type>) -> Value {
        let (inner, at) = (self.module.types[ty].inner.clone(), vec![Some(0); self.lanes]);
        Value::Pointer(Pointer { root, inner, at, vector: None })
    }

    /// For each active lane, the words that `f` makes of it.
    fn per_lane(
        &self,
        active: &[bool],
        size: usize,
        mut f: impl FnMut(usize) -> Result<Vec<u32>, String>,
    ) -> Result<Value, String> {
        let mut words = vec![0; size * self.lanes];
        for lane in (0..self.lanes).filter(|&lane| active[lane]) {
            let own = f(lane)?;
            if own.len() != size {
                return Err(format!("a value of {} words where {size} were expected", own.len()));
            }
            words[lane * size..][..size].copy_from_slice(&own);
        }
        Ok(Value::Words { size, words })
    }

    pub(super) fn evaluate(&mut self, handle: Handle<Expression>, active: &[bool]) -> Result<Value, String> {
        let function = self.frame().function;
        let span = function.expressions.get_span(handle);
        match &function.expressions[handle] {
            Expression::Literal(literal) => Ok(self.same_in_all_lanes(vec![literal_word(literal)?])),
            Expression::Constant(constant) => {
                Ok(self.same_in_all_lanes(self.constant(self.module.constants[*constant].init)?))
            }
            Expression::ZeroValue(ty) => Ok(self.words(size(self.module, *ty)?)),
            Expression::FunctionArgument(index) => {
                let argument = self.frame().arguments[*index as usize].clone();
                Ok(match &*argument {
                    Value::Words { size, words } => Value::Words { size: *size, words: words.clone() },
                    Value::Pointer(pointer) => Value::Pointer(pointer.clone()),
                })
            }
            Expression::GlobalVariable(variable) => {
                let declared = &self.module.global_variables[*variable];
                let root = match declared.space {
                    AddressSpace::Storage { .. } | AddressSpace::Uniform => Root::Storage(*variable),
                    AddressSpace::WorkGroup => Root::Workgroup(*variable),
                    other => return unknown(other),
                };
                Ok(self.at_start(root, declared.ty))
            }
            Expression::LocalVariable(variable) => {
                let ty = function.local_variables[*variable].ty;
                Ok(self.at_start(Root::Local(self.frames.len() - 1, variable.index()), ty))
            }
            Expression::Compose { components, .. } => {
                let values = components.iter().map(|&part| self.get(part)).collect::<Result<Vec<_>, _>>()?;
                let parts = values.iter().map(|value| self.expect_words(value)).collect::<Result<Vec<_>, _>>()?;
                let total = parts.iter().map(|(size, _)| size).sum();
                let of_lane = |lane: usize| {
                    Ok(parts.iter().flat_map(|(size, words)| words[lane * size..][..*size].iter().copied()).collect())
                };
                self.per_lane(active, total, of_lane)
            }
            Expression::Splat { size, value } => {
                let value = self.get(*value)?;
                let (_, words) = self.expect_words(&value)?;
                self.per_lane(active, *size as usize, |lane| Ok(vec![words[lane]; *size as usize]))
            }
            Expression::Swizzle { size, vector, pattern } => {
                let vector = self.get(*vector)?;
                let (from, words) = self.expect_words(&vector)?;
                let picked = &pattern[..*size as usize];
                self.per_lane(active, picked.len(), |lane| {
                    Ok(picked.iter().map(|&component| words[lane * from + component as usize]).collect())
                })
            }
            Expression::Access { base, index } => self.access(*base, *index, span, active),
            Expression::AccessIndex { base, index } => {
                let value = self.get(*base)?;
                match &*value {
                    Value::Pointer(pointer) => {
                        let (inner, words, _) = member(self.module, &pointer.inner, *index)?;
                        let at = pointer.at.iter().map(|at| at.map(|at| at + words)).collect();
                        let pointer = Pointer { root: pointer.root, inner, at, vector: vectors(pointer) };
                        self.within(&pointer, span, active)
                    }
                    Value::Words { size, words } => {
                        let (inner, first, _) = member(self.module, &self.inner(*base), *index)?;
                        let part = size_of(self.module, &inner)?;
                        self.per_lane(active, part, |lane| Ok(words[lane * size + first..][..part].to_vec()))
                    }
                }
            }
            Expression::Load { pointer } => {
                let pointer = self.pointer(*pointer)?;
                self.load(&pointer, span, active)
            }
            Expression::Unary { op, expr } => {
                let (kind, value) = (self.kind(*expr)?, self.get(*expr)?);
                let (size, words) = self.expect_words(&value)?;
                self.per_lane(active, size, |lane| {
                    words[lane * size..][..size].iter().map(|&x| arithmetic::unary(*op, kind, x)).collect()
                })
            }
            Expression::Binary { op, left, right } => self.binary(*op, *left, *right, span, active),
            Expression::Select { condition, accept, reject } => {
                let (condition, accept, reject) = (self.get(*condition)?, self.get(*accept)?, self.get(*reject)?);
                let (many, condition) = self.expect_words(&condition)?;
                let ((size, yes), (_, no)) = (self.expect_words(&accept)?, self.expect_words(&reject)?);
                self.per_lane(active, size, |lane| {
                    let pick = |i: usize| match condition[lane * many + i % many] {
                        0 => no[lane * size + i],
                        _ => yes[lane * size + i],
                    };
                    Ok((0..size).map(pick).collect())
                })
            }
            Expression::Relational { fun, argument } => {
                let value = self.get(*argument)?;
                let (size, words) = self.expect_words(&value)?;
                let holds = |words: &[u32]| match fun {
                    RelationalFunction::All => Ok(words.iter().all(|&word| word != 0)),
                    RelationalFunction::Any => Ok(words.iter().any(|&word| word != 0)),
                    other => unknown(other),
                };
                self.per_lane(active, 1, |lane| Ok(vec![holds(&words[lane * size..][..size])?.into()]))
            }
            Expression::Math { fun, arg, arg1, arg2, .. } => {
                self.math(handle, *fun, [Some(*arg), *arg1, *arg2], active)
            }
            Expression::As { expr, kind, convert } => {
                let (from, value) = (self.kind(*expr)?, self.get(*expr)?);
                let (size, words) = self.expect_words(&value)?;
                let one = |x: u32| match convert {
                    None => Ok(x),
                    Some(4 | 1) => arithmetic::convert(from, *kind, x).ok_or(format!("{from:?} as {kind:?}")),
                    Some(width) => unknown(format!("a number of {width} bytes")),
                };
                self.per_lane(active, size, |lane| words[lane * size..][..size].iter().map(|&x| one(x)).collect())
            }
            Expression::ArrayLength(pointer) => {
                let pointer = self.pointer(*pointer)?;
                let part = parts(self.module, &pointer.inner)?;
                let len = self.memory(pointer.root)?.len() / part.words;
                Ok(self.same_in_all_lanes(vec![len as u32]))
            }
            other => unknown(other),
        }
    }

    fn access(
        &mut self,
        base: Handle<Expression>,
        index: Handle<Expression>,
        span: Span,
        active: &[bool],
    ) -> Result<Value, String> {
        let (value, index) = (self.get(base)?, self.get(index)?);
        let (_, index) = self.expect_words(&index)?;
        let (inner, name) = match &*value {
            Value::Pointer(pointer) => (pointer.inner.clone(), self.name(pointer.root)),
            Value::Words { .. } => (self.inner(base), "a value".into()),
        };
        let part = parts(self.module, &inner)?;
        let count = match (&*value, part.count) {
            (_, Some(count)) => count,
            (Value::Pointer(pointer), None) => self.memory(pointer.root)?.len() / part.words,
            _ => return unknown("an array without a size"),
        };
        let mut inside = vec![false; self.lanes];
        for lane in (0..self.lanes).filter(|&lane| active[lane]) {
            inside[lane] = (index[lane] as usize) < count;
            if !inside[lane] {
                self.fault(Kind::OutOfBounds, span, lane, format!("{name} at {} of {count}", index[lane]));
            }
        }
        let first = |lane: usize| index[lane] as usize * part.words;
        match &*value {
            Value::Pointer(pointer) => {
                let at = |lane: usize| pointer.at[lane].filter(|_| inside[lane]).map(|at| at + first(lane));
                let at = (0..self.lanes).map(at).collect();
                Ok(Value::Pointer(Pointer { root: pointer.root, inner: part.inner, at, vector: vectors(pointer) }))
            }
            Value::Words { size, words } => {
                self.per_lane(&inside, part.words, |lane| Ok(words[lane * size + first(lane)..][..part.words].to_vec()))
            }
        }
    }

    /// A pointer by a constant index, whose place in a runtime-sized array may lie beyond the end.
    fn within(&mut self, pointer: &Pointer, span: Span, active: &[bool]) -> Result<Value, String> {
        let mut pointer = pointer.clone();
        if let Root::Storage(_) = pointer.root {
            let (words, len) = (size_of(self.module, &pointer.inner)?, self.memory(pointer.root)?.len());
            for (lane, place) in pointer.at.iter_mut().enumerate() {
                if let Some(at) = place.filter(|at| at + words > len) {
                    if active[lane] {
                        let detail = format!("{} at word {at} of {len}", self.name(pointer.root));
                        self.fault(Kind::OutOfBounds, span, lane, detail);
                    }
                    *place = None;
                }
            }
        }
        Ok(Value::Pointer(pointer))
    }

    fn binary(
        &mut self,
        op: naga::BinaryOperator,
        left: Handle<Expression>,
        right: Handle<Expression>,
        span: Span,
        active: &[bool],
    ) -> Result<Value, String> {
        let kind = self.kind(left)?;
        let types = (self.inner(left), self.inner(right));
        let (left, right) = (self.get(left)?, self.get(right)?);
        let ((n, a), (m, b)) = (self.expect_words(&left)?, self.expect_words(&right)?);
        if op == naga::BinaryOperator::Multiply {
            // Rows and columns of the left side, where this is a product of matrices.
            let matrices = match types {
                (TypeInner::Matrix { columns, rows, .. }, TypeInner::Matrix { .. } | TypeInner::Vector { .. }) => {
                    Some((rows as usize, columns as usize))
                }
                (TypeInner::Vector { size, .. }, TypeInner::Matrix { .. }) => Some((1, size as usize)),
                _ => None,
            };
            if let Some((rows, inner)) = matrices {
                return self.per_lane(active, rows * (m / inner), |lane| {
                    Ok(arithmetic::matrix_product(&a[lane * n..][..n], &b[lane * m..][..m], rows, inner))
                });
            }
        }
        let size = n.max(m);
        let mut by_zero = Vec::new();
        let value = self.per_lane(active, size, |lane| {
            let one = |i: usize| match arithmetic::binary(op, kind, a[lane * n + i % n], b[lane * m + i % m]) {
                Ok(word) => Ok(word),
                Err(Failure::Unknown(what)) => Err(what),
                Err(Failure::DivisionByZero) => {
                    by_zero.push(lane);
                    Ok(0)
                }
            };
            (0..size).map(one).collect()
        });
        for lane in by_zero {
            self.fault(Kind::DivisionByZero, span, lane, format!("{op:?}"));
        }
        value
    }

    fn math(
        &mut self,
        handle: Handle<Expression>,
        fun: MathFunction,
        arguments: [Option<Handle<Expression>>; 3],
        active: &[bool],
    ) -> Result<Value, String> {
        let first = arguments[0].ok_or("a function of nothing")?;
        let kind = self.kind(first)?;
        let (of_argument, of_result) = (self.inner(first), self.inner(handle));
        let values = arguments.iter().flatten().map(|&argument| self.get(argument)).collect::<Result<Vec<_>, _>>()?;
        let words = values.iter().map(|value| self.expect_words(value)).collect::<Result<Vec<_>, _>>()?;
        let lane_of = |which: usize, lane: usize| {
            let (size, words) = words[which];
            &words[lane * size..][..size]
        };
        let size = size_of(self.module, &of_result)?;
        match (fun, of_argument) {
            (MathFunction::Dot, _) => {
                self.per_lane(active, 1, |lane| Ok(vec![arithmetic::dot(lane_of(0, lane), lane_of(1, lane))]))
            }
            (MathFunction::Transpose, TypeInner::Matrix { rows, .. }) => {
                self.per_lane(active, size, |lane| Ok(arithmetic::transpose(lane_of(0, lane), rows as usize)))
            }
            _ => self.per_lane(active, size, |lane| {
                let one = |i: usize| {
                    let x = std::array::from_fn(|which| match words.get(which) {
                        Some((many, words)) => words[lane * many + i % many],
                        None => 0,
                    });
                    arithmetic::by_component(fun, kind, x)
                        .ok_or(format!("{fun:?} of {kind:?} is not known to the sanitizer"))
                };
                (0..size).map(one).collect()
            }),
        }
    }
}

fn literal_word(literal: &Literal) -> Result<u32, String> {
    match *literal {
        Literal::F32(x) => Ok(x.to_bits()),
        Literal::U32(x) => Ok(x),
        Literal::I32(x) => Ok(x as u32),
        Literal::Bool(x) => Ok(x.into()),
        other => unknown(other),
    }
}
