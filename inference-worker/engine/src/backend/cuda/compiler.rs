//! Compiling the kernels at run time, with NVRTC.
//!
//! NVRTC needs no GPU, so the kernels are compiled in tests wherever the library is found: at the path
//! in `OPENLEDGER_NVRTC`, or on the loader's search path.

use super::cubins::{CubinCache, CubinKey};
use super::sources::{Options, Source, HEADERS};
use cudarc::nvrtc::result::NvrtcError;
use cudarc::nvrtc::sys;
use libloading::Library;
use std::ffi::{c_char, c_int, CString, NulError};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::OnceLock;
use thiserror::Error;

/// Names the library's file.
pub const LIBRARY_VARIABLE: &str = "OPENLEDGER_NVRTC";

/// Why kernels were not compiled.
#[derive(Debug, Error)]
pub enum CompileError {
    /// The library that [`LIBRARY_VARIABLE`] names cannot be loaded.
    #[error("OPENLEDGER_NVRTC names {path}, which cannot be loaded: {reason}")]
    Unloadable {
        /// The file.
        path: PathBuf,
        /// What the loader says.
        reason: String,
    },
    /// The library is nowhere on the search path.
    #[error(
        "no NVRTC: put libnvrtc.so.13 on the library search path or its path in OPENLEDGER_NVRTC"
    )]
    Missing,
    /// The library is of an age that does not fit.
    #[error("NVRTC {major}.{minor} is too old; 13.0 or later is needed")]
    TooOld {
        /// Its version.
        major: i32,
        /// Its version.
        minor: i32,
    },
    /// The text of a file is wrong.
    #[error("{file} does not compile:\n{log}")]
    Rejected {
        /// The file.
        file: &'static str,
        /// What the compiler says.
        log: String,
    },
    /// A text or an option has a zero byte.
    #[error("a zero byte in {0}")]
    ZeroByte(&'static str),
    /// The library failed otherwise.
    #[error("NVRTC: {0}")]
    Library(#[from] NvrtcError),
}

/// The architecture that is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Compute capability.
    pub major: u32,
    /// Compute capability.
    pub minor: u32,
}

impl Target {
    /// The first whose tensor cores take BF16 and whose copies to shared memory may be waited for: A100.
    pub const OLDEST: Self = Self { major: 8, minor: 0 };

    /// H100 and H200.
    pub const HOPPER: Self = Self { major: 9, minor: 0 };
}

/// NVRTC, loaded.
#[derive(Clone, Debug)]
pub struct Compiler {
    version: (i32, i32),
    cache: Option<CubinCache>,
}

impl Compiler {
    /// Loads the library. With a cache, what was compiled before is not compiled again.
    ///
    /// # Errors
    /// When there is no library, or none that fits.
    pub fn load(cache: Option<CubinCache>) -> Result<Self, CompileError> {
        load_library()?;
        let (mut major, mut minor): (c_int, c_int) = (0, 0);
        // SAFETY: the library is loaded, and both places are ours.
        unsafe { sys::nvrtcVersion(&mut major, &mut minor) }.result()?;
        if major < 13 {
            return Err(CompileError::TooOld { major, minor });
        }
        Ok(Self {
            version: (major, minor),
            cache,
        })
    }

    /// Version of the library.
    pub fn version(&self) -> (i32, i32) {
        self.version
    }

    /// Compiles a file to machine code of the target.
    ///
    /// # Errors
    /// When the text is wrong or the library fails. A cache that cannot be written to is no error.
    pub fn compile(
        &self,
        source: &Source,
        options: &Options,
        target: Target,
    ) -> Result<Vec<u8>, CompileError> {
        let mut flags = vec![
            format!("--gpu-architecture=sm_{}{}", target.major, target.minor),
            "--std=c++17".to_owned(),
            // Contraction would be the compiler's choice, and the bits with it.
            "--fmad=false".to_owned(),
        ];
        flags.extend(options.definitions());

        let key = self.key(source, &flags);
        if let Some(cubin) = self.cache.as_ref().and_then(|cache| cache.get(&key)) {
            return Ok(cubin);
        }
        let cubin = Program::new(source)?.compile(source.name, &flags)?;
        if let Some(Err(error)) = self.cache.as_ref().map(|cache| cache.put(&key, &cubin)) {
            tracing::warn!(%error, "compiled kernels are not kept");
        }
        Ok(cubin)
    }

    fn key(&self, source: &Source, flags: &[String]) -> CubinKey {
        let version = format!("{}.{}", self.version.0, self.version.1);
        let mut parts = vec![
            version.as_bytes(),
            source.name.as_bytes(),
            source.text.as_bytes(),
        ];
        for (name, text) in HEADERS {
            parts.extend([name.as_bytes(), text.as_bytes()]);
        }
        parts.extend(flags.iter().map(|flag| flag.as_bytes()));
        CubinKey::new(parts)
    }
}

/// Loads NVRTC once. cudarc looks for the library by its bare name and panics without it; a library that
/// is already loaded from a path answers to its name. So do the built-ins beside it, which NVRTC itself
/// looks for by name when it compiles.
fn load_library() -> Result<(), CompileError> {
    static NAMED: OnceLock<Vec<Library>> = OnceLock::new();
    if let Some(path) = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()) {
        if NAMED.get().is_none() {
            let path = PathBuf::from(path);
            let libraries = load_named(&path).map_err(|error| {
                let reason = error.to_string();
                CompileError::Unloadable { path, reason }
            })?;
            // Another thread's copies of the same libraries are as good.
            let _ = NAMED.set(libraries);
        }
    }
    // SAFETY: the initialisers of a library of NVRTC's name run here.
    if unsafe { sys::is_culib_present() } {
        Ok(())
    } else {
        Err(CompileError::Missing)
    }
}

/// The library at this path, and the built-ins in its folder.
fn load_named(path: &Path) -> Result<Vec<Library>, libloading::Error> {
    // SAFETY: the initialisers of the library that the operator named run here.
    let mut libraries = vec![unsafe { Library::new(path) }?];
    let beside = path.parent().and_then(|folder| folder.read_dir().ok());
    for entry in beside.into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("libnvrtc-builtins.so") {
            // SAFETY: as above, for a part of the same library.
            libraries.push(unsafe { Library::new(entry.path()) }?);
        }
    }
    Ok(libraries)
}

fn zero_byte(what: &'static str) -> impl Fn(NulError) -> CompileError {
    move |_| CompileError::ZeroByte(what)
}

/// A text handed to the library.
struct Program(sys::nvrtcProgram);

impl Program {
    fn new(source: &Source) -> Result<Self, CompileError> {
        let text = CString::new(source.text).map_err(zero_byte(source.name))?;
        let name = CString::new(source.name).map_err(zero_byte(source.name))?;
        let mut names = Vec::with_capacity(HEADERS.len());
        let mut texts = Vec::with_capacity(HEADERS.len());
        for (name, text) in HEADERS {
            names.push(CString::new(*name).map_err(zero_byte(name))?);
            texts.push(CString::new(*text).map_err(zero_byte(name))?);
        }
        let names: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let texts: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
        let mut program = ptr::null_mut();
        // SAFETY: all strings end with a zero and live through the call, which copies them; both lists
        // have as many entries as there are headers.
        unsafe {
            sys::nvrtcCreateProgram(
                &mut program,
                text.as_ptr(),
                name.as_ptr(),
                HEADERS.len() as c_int,
                texts.as_ptr(),
                names.as_ptr(),
            )
        }
        .result()?;
        Ok(Self(program))
    }

    fn compile(&self, file: &'static str, flags: &[String]) -> Result<Vec<u8>, CompileError> {
        let flags: Vec<CString> = flags
            .iter()
            .map(|flag| CString::new(flag.as_str()).map_err(zero_byte("an option")))
            .collect::<Result<_, _>>()?;
        let flags: Vec<*const c_char> = flags.iter().map(|flag| flag.as_ptr()).collect();
        // SAFETY: the program is alive, and so are the options.
        let result =
            unsafe { sys::nvrtcCompileProgram(self.0, flags.len() as c_int, flags.as_ptr()) };
        if result == sys::nvrtcResult::NVRTC_ERROR_COMPILATION {
            let log = self.log()?;
            return Err(CompileError::Rejected { file, log });
        }
        result.result()?;
        let mut size = 0;
        // SAFETY: the program is alive and compiled; the buffer is of the size that the library asks for.
        unsafe {
            sys::nvrtcGetCUBINSize(self.0, &mut size).result()?;
            let mut cubin = vec![0u8; size];
            sys::nvrtcGetCUBIN(self.0, cubin.as_mut_ptr().cast()).result()?;
            Ok(cubin)
        }
    }

    fn log(&self) -> Result<String, CompileError> {
        let mut size = 0;
        // SAFETY: the program is alive; the buffer is of the size that the library asks for.
        let mut log = unsafe {
            sys::nvrtcGetProgramLogSize(self.0, &mut size).result()?;
            let mut log = vec![0u8; size];
            sys::nvrtcGetProgramLog(self.0, log.as_mut_ptr().cast()).result()?;
            log
        };
        log.truncate(log.iter().position(|byte| *byte == 0).unwrap_or(log.len()));
        Ok(String::from_utf8_lossy(&log).into_owned())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program is alive and not used again. A failure would leave memory behind, no more.
        let _ = unsafe { sys::nvrtcDestroyProgram(&mut self.0) };
    }
}
