//! vLLM's requests to load and unload adapters.

use crate::error::ApiError;
use crate::fields::Fields;
use crate::limits::NAME_BYTES;

/// `POST /v1/load_lora_adapter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadAdapter {
    /// The name that requests ask for it by.
    pub name: String,
    /// Its folder.
    pub path: String,
    /// Whether it may take the place of another of that name.
    pub in_place: bool,
}

/// `POST /v1/unload_lora_adapter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnloadAdapter {
    /// Its name.
    pub name: String,
}

impl LoadAdapter {
    /// Reads a body.
    ///
    /// # Errors
    /// [`ApiError`] that names the field which is missing, wrong or not understood.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let name = adapter_name(&mut fields)?;
        let path = fields
            .string("lora_path")?
            .filter(|path| !path.is_empty() && path.len() <= 4096 && !path.contains('\0'))
            .ok_or_else(|| {
                ApiError::value("lora_path", "`lora_path` must be the adapter's folder.")
            })?;
        let in_place = fields.flag("load_inplace")?;
        if fields.string("base_model_name")?.is_some() {
            return Err(ApiError::unsupported("base_model_name"));
        }
        fields.finish()?;
        Ok(LoadAdapter {
            name,
            path,
            in_place,
        })
    }
}

impl UnloadAdapter {
    /// Reads a body.
    ///
    /// # Errors
    /// [`ApiError`] that names the field which is missing, wrong or not understood.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let name = adapter_name(&mut fields)?;
        // vLLM's own number of an adapter; the name says which.
        fields.pass_over(&["lora_int_id"]);
        fields.finish()?;
        Ok(UnloadAdapter { name })
    }
}

fn adapter_name(fields: &mut Fields) -> Result<String, ApiError> {
    let name = fields.name("lora_name")?;
    name.filter(|name| is_name(name)).ok_or_else(|| {
        ApiError::value(
            "lora_name",
            format!("`lora_name` must be a name of 1 to {NAME_BYTES} printable characters without spaces."),
        )
    })
}

/// Whether a model may have this name: it is printed, and asked for in paths.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control();
    !name.is_empty() && name.len() <= NAME_BYTES && name.chars().all(plain)
}
