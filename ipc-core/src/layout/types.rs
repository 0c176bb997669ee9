//! The layouts of the types that schemas are built from.

use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
};

use super::{Layout, Primitive, Schema};

macro_rules! layout {
    ($($constructor:ident: $($type:ty = $primitive:ident),*;)*) => {$($(
        impl Layout for $type {
            fn schema() -> Schema {
                Schema::$constructor::<$type>(Primitive::$primitive)
            }
        }
    )*)*};
}

layout! {
    primitive: u8 = U8, u16 = U16, u32 = U32, u64 = U64, i8 = I8, i16 = I16, i32 = I32, i64 = I64, f32 = F32, f64 = F64;
    atomic: AtomicU8 = U8, AtomicU16 = U16, AtomicU32 = U32, AtomicU64 = U64;
    atomic: AtomicI8 = I8, AtomicI16 = I16, AtomicI32 = I32, AtomicI64 = I64;
}

impl<T: Layout, const N: usize> Layout for [T; N] {
    fn schema() -> Schema {
        const {
            assert!(
                N > 0,
                "an array of no elements has no place in a layout: remove the field"
            )
        };
        Schema::array::<T>(N)
    }
}
