//! Building a library of kernels with the machine's C++ compiler.

use super::HostError;
use crate::backend::cuda::sources::{Options, Source};
use blake2::digest::consts::U16;
use blake2::{Blake2b, Digest};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

/// What stands in for CUDA.
const SHIM: &[(&str, &str)] = &[
    (
        "cuda_shim.h",
        include_str!("../../../../kernels/host/cuda_shim.h"),
    ),
    (
        "fibers.h",
        include_str!("../../../../kernels/host/fibers.h"),
    ),
    (
        "tensor_cores.h",
        include_str!("../../../../kernels/host/tensor_cores.h"),
    ),
];

/// A copy of a library, so that loading it does not give the one that is loaded already. The file is gone
/// when it is loaded.
pub(super) struct Copy(PathBuf);

impl Copy {
    pub(super) fn of(library: &Path) -> Result<Self, HostError> {
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let path = library.with_extension(format!("{}-{number}.so", std::process::id()));
        let copied = fs::copy(library, &path).map_err(in_file(&path));
        let copy = Self(path);
        copied.map(|_| copy)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // At worst a file stays that nobody will load.
        let _ = fs::remove_file(&self.0);
    }
}

static DRAFTS: AtomicU64 = AtomicU64::new(0);

/// The path of a library of these kernels: found beside the program that runs, or built now. It appears
/// there whole or not at all.
pub(super) fn library(
    options: &Options,
    sources: &[Source],
    headers: &[(&str, &str)],
) -> Result<PathBuf, HostError> {
    let compiler = Compiler::find()?;
    let mut flags = compiler.flags();
    flags.extend(options.definitions());

    let mut files: Vec<(&str, &str)> = SHIM.to_vec();
    files.extend(headers);
    files.extend(sources.iter().map(|source| (source.name, source.text)));
    let main = main_file(sources);
    files.push(("main.cpp", &main));

    let mut hash = Blake2b::<U16>::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    part(&compiler.version);
    flags.iter().for_each(|flag| part(flag));
    for (name, text) in &files {
        part(name);
        part(text);
    }
    let digest: String = hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });

    let folder = folder()?;
    let path = folder.join(format!("{digest}.so"));
    if path.exists() {
        return Ok(path);
    }
    // Other processes may be building the same.
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = folder.join(format!("{digest}.{}-{number}", std::process::id()));
    let built = write_files(&draft, &files)
        .and_then(|()| compiler.build(&draft, &flags))
        .and_then(|library| fs::rename(&library, &path).map_err(in_file(&path)));
    // What is left in the draft is of no use, and the outcome is what the caller has to know.
    let _ = fs::remove_dir_all(&draft);
    built.map(|()| path)
}

/// Includes every file and makes a launch function for every kernel.
fn main_file(sources: &[Source]) -> String {
    let mut main = "#include \"cuda_shim.h\"\n".to_owned();
    for source in sources {
        let _ = writeln!(main, "#include \"{}\"", source.name);
    }
    for kernel in sources.iter().flat_map(|source| source.kernels) {
        let _ = writeln!(main, "LAUNCH({kernel})");
    }
    main
}

fn write_files(folder: &Path, files: &[(&str, &str)]) -> Result<(), HostError> {
    fs::create_dir_all(folder).map_err(in_file(folder))?;
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).map_err(in_file(&path))?;
    }
    Ok(())
}

/// Beside the program: in `target` for tests, which is what clears it.
fn folder() -> Result<PathBuf, HostError> {
    let program = std::env::current_exe().map_err(in_file(Path::new("this program")))?;
    let folder = program.parent().unwrap_or(Path::new("."));
    Ok(folder.join("host-kernels"))
}

fn in_file(path: &Path) -> impl Fn(io::Error) -> HostError {
    let path = path.to_owned();
    move |error| HostError::File {
        path: path.clone(),
        error,
    }
}

/// A C++ compiler.
struct Compiler {
    program: String,
    version: String,
}

impl Compiler {
    fn find() -> Result<Self, HostError> {
        let program = std::env::var("CXX")
            .ok()
            .filter(|name| !name.trim().is_empty())
            .unwrap_or_else(|| "c++".to_owned());
        let output = Command::new(&program)
            .arg("--version")
            .output()
            .map_err(|_| HostError::NoCompiler)?;
        if !output.status.success() {
            return Err(HostError::NoCompiler);
        }
        let version = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(Self { program, version })
    }

    fn flags(&self) -> Vec<String> {
        let mut flags: Vec<String> = [
            "-std=c++20",
            "-O2",
            "-fno-fast-math",
            // Contraction would be the compiler's choice; the device compiler gets --fmad=false.
            "-ffp-contract=off",
            "-fPIC",
            // Shared memory of a template would else be one for all libraries that have it.
            "-fvisibility=hidden",
            "-shared",
            // For the device's compiler.
            "-Wno-unknown-pragmas",
        ]
        .map(str::to_owned)
        .into();
        // Without the instruction fmaf is a call into the C library, with the same result.
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("fma") {
            flags.push("-mfma".to_owned());
        }
        flags
    }

    fn build(&self, folder: &Path, flags: &[String]) -> Result<PathBuf, HostError> {
        let library = folder.join("kernels.so");
        let output = Command::new(&self.program)
            .args(flags)
            .arg(folder.join("main.cpp"))
            .arg("-o")
            .arg(&library)
            .output()
            .map_err(|_| HostError::NoCompiler)?;
        if output.status.success() {
            Ok(library)
        } else {
            let log = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(HostError::Rejected(log))
        }
    }
}
