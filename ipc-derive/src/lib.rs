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
    let mut asserts = Vec::new();
    let mut end = quote!(0);
    let mut before = "at the start".to_owned();
    for (member, ty) in &strukt.fields {
        let field_name = member_name(member)?;
        let offset = quote!(::core::mem::offset_of!(#ident, #member));
        // The type's own span, so that the compiler points at a field whose type has no layout.
        fields.push(
            quote_spanned!(ty.span()=> ::ipc_core::layout::Field::new::<#ty>(#field_name, #offset)),
        );
        let message = padding_message(
            &ident.to_string(),
            &format!("between {before} and `{field_name}`"),
        );
        asserts.push(quote!(::core::assert!(#offset == #end, #message);));
        let empty = format!("`{field_name}` of `{ident}` has no bytes: remove it");
        asserts.push(quote!(::core::assert!(::core::mem::size_of::<#ty>() > 0, #empty);));
        end = quote!(#offset + ::core::mem::size_of::<#ty>());
        before = format!("`{field_name}`");
    }
    let message = padding_message(
        &ident.to_string(),
        &format!("after {before}, its last field"),
    );
    asserts.push(quote!(::core::assert!(::core::mem::size_of::<#ident>() == #end, #message);));

    Ok(quote! {
        const _: () = { #(#asserts)* };

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

fn padding_message(ident: &str, place: &str) -> String {
    format!(
        "`{ident}` has padding {place}: put the unused bytes into a field of their own, such as `_pad: [u8; N]` \
         (in a `Shared` type `_pad: [AtomicU8; N]`), or order the fields from the largest to the smallest"
    )
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
