//! Whether two type descriptions have the same SCALE encoding.
//!
//! Names and paths of composite types do not matter: a struct of one field encodes as the field, a
//! tuple as its parts, a bounded vector as a vector. Names and indices of enum variants do.

use scale_info::{form::PortableForm, Field, PortableRegistry, TypeDef, TypeDefPrimitive};
use std::collections::HashSet;

/// Which side writes the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// We encode: every variant of ours must be one of theirs.
    Encode,
    /// They encode: every variant of theirs must be one of ours.
    Decode,
}

/// A type after composites and tuples are laid flat.
#[derive(Debug, PartialEq)]
enum Leaf {
    Primitive(TypeDefPrimitive),
    Sequence(u32),
    Array(u32, u32),
    Variant(u32),
    Compact(u32),
    Bits,
}

impl Leaf {
    fn name(&self) -> String {
        match self {
            Leaf::Primitive(primitive) => format!("{primitive:?}").to_lowercase(),
            Leaf::Sequence(_) => "a vector".into(),
            Leaf::Array(length, _) => format!("an array of {length}"),
            Leaf::Variant(_) => "an enum".into(),
            Leaf::Compact(_) => "a compact integer".into(),
            Leaf::Bits => "a bit sequence".into(),
        }
    }
}

/// Two registries, and the pairs of types already being compared (types may be recursive).
pub(crate) struct Comparison<'a> {
    ours: &'a PortableRegistry,
    theirs: &'a PortableRegistry,
    direction: Direction,
    seen: HashSet<(u32, u32)>,
}

impl<'a> Comparison<'a> {
    pub(crate) fn new(
        ours: &'a PortableRegistry,
        theirs: &'a PortableRegistry,
        direction: Direction,
    ) -> Self {
        Comparison {
            ours,
            theirs,
            direction,
            seen: HashSet::new(),
        }
    }

    /// How type `our` differs from type `their`, if it does.
    pub(crate) fn differs(&mut self, our: u32, their: u32) -> Option<String> {
        if !self.seen.insert((our, their)) {
            return None;
        }
        let (mine, yours) = (flatten(self.ours, our), flatten(self.theirs, their));
        if mine.len() != yours.len() {
            return Some(format!(
                "{} ({} parts here) has {} parts in the runtime",
                name(self.theirs, their),
                mine.len(),
                yours.len()
            ));
        }
        mine.iter()
            .zip(&yours)
            .enumerate()
            .find_map(|(position, (a, b))| {
                self.leaf_differs(a, b).map(|difference| {
                    format!(
                        "part {position} of {}: {difference}",
                        name(self.theirs, their)
                    )
                })
            })
    }

    fn leaf_differs(&mut self, mine: &Leaf, yours: &Leaf) -> Option<String> {
        match (mine, yours) {
            (Leaf::Primitive(a), Leaf::Primitive(b)) if a == b => None,
            (Leaf::Sequence(a), Leaf::Sequence(b)) | (Leaf::Compact(a), Leaf::Compact(b)) => {
                self.differs(*a, *b)
            }
            (Leaf::Array(n, a), Leaf::Array(m, b)) if n == m => self.differs(*a, *b),
            (Leaf::Variant(a), Leaf::Variant(b)) => self.variants_differ(*a, *b),
            (Leaf::Bits, Leaf::Bits) => None,
            _ => Some(format!(
                "{} here, {} in the runtime",
                mine.name(),
                yours.name()
            )),
        }
    }

    fn variants_differ(&mut self, our: u32, their: u32) -> Option<String> {
        let (Some(TypeDef::Variant(mine)), Some(TypeDef::Variant(yours))) = (
            self.ours.resolve(our).map(|ty| &ty.type_def),
            self.theirs.resolve(their).map(|ty| &ty.type_def),
        ) else {
            return Some("a type is missing from its registry".into());
        };
        let required = match self.direction {
            Direction::Encode => &mine.variants,
            Direction::Decode => &yours.variants,
        };
        for variant in required {
            let find = |variants: &'a [scale_info::Variant<PortableForm>]| {
                variants.iter().find(|other| other.index == variant.index)
            };
            let (Some(a), Some(b)) = (find(&mine.variants), find(&yours.variants)) else {
                return Some(format!(
                    "variant {} ({}) exists on one side only",
                    variant.name, variant.index
                ));
            };
            if a.name != b.name {
                return Some(format!(
                    "variant {} is {} here, {} in the runtime",
                    variant.index, a.name, b.name
                ));
            }
            if let Some(difference) = self.fields_differ(&a.fields, &b.fields, false) {
                return Some(format!("variant {}: {difference}", a.name));
            }
        }
        None
    }

    /// How two lists of fields differ; with `names`, also by name.
    pub(crate) fn fields_differ(
        &mut self,
        mine: &[Field<PortableForm>],
        yours: &[Field<PortableForm>],
        names: bool,
    ) -> Option<String> {
        if mine.len() != yours.len() {
            let list = |fields: &[Field<PortableForm>]| {
                fields
                    .iter()
                    .map(|field| field.name.clone().unwrap_or_default())
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            return Some(format!(
                "takes ({}) here, ({}) in the runtime",
                list(mine),
                list(yours)
            ));
        }
        for (a, b) in mine.iter().zip(yours) {
            if names && a.name != b.name {
                return Some(format!(
                    "{} here is {} in the runtime",
                    a.name.as_deref().unwrap_or("_"),
                    b.name.as_deref().unwrap_or("_")
                ));
            }
            if let Some(difference) = self.differs(a.ty.id, b.ty.id) {
                return Some(format!(
                    "{}: {difference}",
                    b.name.as_deref().unwrap_or("_")
                ));
            }
        }
        None
    }
}

fn name(types: &PortableRegistry, id: u32) -> String {
    types
        .resolve(id)
        .and_then(|ty| ty.path.ident())
        .unwrap_or_else(|| format!("type {id}"))
}

fn flatten(types: &PortableRegistry, id: u32) -> Vec<Leaf> {
    let Some(ty) = types.resolve(id) else {
        return Vec::new();
    };
    match &ty.type_def {
        TypeDef::Composite(composite) => composite
            .fields
            .iter()
            .flat_map(|field| flatten(types, field.ty.id))
            .collect(),
        TypeDef::Tuple(tuple) => tuple
            .fields
            .iter()
            .flat_map(|field| flatten(types, field.id))
            .collect(),
        TypeDef::Primitive(primitive) => vec![Leaf::Primitive(primitive.clone())],
        TypeDef::Sequence(sequence) => vec![Leaf::Sequence(sequence.type_param.id)],
        TypeDef::Array(array) => vec![Leaf::Array(array.len, array.type_param.id)],
        TypeDef::Variant(_) => vec![Leaf::Variant(id)],
        TypeDef::Compact(compact) => vec![Leaf::Compact(compact.type_param.id)],
        TypeDef::BitSequence(_) => vec![Leaf::Bits],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scale_info::{MetaType, Registry, TypeInfo};

    fn registry<T: TypeInfo + 'static>() -> (PortableRegistry, u32) {
        let mut registry = Registry::new();
        let id = registry.register_type(&MetaType::new::<T>()).id;
        (registry.into(), id)
    }

    fn differs<A: TypeInfo + 'static, B: TypeInfo + 'static>(
        direction: Direction,
    ) -> Option<String> {
        let ((ours, a), (theirs, b)) = (registry::<A>(), registry::<B>());
        Comparison::new(&ours, &theirs, direction).differs(a, b)
    }

    mod old {
        #[derive(scale_info::TypeInfo)]
        #[allow(dead_code)]
        pub enum State {
            Open,
            Closing { until: u32 },
        }
    }
    mod new {
        #[derive(scale_info::TypeInfo)]
        #[allow(dead_code)]
        pub enum State {
            Open,
            Closing { until: u32 },
            Closed,
        }
    }
    mod odd {
        #[derive(scale_info::TypeInfo)]
        #[allow(dead_code)]
        pub enum State {
            Open,
            Closing { until: u64 },
        }
    }
    #[derive(TypeInfo)]
    #[allow(dead_code)]
    struct Account([u8; 32]);
    #[derive(TypeInfo)]
    #[allow(dead_code)]
    struct List {
        next: Vec<List>,
        value: u32,
    }

    #[test]
    fn equal_encodings_agree_whatever_their_names() {
        assert_eq!(differs::<Account, [u8; 32]>(Direction::Encode), None);
        assert_eq!(
            differs::<(Account, u32), ([u8; 32], u32)>(Direction::Decode),
            None
        );
        assert_eq!(differs::<List, (Vec<List>, u32)>(Direction::Decode), None);
    }

    #[test]
    fn other_widths_lengths_and_orders_differ() {
        assert!(differs::<u32, u64>(Direction::Encode).is_some());
        assert!(differs::<[u8; 32], [u8; 64]>(Direction::Encode).is_some());
        assert!(differs::<(u32, u64), (u64, u32)>(Direction::Encode).is_some());
        assert!(differs::<Vec<u8>, Vec<u16>>(Direction::Decode).is_some());
        assert!(differs::<old::State, odd::State>(Direction::Encode).is_some());
    }

    #[test]
    fn a_new_variant_matters_only_to_who_decodes_it() {
        assert_eq!(differs::<old::State, new::State>(Direction::Encode), None);
        assert!(differs::<old::State, new::State>(Direction::Decode).is_some());
        assert!(differs::<new::State, old::State>(Direction::Encode).is_some());
    }
}
