//! Operators and functions on words.

use naga::{BinaryOperator as Op, MathFunction as Math, ScalarKind, UnaryOperator};

pub fn f(word: u32) -> f32 {
    f32::from_bits(word)
}

fn w(value: f32) -> u32 {
    value.to_bits()
}

/// Why an operation has no result.
pub enum Failure {
    DivisionByZero,
    Unknown(String),
}

pub fn unary(op: UnaryOperator, kind: ScalarKind, x: u32) -> Result<u32, String> {
    match (op, kind) {
        (UnaryOperator::Negate, ScalarKind::Float) => Ok(w(-f(x))),
        (UnaryOperator::Negate, ScalarKind::Sint) => Ok(x.wrapping_neg()),
        (UnaryOperator::LogicalNot, _) => Ok(u32::from(x == 0)),
        (UnaryOperator::BitwiseNot, _) => Ok(!x),
        _ => Err(format!("{op:?} of {kind:?} is not known to the sanitizer")),
    }
}

pub fn binary(op: Op, kind: ScalarKind, a: u32, b: u32) -> Result<u32, Failure> {
    let unknown = || Failure::Unknown(format!("{op:?} of {kind:?} is not known to the sanitizer"));
    if matches!(op, Op::Divide | Op::Modulo) && kind != ScalarKind::Float && b == 0 {
        return Err(Failure::DivisionByZero);
    }
    Ok(match kind {
        ScalarKind::Float => match op {
            Op::Add => w(f(a) + f(b)),
            Op::Subtract => w(f(a) - f(b)),
            Op::Multiply => w(f(a) * f(b)),
            Op::Divide => w(f(a) / f(b)),
            Op::Modulo => w(f(a) % f(b)),
            Op::Equal => (f(a) == f(b)).into(),
            Op::NotEqual => (f(a) != f(b)).into(),
            Op::Less => (f(a) < f(b)).into(),
            Op::LessEqual => (f(a) <= f(b)).into(),
            Op::Greater => (f(a) > f(b)).into(),
            Op::GreaterEqual => (f(a) >= f(b)).into(),
            _ => return Err(unknown()),
        },
        ScalarKind::Sint => match op {
            Op::Divide => (a as i32).wrapping_div(b as i32) as u32,
            Op::Modulo => (a as i32).wrapping_rem(b as i32) as u32,
            Op::Less => ((a as i32) < b as i32).into(),
            Op::LessEqual => ((a as i32) <= b as i32).into(),
            Op::Greater => ((a as i32) > b as i32).into(),
            Op::GreaterEqual => ((a as i32) >= b as i32).into(),
            Op::ShiftRight => ((a as i32) >> (b & 31)) as u32,
            _ => return whole(op, a, b).ok_or_else(unknown),
        },
        ScalarKind::Uint | ScalarKind::Bool => return whole(op, a, b).ok_or_else(unknown),
        _ => return Err(unknown()),
    })
}

fn whole(op: Op, a: u32, b: u32) -> Option<u32> {
    Some(match op {
        Op::Add => a.wrapping_add(b),
        Op::Subtract => a.wrapping_sub(b),
        Op::Multiply => a.wrapping_mul(b),
        Op::Divide => a / b,
        Op::Modulo => a % b,
        Op::Equal => (a == b).into(),
        Op::NotEqual => (a != b).into(),
        Op::Less => (a < b).into(),
        Op::LessEqual => (a <= b).into(),
        Op::Greater => (a > b).into(),
        Op::GreaterEqual => (a >= b).into(),
        Op::And | Op::LogicalAnd => a & b,
        Op::InclusiveOr | Op::LogicalOr => a | b,
        Op::ExclusiveOr => a ^ b,
        Op::ShiftLeft => a << (b & 31),
        Op::ShiftRight => a >> (b & 31),
    })
}

/// A function that goes component by component; None where it does not, or is not known.
pub fn by_component(math: Math, kind: ScalarKind, x: [u32; 3]) -> Option<u32> {
    let [a, b, c] = x.map(f);
    Some(match (math, kind) {
        (Math::Abs, ScalarKind::Float) => w(a.abs()),
        (Math::Min, ScalarKind::Float) => w(a.min(b)),
        (Math::Max, ScalarKind::Float) => w(a.max(b)),
        (Math::Min, ScalarKind::Uint) => x[0].min(x[1]),
        (Math::Max, ScalarKind::Uint) => x[0].max(x[1]),
        (Math::Min, ScalarKind::Sint) => (x[0] as i32).min(x[1] as i32) as u32,
        (Math::Max, ScalarKind::Sint) => (x[0] as i32).max(x[1] as i32) as u32,
        (Math::Clamp, ScalarKind::Float) => w(a.max(b).min(c)),
        (Math::Clamp, ScalarKind::Uint) => x[0].max(x[1]).min(x[2]),
        (Math::Floor, ScalarKind::Float) => w(a.floor()),
        (Math::Ceil, ScalarKind::Float) => w(a.ceil()),
        (Math::Exp, ScalarKind::Float) => w(a.exp()),
        (Math::Exp2, ScalarKind::Float) => w(a.exp2()),
        (Math::Log, ScalarKind::Float) => w(a.ln()),
        (Math::Log2, ScalarKind::Float) => w(a.log2()),
        (Math::Sqrt, ScalarKind::Float) => w(a.sqrt()),
        (Math::InverseSqrt, ScalarKind::Float) => w(1.0 / a.sqrt()),
        (Math::Fma, ScalarKind::Float) => w(a.mul_add(b, c)),
        (Math::Mix, ScalarKind::Float) => w(a * (1.0 - c) + b * c),
        _ => return None,
    })
}

/// a . b
pub fn dot(a: &[u32], b: &[u32]) -> u32 {
    w(a.iter().zip(b).map(|(&a, &b)| f(a) * f(b)).sum())
}

/// A product of matrices, column by column: `a` has `rows` rows and `inner` columns, `b` has `inner` rows.
pub fn matrix_product(a: &[u32], b: &[u32], rows: usize, inner: usize) -> Vec<u32> {
    let columns = b.len() / inner;
    let element = |i: usize| {
        let (column, row) = (i / rows, i % rows);
        w((0..inner).map(|k| f(a[k * rows + row]) * f(b[column * inner + k])).sum())
    };
    (0..rows * columns).map(element).collect()
}

/// `x` has columns of `rows`.
pub fn transpose(x: &[u32], rows: usize) -> Vec<u32> {
    let columns = x.len() / rows;
    (0..x.len()).map(|i| x[i % columns * rows + i / columns]).collect()
}

/// A number as one of another kind; `None`: its bits.
pub fn convert(from: ScalarKind, to: ScalarKind, x: u32) -> Option<u32> {
    Some(match (from, to) {
        (ScalarKind::Float, ScalarKind::Uint) => f(x) as u32,
        (ScalarKind::Float, ScalarKind::Sint) => f(x) as i32 as u32,
        (ScalarKind::Uint | ScalarKind::Bool, ScalarKind::Float) => w(x as f32),
        (ScalarKind::Sint, ScalarKind::Float) => w(x as i32 as f32),
        (ScalarKind::Float, ScalarKind::Bool) => (f(x) != 0.0).into(),
        (_, ScalarKind::Bool) => (x != 0).into(),
        (ScalarKind::Float, ScalarKind::Float) => x,
        (ScalarKind::Uint | ScalarKind::Sint | ScalarKind::Bool, ScalarKind::Uint | ScalarKind::Sint) => x,
        _ => return None,
    })
}
