//! Compiles the runtime to wasm for what is embedded in the node.

fn main() {
    #[cfg(feature = "std")]
    build();
}

#[cfg(all(feature = "std", feature = "metadata-hash"))]
fn build() {
    substrate_wasm_builder::WasmBuilder::init_with_defaults()
        .enable_metadata_hash("OPEN", 12)
        .build();
}

#[cfg(all(feature = "std", not(feature = "metadata-hash")))]
fn build() {
    substrate_wasm_builder::WasmBuilder::build_using_defaults();
}
