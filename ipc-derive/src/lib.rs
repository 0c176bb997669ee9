//! `#[derive(Layout)]` and `#[derive(Shared)]`: the schema of a type in shared memory, and leave to use it by reference.
//!
//! The traits are documented in `ipc-core`, which exports both macros; code that derives them needs `ipc-core` alone.

mod fields;

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DeriveInput, LitStr, Member};

use fields::Struct;

/// Derives `ipc_core::Layout` for a struct that is `#[repr(C)]` or `#[repr(transparent)]` and has no padding.
///
/// The fields are integers and floats of fixed width, atomics, shared cells, arrays of these and structs that derive
/// `Layout` too. `#[layout(name = "feed.Tick")]` sets the name in the schema, which otherwise is the identifier of the struct.
#[proc_macro_derive(Layout, attributes(layout))]
pub fn derive_layout(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand(input, layout)
}

/// Derives `ipc_core::Shared` for a struct whose fields all are `Shared`: atomics and shared cells.
#[proc_macro_derive(Shared)]
pub fn derive_shared(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand(input, shared)
}

fn expand(
    input: proc_macro::TokenStream,
    derive: fn(&DeriveInput) -> syn::Result<TokenStream>,
) -> proc_macro::TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    derive(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

fn layout(input: &DeriveInput) -> syn::Result<TokenStream> {
    let strukt = Struct::new(input, "Layout")?;
    strukt.check_repr(input)?;
    strukt.check_types()?;
    let ident = &input.ident;
    let name = schema_name(input)?;

    let mut fields = Vec::new();
    let mut checks = Vec::new();
    let mut end = quote!(0);
    let mut before = String::new();
    for (member, ty) in &strukt.fields {
        let field = member_name(member)?;
        let offset = quote!(::core::mem::offset_of!(#ident, #member));
        let size = quote!(::core::mem::size_of::<#ty>());
        // The type's own span, so that the compiler points at a field whose type has no layout.
        fields.push(
            quote_spanned!(ty.span()=> ::ipc_core::layout::Field::new::<#ty>(#field, #offset)),
        );
        checks.push(no_padding(
            quote!(#offset - (#end)),
            &format!("`{ident}` has padding between `{before}` and `{field}`"),
        ));
        let empty = format!("`{field}` of `{ident}` has no bytes: remove it");
        checks.push(quote!(::core::assert!(#size > 0, #empty);));
        end = quote!(#offset + #size);
        before = field;
    }
    let size = quote!(::core::mem::size_of::<#ident>());
    checks.push(no_padding(
        quote!(#size - (#end)),
        &format!("`{ident}` has padding behind `{before}`, its last field"),
    ));

    Ok(quote! {
        const _: () = { #(#checks)* };

        impl ::ipc_core::Layout for #ident {
            fn schema() -> ::ipc_core::layout::Schema {
                ::ipc_core::layout::Schema::structure::<Self>(#name, ::std::vec![#(#fields),*])
            }
        }
    })
}

fn shared(input: &DeriveInput) -> syn::Result<TokenStream> {
    let strukt = Struct::new(input, "Shared")?;
    let ident = &input.ident;
    let checks = strukt
        .fields
        .iter()
        .map(|(_, ty)| quote_spanned!(ty.span()=> is_shared::<#ty>();));
    Ok(quote! {
        const _: () = {
            const fn is_shared<T: ::ipc_core::Shared>() {}
            #(#checks)*
        };

        // SAFETY: the struct has no bytes but those of its fields and its padding; each field vouches for both clauses,
        // as was checked above, and padding has no value.
        unsafe impl ::ipc_core::Shared for #ident {}
    })
}

/// A constant expression that stops the compiler with `finding` unless `gap` is 0, and says how many bytes if they are few.
fn no_padding(gap: TokenStream, finding: &str) -> TokenStream {
    let message = |bytes: &str| {
        format!(
            "{finding}: make it a field, `_pad: [u8; {bytes}]` (in a `Shared` type `_pad: [AtomicU8; {bytes}]`), \
             or order the fields from the largest to the smallest"
        )
    };
    let few = 1..8_usize;
    let messages = few.clone().map(|bytes| message(&bytes.to_string()));
    let other = message("N");
    quote! {
        match #gap {
            0 => {}
            #(#few => ::core::panic!(#messages),)*
            _ => ::core::panic!(#other),
        }
    }
}

/// What `#[layout(name = "…")]` says, else the identifier.
fn schema_name(input: &DeriveInput) -> syn::Result<String> {
    let mut name = None;
    for attr in input
        .attrs
        .iter()
        .filter(|attr| attr.path().is_ident("layout"))
    {
        attr.parse_nested_meta(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("unknown option: expected `name = \"…\"`"));
            }
            let literal: LitStr = meta.value()?.parse()?;
            let value = literal.value();
            let known = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            if value.is_empty() || value.len() > 64 || !value.chars().all(known) {
                return Err(syn::Error::new(
                    literal.span(),
                    "a layout's name is 1 to 64 of A-Z a-z 0-9 _ . -",
                ));
            }
            if name.replace(value).is_some() {
                return Err(meta.error("the name is given twice"));
            }
            Ok(())
        })?;
    }
    match name {
        Some(name) => Ok(name),
        None => ascii_name(&input.ident),
    }
}

fn member_name(member: &Member) -> syn::Result<String> {
    match member {
        Member::Named(ident) => ascii_name(ident),
        Member::Unnamed(index) => Ok(index.index.to_string()),
    }
}

/// The identifier without `r#`. Other languages shall be able to spell it.
fn ascii_name(ident: &syn::Ident) -> syn::Result<String> {
    let name = ident.to_string();
    let name = name.strip_prefix("r#").unwrap_or(&name);
    if !name.is_ascii() || name.len() > 64 {
        return Err(syn::Error::new(
            ident.span(),
            "a name in a layout is at most 64 of A-Z a-z 0-9 _",
        ));
    }
    Ok(name.to_owned())
}
