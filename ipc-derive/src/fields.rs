//! The struct that is derived for, and what is refused by its spelling alone.
//!
//! The compiler would refuse most of it too, since the types do not implement `Layout`; the messages here say what to use
//! instead. A type behind an alias is left to the compiler.

use syn::{Data, DeriveInput, Error, GenericArgument, Member, PathArguments, Type};

pub(crate) struct Struct<'a> {
    /// In the order of declaration, which `repr(C)` makes the order of the offsets.
    pub(crate) fields: Vec<(Member, &'a Type)>,
}

impl<'a> Struct<'a> {
    /// The fields of `input`, unless it is something else than a struct with fields and without parameters.
    pub(crate) fn new(input: &'a DeriveInput, derived: &str) -> syn::Result<Self> {
        let refuse = |message: String| Err(Error::new(input.ident.span(), message));
        let data = match &input.data {
            Data::Struct(data) => data,
            Data::Enum(_) => {
                return refuse(format!(
                    "an enum cannot derive `{derived}`: a peer may write a number that is none of its variants; \
                     use a struct with a `u8` or `u32` field and convert it after reading"
                ));
            }
            Data::Union(_) => {
                return refuse(format!(
                    "a union cannot derive `{derived}`: nothing says which of its fields is there; \
                     use a struct, with a `[u8; N]` field for bytes of several meanings"
                ));
            }
        };
        if let Some(parameter) = input.generics.params.first() {
            return Err(Error::new_spanned(
                parameter,
                format!(
                    "a generic type cannot derive `{derived}`: write a struct for each type that is shared"
                ),
            ));
        }
        if data.fields.is_empty() {
            return refuse(format!(
                "`{}` has no fields, so there is nothing to share",
                input.ident
            ));
        }
        Ok(Struct {
            fields: data
                .fields
                .members()
                .zip(data.fields.iter().map(|field| &field.ty))
                .collect(),
        })
    }

    pub(crate) fn check_repr(&self, input: &DeriveInput) -> syn::Result<()> {
        let mut known = false;
        for attr in input
            .attrs
            .iter()
            .filter(|attr| attr.path().is_ident("repr"))
        {
            attr.parse_nested_meta(|meta| {
                if meta.path.is_ident("packed") {
                    return Err(meta.error(
                        "a packed struct cannot derive `Layout`: atomics must be aligned; \
                         remove `packed` and put the fields in an order that leaves no padding",
                    ));
                }
                known |= meta.path.is_ident("C") || meta.path.is_ident("transparent");
                if meta.input.peek(syn::token::Paren) {
                    meta.input.parse::<proc_macro2::Group>()?;
                }
                Ok(())
            })?;
        }
        match known {
            true => Ok(()),
            false => Err(Error::new(
                input.ident.span(),
                format!(
                    "`{}` needs `#[repr(C)]`: without it each compiler may order the fields anew",
                    input.ident
                ),
            )),
        }
    }

    pub(crate) fn check_types(&self) -> syn::Result<()> {
        let mut errors = self
            .fields
            .iter()
            .filter_map(|(_, ty)| check_type(ty).err());
        let Some(mut first) = errors.next() else {
            return Ok(());
        };
        errors.for_each(|error| first.combine(error));
        Err(first)
    }
}

fn check_type(ty: &Type) -> syn::Result<()> {
    let refuse = |message: &str| Err(Error::new_spanned(ty, message));
    match ty {
        Type::Array(array) => check_type(&array.elem),
        Type::Paren(paren) => check_type(&paren.elem),
        Type::Group(group) => check_type(&group.elem),
        Type::Reference(_) | Type::Ptr(_) | Type::BareFn(_) => refuse(
            "an address means nothing in another process: store an offset as `u64`, or the value itself",
        ),
        Type::Tuple(_) => {
            refuse("the order of the fields of a tuple is not fixed: use a `#[repr(C)]` struct")
        }
        Type::Slice(_) => refuse(
            "a slice has no fixed size: use an array and a `u32` field that counts what is used",
        ),
        Type::Path(path) => match path.path.segments.last() {
            Some(last) => match advice(&last.ident.to_string()) {
                Some(message) => refuse(message),
                None => check_arguments(&last.arguments),
            },
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// The types between `<` and `>`: a cell of a `bool` is no better than a `bool`.
fn check_arguments(arguments: &PathArguments) -> syn::Result<()> {
    let PathArguments::AngleBracketed(arguments) = arguments else {
        return Ok(());
    };
    arguments
        .args
        .iter()
        .try_for_each(|argument| match argument {
            GenericArgument::Type(ty) => check_type(ty),
            _ => Ok(()),
        })
}

fn advice(name: &str) -> Option<&'static str> {
    Some(match name {
        "bool" => {
            "a `bool` other than 0 or 1 is undefined behaviour, and a peer may write one: use `u8`"
        }
        "char" => "not every `u32` is a `char`, and a peer may write one that is not: use `u32`",
        "usize" => "the width of `usize` depends on the program: use `u64`",
        "isize" => "the width of `isize` depends on the program: use `i64`",
        "u128" | "i128" => {
            "the alignment of 128-bit integers has changed between compilers: use `[u64; 2]`"
        }
        "AtomicBool" => "an atomic `bool` other than 0 or 1 is undefined behaviour: use `AtomicU8`",
        "AtomicUsize" => "the width of `usize` depends on the program: use `AtomicU64`",
        "AtomicIsize" => "the width of `isize` depends on the program: use `AtomicI64`",
        "AtomicPtr" => {
            "an address means nothing in another process: store an offset in an `AtomicU64`"
        }
        "Option" => {
            "the layout of an `Option` is not fixed: use a value that means none, or a `u8` beside the value"
        }
        "String" | "str" => {
            "the text of a string lies outside the struct: use `[u8; N]`, zeros behind the text"
        }
        "Vec" | "Box" | "Rc" | "Arc" => {
            "what it points to lies in one process alone: use an array, or the value itself"
        }
        _ => return None,
    })
}
