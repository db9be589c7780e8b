//! Every kernel compiles to machine code of the GPU it is meant for. Needs NVRTC, not a GPU:
//! `OPENLEDGER_NVRTC=$(scripts/nvrtc)`.

use openledger_engine::backend::cuda::sources::Source;
use openledger_engine::backend::cuda::{
    CompileError, Compiler, CubinCache, Options, Storage, Target, SOURCES,
};

const BF16: Options = Options {
    storage: Storage::Bf16,
    head_dim: 128,
};

fn compiler(cache: Option<CubinCache>) -> Option<Compiler> {
    match Compiler::load(cache) {
        Ok(compiler) => Some(compiler),
        Err(CompileError::Missing) => {
            println!("skipped: no NVRTC");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Whether machine code exports a kernel: its name is in the code's table of strings.
fn exports(cubin: &[u8], kernel: &str) -> bool {
    let section = format!("\0.text.{kernel}\0");
    cubin
        .windows(section.len())
        .any(|window| window == section.as_bytes())
}

#[test]
fn every_kernel_should_compile_for_hopper() {
    let Some(compiler) = compiler(None) else {
        return;
    };
    for (storage, head_dim) in [
        (Storage::F32, 12),
        (Storage::F32, 80),
        (Storage::Bf16, 128),
        (Storage::Bf16, 256),
    ] {
        all_compile(&compiler, &Options { storage, head_dim }, Target::HOPPER);
    }
}

/// A100; A10 and RTX 30; L4 and RTX 40; B200; RTX 50.
#[test]
fn every_kernel_should_compile_for_what_came_before_hopper_and_after() {
    let Some(compiler) = compiler(None) else {
        return;
    };
    let others = [(8, 0), (8, 6), (8, 9), (10, 0), (12, 0)];
    assert!(others.contains(&(Target::OLDEST.major, Target::OLDEST.minor)));
    for (major, minor) in others {
        for (storage, head_dim) in [(Storage::Bf16, 256), (Storage::F32, 80)] {
            let options = Options { storage, head_dim };
            all_compile(&compiler, &options, Target { major, minor });
        }
    }
}

fn all_compile(compiler: &Compiler, options: &Options, target: Target) {
    for source in SOURCES {
        let cubin = compiler
            .compile(source, options, target)
            .unwrap_or_else(|error| panic!("{options:?} {target:?}: {error}"));
        for kernel in source.kernels {
            assert!(exports(&cubin, kernel), "{kernel} of {}", source.name);
        }
    }
}

#[test]
fn a_broken_kernel_should_be_refused_with_its_file_and_line() {
    let Some(compiler) = compiler(None) else {
        return;
    };
    let source = Source {
        name: "broken.cu",
        text:
            "#include \"common.cuh\"\nKERNEL(32) broken(float* out) {\n    out[0] = missing;\n}\n",
        kernels: &["broken"],
    };
    let error = compiler
        .compile(&source, &BF16, Target::HOPPER)
        .unwrap_err();
    let CompileError::Rejected { file, log } = error else {
        panic!("{error}");
    };
    assert_eq!(file, "broken.cu");
    assert!(
        log.contains("broken.cu(3)") && log.contains("missing"),
        "{log}"
    );
}

#[test]
fn a_head_that_does_not_fit_should_be_refused() {
    let Some(compiler) = compiler(None) else {
        return;
    };
    for head_dim in [0, 7, 258] {
        let options = Options {
            storage: Storage::F32,
            head_dim,
        };
        let result = compiler.compile(&SOURCES[0], &options, Target::HOPPER);
        assert!(
            matches!(result, Err(CompileError::Rejected { .. })),
            "{head_dim}"
        );
    }
}

#[test]
fn a_kernel_should_be_compiled_once_for_each_set_of_options() {
    let folder = tempfile::tempdir().unwrap();
    let Some(compiler) = compiler(Some(CubinCache::new(folder.path()))) else {
        return;
    };
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let first = compiler
        .compile(&SOURCES[1], &BF16, Target::HOPPER)
        .unwrap();
    assert_eq!(files(), 1);
    let path = std::fs::read_dir(folder.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let written = path.metadata().unwrap().modified().unwrap();
    let second = compiler
        .compile(&SOURCES[1], &BF16, Target::HOPPER)
        .unwrap();
    assert!(first == second);
    assert_eq!(path.metadata().unwrap().modified().unwrap(), written);
    let other = Options {
        storage: Storage::F32,
        ..BF16
    };
    compiler
        .compile(&SOURCES[1], &other, Target::HOPPER)
        .unwrap();
    assert_eq!(files(), 2);
}
