//! Types as numbers of 32-bit words. Every value is a run of words, its parts one after the other; a bool is a word too.

use naga::{ArraySize, Handle, Module, ScalarKind, Type, TypeInner};

/// Words of a type. Storage layouts with holes (an array of vec3) are refused, so that memory and values have one layout.
pub fn size(module: &Module, ty: Handle<Type>) -> Result<usize, String> {
    size_of(module, &module.types[ty].inner)
}

pub fn size_of(module: &Module, inner: &TypeInner) -> Result<usize, String> {
    match *inner {
        TypeInner::Scalar(scalar) | TypeInner::Atomic(scalar) => match (scalar.kind, scalar.width) {
            (ScalarKind::Bool, _) | (_, 4) => Ok(1),
            _ => Err(format!("a number of {} bytes is not known to the sanitizer", scalar.width)),
        },
        TypeInner::Vector { size, scalar } => Ok(size as usize * size_of(module, &TypeInner::Scalar(scalar))?),
        TypeInner::Matrix { columns, rows, scalar } => {
            Ok(columns as usize * rows as usize * size_of(module, &TypeInner::Scalar(scalar))?)
        }
        TypeInner::Array { base, size: ArraySize::Constant(n), .. } => Ok(n.get() as usize * size(module, base)?),
        TypeInner::Struct { ref members, .. } => members.iter().map(|member| size(module, member.ty)).sum(),
        ref other => Err(format!("the type {other:?} is not known to the sanitizer")),
    }
}

/// A part of a composite: its type, where it begins, how many there are.
pub struct Part {
    pub inner: TypeInner,
    pub words: usize,
    /// None where memory decides.
    pub count: Option<usize>,
}

/// The parts of an array, vector or matrix, all alike.
pub fn parts(module: &Module, inner: &TypeInner) -> Result<Part, String> {
    let part = |inner: TypeInner, count: Option<usize>| {
        let words = size_of(module, &inner)?;
        Ok(Part { inner, words, count })
    };
    match *inner {
        TypeInner::Vector { size, scalar } => part(TypeInner::Scalar(scalar), Some(size as usize)),
        TypeInner::Matrix { columns, rows, scalar } => {
            part(TypeInner::Vector { size: rows, scalar }, Some(columns as usize))
        }
        TypeInner::Array { base, size, stride } => {
            let words = self::size(module, base)?;
            if stride as usize != 4 * words {
                return Err("an array with holes is not known to the sanitizer".into());
            }
            let count = match size {
                ArraySize::Constant(n) => Some(n.get() as usize),
                ArraySize::Dynamic => None,
                ArraySize::Pending(_) => return Err("an array without a size".into()),
            };
            part(module.types[base].inner.clone(), count)
        }
        ref other => Err(format!("{other:?} has no parts to count")),
    }
}

/// A member of a struct, or a part of something else, by a constant index: its type and its first word.
pub fn member(module: &Module, inner: &TypeInner, index: u32) -> Result<(TypeInner, usize, Option<usize>), String> {
    match inner {
        TypeInner::Struct { members, .. } => {
            let before =
                members[..index as usize].iter().map(|member| size(module, member.ty)).sum::<Result<usize, _>>()?;
            Ok((module.types[members[index as usize].ty].inner.clone(), before, Some(members.len())))
        }
        other => {
            let part = parts(module, other)?;
            Ok((part.inner, part.words * index as usize, part.count))
        }
    }
}
