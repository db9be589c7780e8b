//! The self-test of GPUs, run on the CPU: that it finds what is right right, and all its parts end.

use openledger_engine::backend::cuda::device::host::HostDevice;
use openledger_engine::backend::cuda::device::Device;
use openledger_engine::backend::cuda::host::{HostError, HostKernels};
use openledger_engine::backend::cuda::selftest::report::{Finding, Report};
use openledger_engine::backend::cuda::selftest::scale::Scale;
use openledger_engine::backend::cuda::selftest::speed::Measurement;
use openledger_engine::backend::cuda::selftest::stages::{Plan, Stage};
use openledger_engine::backend::cuda::selftest::whole::{run, Ended, InProcess, Runner};
use openledger_engine::backend::cuda::selftest::Extent;
use openledger_engine::backend::cuda::{Options, Storage};
use openledger_model::ModelConfig;
use std::sync::Arc;
use std::time::Duration;

const OPTIONS: Options = Options {
    storage: Storage::F32,
    head_dim: 16,
};

/// Small, and without a library; none without a C++ compiler.
fn plan() -> Option<Plan> {
    if let Err(HostError::NoCompiler) = HostKernels::load(&OPTIONS) {
        println!("skipped: no C++ compiler");
        return None;
    }
    let full = Scale::llama_8b();
    let scale = Scale {
        config: ModelConfig {
            vocab_size: 64,
            hidden_size: 32,
            intermediate_size: 48,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 4,
            head_dim: 16,
            ..full.config.clone()
        },
        storage: Storage::F32,
        deterministic: true,
        context: 20,
        batches: vec![1, 2],
        adapters: 2,
        repeats: 2,
        bandwidth_bytes: 1 << 20,
    };
    Some(Plan {
        extent: Extent::Small,
        heads: vec![OPTIONS],
        library: false,
        speed: Some(scale),
    })
}

fn devices(count: usize) -> Vec<Arc<dyn Device>> {
    (0..count)
        .map(|_| Arc::new(HostDevice::new(1 << 30)) as _)
        .collect()
}

/// Runs stages on so many devices in this process.
fn report(plan: &Plan, stages: &[Stage], count: usize) -> Report {
    report_of(plan, stages, &devices(count))
}

fn report_of(plan: &Plan, stages: &[Stage], devices: &[Arc<dyn Device>]) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let mut report = Report::new(devices[0].facts().clone(), devices.len());
    let mut runner = InProcess {
        devices,
        plan,
        folder: folder.path(),
    };
    run(
        &mut report,
        stages,
        None,
        &mut runner,
        &mut |_, stage, finding| {
            println!("{stage}: {finding}");
        },
    );
    println!("{report}");
    report
}

fn figures(report: &Report, part: &str) -> usize {
    let named = report.figures.iter().filter(|f| f.name.contains(part));
    named.count()
}

#[test]
fn the_self_test_should_pass_on_the_cpu_and_measure_all_that_it_names() {
    let Some(plan) = plan() else {
        return;
    };
    let report = report(&plan, &plan.stages(), 1);
    assert!(report.passed() && report.is_tested());
    assert_eq!(report.compiled.len(), 1);
    assert!(report.kernels.len() > 20 && report.goldens.len() == 8);
    for (part, count) in [
        ("bandwidth of the device", 1),
        ("bytes read per second / bandwidth", 2),
        ("all linear / base alone", 2),
        ("q,k,v,o / base alone", 1),
        ("host memory to device", 2),
        ("files to device", 1),
        ("p99 of a step", 1),
        ("bytes of its pages", 2),
        ("deterministic mode / usual mode", 2),
    ] {
        assert_eq!(figures(&report, part), count, "{part}");
    }
    assert!(report
        .figures
        .iter()
        .all(|f| f.achieved.is_finite() && f.achieved > 0.0));
    assert!(report.figures.iter().all(|f| f.layers
        == match f.name.as_str() {
            name if name.starts_with("bandwidth of the device") => None,
            name if name.contains("deterministic mode /") => Some((1, 2)),
            _ => Some((2, 2)),
        }));
    for stage in ["ranks-sums", "ranks-models", "ranks-speed"] {
        let note = format!("{stage}: skipped: one device");
        assert!(report.notes.contains(&note), "{:?}", report.notes);
    }
    let json: serde_json::Value = serde_json::to_value(&report).unwrap();
    assert_eq!(json["device"]["name"], "cpu with CUDA kernels");
    assert_eq!(
        json["figures"].as_array().unwrap().len(),
        report.figures.len()
    );
    assert_eq!(
        json["stages"].as_array().unwrap().len(),
        plan.stages().len()
    );
}

#[test]
fn several_devices_should_add_up_rightly_and_compute_as_one_does() {
    let Some(plan) = plan() else {
        return;
    };
    let stages: Vec<Stage> = plan.stages().into_iter().filter(Stage::is_ranked).collect();
    let report = report(&plan, &stages, 4);
    assert!(report.passed());
    // Two groups in two storages; of the models, a head of keys can be divided by two at most, and of the
    // random one by four.
    let parts = |part: &str| {
        let named = report.ranks.iter().filter(|o| o.part.contains(part));
        named.count()
    };
    assert_eq!((parts("sums over 2"), parts("sums over 4")), (2, 2));
    assert_eq!((parts(", 2 ranks"), parts(", 4 ranks")), (8, 2));
    let sums = report.ranks.iter().filter(|o| o.part.starts_with("sums"));
    for outcome in sums {
        let by = "sums of threads of this process: ";
        assert!(outcome.found.starts_with(by), "{}", outcome.found);
    }
    let skipped = |note: &&String| note.contains("qwen3, 2 ranks") && note.contains("skipped");
    assert_eq!(report.notes.iter().filter(skipped).count(), 2);
    for ranks in [2, 4] {
        for (part, count) in [
            (format!("{ranks} ranks / one device"), 2),
            (format!("{ranks} ranks: sums of a layer"), 2),
            (format!("{ranks} ranks: bandwidth of a large sum"), 1),
        ] {
            assert_eq!(figures(&report, &part), count, "{part}");
        }
        let by = format!("{ranks} ranks add up by sums of threads of this process");
        assert!(report.notes.contains(&by), "{:?}", report.notes);
    }
}

#[test]
fn figures_of_a_model_that_was_shortened_should_say_so_in_every_stage() {
    let Some(mut plan) = plan() else {
        return;
    };
    let scale = plan.speed.as_mut().unwrap();
    // Layers that are most of what the model takes, and room for one of the two.
    scale.config.intermediate_size = 4096;
    let memory = scale.bytes();
    let devices: Vec<Arc<dyn Device>> = (0..2)
        .map(|_| Arc::new(HostDevice::new(memory)) as _)
        .collect();
    let stages = [
        Stage::Speed(Measurement::Decode),
        Stage::Speed(Measurement::Residency),
        Stage::RankedSpeed,
    ];
    let report = report_of(&plan, &stages, &devices);
    assert!(report.passed());
    for stage in ["decode", "residency", "2 ranks"] {
        let begin = format!("{stage}: speed is of 1 of 2 layers");
        let notes = report.notes.iter().filter(|n| n.starts_with(&begin));
        assert_eq!(notes.count(), 1, "{stage}: {:?}", report.notes);
    }
    for part in ["base decode", "that fit beside", "2 ranks / one device"] {
        assert!(figures(&report, part) > 0, "{part}");
        let figures = report.figures.iter().filter(|f| f.name.contains(part));
        for figure in figures {
            assert_eq!(figure.layers, Some((1, 2)), "{}", figure.name);
            assert!(figure.to_string().ends_with("(1 of 2 layers)"), "{figure}");
        }
    }
    let sums = report.figures.iter().filter(|f| f.name.contains("sum"));
    assert!(sums.clone().count() > 0 && sums.clone().all(|f| f.layers.is_none()));
}

/// Tells and ends as it is told to, whatever the stage.
struct Scripted(Vec<Ended>, Vec<usize>);

impl Runner for Scripted {
    fn run(
        &mut self,
        _: &Stage,
        first: usize,
        _: Option<Duration>,
        found: &mut dyn FnMut(Finding),
    ) -> Ended {
        self.1.push(first);
        found(Finding::Begins {
            part: first,
            name: format!("part {first}"),
        });
        self.0.remove(0)
    }
}

fn scripted(ends: Vec<Ended>, stages: usize, budget: Option<Duration>) -> (Report, Vec<usize>) {
    let facts = HostDevice::new(0).facts().clone();
    let mut report = Report::new(facts, 1);
    let mut runner = Scripted(ends, Vec::new());
    let stages = vec![Stage::Compile; stages];
    run(&mut report, &stages, budget, &mut runner, &mut |_, _, _| ());
    assert!(runner.0.is_empty());
    (report, runner.1)
}

#[test]
fn a_stage_that_breaks_off_should_go_on_after_the_part_and_the_next_stage_should_run() {
    let broken = |part| Ended::Broken {
        part,
        reason: "an illegal address".to_owned(),
    };
    let ends = vec![broken(Some(0)), broken(Some(3)), Ended::Done, Ended::Done];
    let (report, firsts) = scripted(ends, 2, None);
    assert_eq!(firsts, [0, 1, 4, 0]);
    assert!(!report.passed());
    let states: Vec<_> = report.stages.iter().map(|stage| stage.state).collect();
    assert_eq!(states, ["done", "done"]);
    let parts: Vec<_> = report.broken.iter().map(|o| o.part.as_str()).collect();
    assert_eq!(parts, ["compile: part 0", "compile: part 1"]);
    // What does not even begin, or gets no further, is not tried for ever.
    let (report, _) = scripted(vec![broken(None), Ended::Done], 2, None);
    assert_eq!(report.stages[0].state, "broken");
    let (report, firsts) = scripted(vec![broken(Some(1)), broken(Some(1))], 1, None);
    assert_eq!((report.stages[0].state, firsts), ("broken", vec![0, 2]));
}

#[test]
fn stages_for_which_no_time_is_left_should_be_named_and_not_fail() {
    let (report, firsts) = scripted(Vec::new(), 2, Some(Duration::ZERO));
    assert!(firsts.is_empty() && report.passed());
    assert!(!report.is_tested());
    assert_eq!(report.notes, ["compile: skipped: no time was left"; 2]);
    let (report, _) = scripted(vec![Ended::Stopped], 1, Some(Duration::from_secs(60)));
    assert!(report.passed());
    assert_eq!(
        report.notes,
        ["compile: part 0: stopped: its time was over"]
    );
}
