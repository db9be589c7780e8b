//! What this client needs of a runtime, held against the metadata of the one it meets.

use crate::{
    apis,
    apis::Query,
    calls,
    calls::Call,
    error::Mismatch,
    events,
    events::Event,
    shape::{Comparison, Direction},
};
use scale_info::{MetaType, PortableRegistry, Registry, TypeDef};
use subxt::Metadata;

/// A call, event or runtime API with the types that this client gives it.
#[derive(Clone, Debug)]
pub struct Required {
    kind: Kind,
    group: &'static str,
    name: &'static str,
    arguments: MetaType,
    output: Option<MetaType>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Call,
    Event,
    Query,
}

impl Required {
    /// The call `T`.
    pub fn call<T: Call>() -> Self {
        Required {
            kind: Kind::Call,
            group: T::PALLET,
            name: T::NAME,
            arguments: MetaType::new::<T>(),
            output: None,
        }
    }

    /// The event `T`.
    pub fn event<T: Event>() -> Self {
        Required {
            kind: Kind::Event,
            group: T::PALLET,
            name: T::NAME,
            arguments: MetaType::new::<T>(),
            output: None,
        }
    }

    /// The runtime API method `T`.
    pub fn query<T: Query>() -> Self {
        Required {
            kind: Kind::Query,
            group: T::API,
            name: T::METHOD,
            arguments: MetaType::new::<T>(),
            output: Some(MetaType::new::<T::Output>()),
        }
    }

    fn difference(&self, metadata: &Metadata) -> Option<String> {
        let mut registry = Registry::new();
        let arguments = registry.register_type(&self.arguments).id;
        let output = self
            .output
            .as_ref()
            .map(|output| registry.register_type(output).id);
        let ours: PortableRegistry = registry.into();
        let fields = match ours.resolve(arguments).map(|ty| &ty.type_def) {
            Some(TypeDef::Composite(composite)) => composite.fields.as_slice(),
            _ => &[],
        };
        let theirs = metadata.types();
        match self.kind {
            Kind::Call | Kind::Event => {
                let Some(pallet) = metadata.pallet_by_name(self.group) else {
                    return Some(format!("the runtime has no pallet {}", self.group));
                };
                let (variants, direction) = match self.kind {
                    Kind::Call => (pallet.call_variants(), Direction::Encode),
                    _ => (pallet.event_variants(), Direction::Decode),
                };
                let Some(variant) = variants
                    .unwrap_or_default()
                    .iter()
                    .find(|variant| variant.name == self.name)
                else {
                    return Some("the pallet has none of this name".into());
                };
                Comparison::new(&ours, theirs, direction).fields_differ(
                    fields,
                    &variant.fields,
                    true,
                )
            }
            Kind::Query => {
                let Some(method) = metadata
                    .runtime_api_trait_by_name(self.group)
                    .and_then(|api| api.method_by_name(self.name))
                else {
                    return Some("the runtime has no such API".into());
                };
                let inputs: Vec<_> = method.inputs().collect();
                if inputs.len() != fields.len() {
                    return Some(format!(
                        "takes {} arguments here, {} in the runtime",
                        fields.len(),
                        inputs.len()
                    ));
                }
                let mut comparison = Comparison::new(&ours, theirs, Direction::Encode);
                for (field, input) in fields.iter().zip(&inputs) {
                    if let Some(difference) = comparison.differs(field.ty.id, input.id) {
                        return Some(format!("{}: {difference}", input.name));
                    }
                }
                Comparison::new(&ours, theirs, Direction::Decode)
                    .differs(output?, method.output_ty())
                    .map(|difference| format!("result: {difference}"))
            }
        }
    }
}

/// Everything that this client uses.
pub fn all() -> Vec<Required> {
    [
        calls::balances::required(),
        calls::bonds::required(),
        calls::datanets::required(),
        calls::models::required(),
        calls::payouts::required(),
        calls::settlement::required(),
        calls::workers::required(),
        events::balances::required(),
        events::datanets::required(),
        events::models::required(),
        events::payouts::required(),
        events::settlement::required(),
        events::workers::required(),
        apis::datanets::required(),
        apis::models::required(),
        apis::payouts::required(),
        apis::protocol::required(),
        apis::settlement::required(),
        apis::system::required(),
        apis::workers::required(),
    ]
    .concat()
}

/// All that `metadata` lacks or has in another shape.
pub fn mismatches(metadata: &Metadata) -> Vec<Mismatch> {
    all()
        .iter()
        .filter_map(|required| {
            required.difference(metadata).map(|difference| Mismatch {
                item: format!(
                    "{} {}.{}",
                    match required.kind {
                        Kind::Call => "call",
                        Kind::Event => "event",
                        Kind::Query => "runtime API",
                    },
                    required.group,
                    required.name
                ),
                difference,
            })
        })
        .collect()
}
