use super::arrivals::poisson;
use super::choice::Chooser;
use super::drive::{drive, Outcome, Record};
use super::fleet::{self, Adapted, Sites};
use super::measured::Measured;
use super::percentiles::{median, quantile, Percentiles};
use super::ratio::{ratio, Turns};
use super::rounds::{RoundRequest, Rounds};
use super::sweep;
use super::*;
use crate::adapters::AdapterId;
use crate::engine::{Engine, EngineHandle};
use crate::options::EngineOptions;
use crate::request::Request;
use crate::stats::EngineStats;
use openledger_model::{ModelConfig, StoredType, Weights};
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

fn engine(options: EngineOptions) -> EngineHandle {
    let config = ModelConfig {
        max_position_embeddings: 64,
        ..crate::testing::config()
    };
    let weights = Weights::random(&config, 1).unwrap();
    Engine::start(&config, weights, options).unwrap()
}

fn members(dir: &Path, engine: &EngineHandle, count: usize) -> Vec<fleet::Member> {
    let adapted = Adapted {
        rank: 2,
        sites: Sites::AllLinear,
    };
    let members = fleet::write(dir, engine.config(), adapted, 0..count, 1).unwrap();
    members.iter().for_each(|m| m.register(engine).unwrap());
    members
}

fn small(pace: Pace, start: Start) -> Workload {
    Workload {
        pace,
        requests: 24,
        distinct: 4,
        registered: 6,
        base_share: 0.25,
        prompt: Lengths { min: 2, max: 9 },
        output: Lengths::exactly(4),
        start,
        repeats: 2,
        ..Workload::default()
    }
}

#[test]
fn percentiles_should_lie_between_the_values_around_them() {
    let values: Vec<f64> = (1..=101).rev().map(f64::from).collect();
    let spread = Percentiles::of(values);
    assert_eq!((spread.count, spread.mean, spread.max), (101, 51.0, 101.0));
    assert_eq!((spread.p50, spread.p90, spread.p99), (51.0, 91.0, 100.0));
    assert_eq!(quantile(&[1.0, 2.0], 0.25), 1.25);
    assert_eq!(Percentiles::of(Vec::new()), Percentiles::default());
    assert_eq!(Percentiles::of(vec![3.0]).p99, 3.0);
}

#[test]
fn the_median_should_not_be_moved_by_one_outlier() {
    assert_eq!(median(&[1.0, 100.0, 2.0]), 2.0);
    assert_eq!(median(&[1.0, 2.0, 3.0, 100.0]), 2.5);
    assert!(median(&[]).is_nan());
}

#[test]
fn zipf_should_ask_for_adapters_in_proportion_to_their_rank() {
    const DRAWS: usize = 200_000;
    let counts = |choice| {
        let chooser = Chooser::new(choice, 10).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut counts = [0usize; 10];
        (0..DRAWS).for_each(|_| counts[chooser.draw(&mut rng)] += 1);
        counts
    };
    let harmonic: f64 = (1..=10).map(|k| 1.0 / f64::from(k)).sum();
    for (k, count) in counts(Choice::Zipf(1.0)).into_iter().enumerate() {
        let expected = DRAWS as f64 / (k + 1) as f64 / harmonic;
        // Five standard deviations.
        assert!(
            (count as f64 - expected).abs() < 5.0 * expected.sqrt(),
            "{k}: {count}"
        );
    }
    for count in counts(Choice::Uniform) {
        assert!((count as f64 - 20_000.0).abs() < 5.0 * 20_000f64.sqrt());
    }
    for choice in [Choice::Zipf(-1.0), Choice::Zipf(f64::NAN)] {
        assert!(Chooser::new(choice, 10).is_err());
    }
    assert!(Chooser::new(Choice::Uniform, 0).is_err());
}

#[test]
fn poisson_arrivals_should_have_gaps_of_exponential_length() {
    const COUNT: usize = 100_000;
    let times = poisson(50.0, COUNT, &mut ChaCha8Rng::seed_from_u64(4)).unwrap();
    let mut gaps = vec![times[0].as_secs_f64()];
    gaps.extend(times.windows(2).map(|t| (t[1] - t[0]).as_secs_f64()));
    let mean = gaps.iter().sum::<f64>() / COUNT as f64;
    let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / COUNT as f64;
    assert!((mean * 50.0 - 1.0).abs() < 0.02, "mean {mean}");
    // An exponential's deviation is its mean; evenly spaced or uniform gaps have less.
    assert!(
        (variance.sqrt() * 50.0 - 1.0).abs() < 0.03,
        "deviation {}",
        variance.sqrt()
    );
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(poisson(rate, 1, &mut ChaCha8Rng::seed_from_u64(4)).is_err());
    }
}

#[test]
fn a_plan_should_be_the_same_for_the_same_seed_and_run_alone() {
    let workload = small(Pace::Open { rate: 5.0 }, Start::Warm);
    let plan = workload.plan(0, 100).unwrap();
    assert_eq!(plan, workload.plan(0, 100).unwrap());
    assert_ne!(plan, workload.plan(1, 100).unwrap());
    assert!(plan.iter().any(|a| a.adapter.is_none()));
    assert!(plan.iter().any(|a| a.adapter.is_some()));
    // What is asked for does not hang on when.
    let closed = Workload {
        pace: Pace::Closed { clients: 3 },
        ..workload
    };
    for (open, closed) in plan.iter().zip(closed.plan(0, 100).unwrap()) {
        assert_eq!(
            (open.adapter, &open.prompt),
            (closed.adapter, &closed.prompt)
        );
        assert_eq!(closed.due, None);
    }
}

#[test]
fn a_workload_without_a_meaning_should_be_refused() {
    let fine = || small(Pace::Closed { clients: 2 }, Start::Warm);
    fine().validate(64).unwrap();
    let wrong: [fn(&mut Workload); 8] = [
        |w| w.requests = 0,
        |w| w.repeats = 0,
        |w| w.pace = Pace::Closed { clients: 0 },
        |w| w.registered = 3,
        |w| w.base_share = 1.5,
        |w| w.distinct = 0,
        |w| w.output = Lengths { min: 0, max: 4 },
        |w| w.prompt = Lengths::exactly(61),
    ];
    for wrong in wrong {
        let mut workload = fine();
        wrong(&mut workload);
        assert!(workload.validate(64).is_err(), "{workload:?}");
    }
}

#[test]
fn time_that_a_request_was_sent_late_should_count_as_waiting() {
    let due = Instant::now();
    let at = |ms: u64| due + Duration::from_millis(ms);
    let record = |outcome| Record {
        due,
        sent: at(70),
        tokens: vec![at(100), at(110), at(140)],
        prompt: 5,
        adapter: false,
        outcome,
    };
    let refused = Record {
        tokens: Vec::new(),
        ..record(Outcome::Refused)
    };
    let stats = EngineStats::default();
    let records = [record(Outcome::Finished), refused];
    let measured = Measured::of(&records, Duration::from_millis(200), &stats, &stats);
    assert_eq!(measured.first_token.p50, 100.0, "not 30");
    assert_eq!(measured.end_to_end.p50, 140.0);
    assert_eq!(measured.lateness.p50, 70.0);
    assert_eq!(
        (measured.inter_token.count, measured.inter_token.max),
        (2, 30.0)
    );
    assert_eq!(measured.inter_token_by_request.p50, 20.0);
    assert_eq!((measured.finished, measured.refused), (1.0, 1.0));
    assert_eq!(measured.output_tokens_per_second, 15.0);
    assert_eq!(measured.total_tokens_per_second, 40.0);
}

#[test]
fn an_open_loop_should_send_while_the_server_answers_nobody() {
    let engine = engine(EngineOptions {
        threads: Some(1),
        max_requests: 3,
        ..EngineOptions::default()
    });
    // The engine stands still until all have been sent: the first of them is held by its stop check.
    let (resume, resumed) = std::sync::mpsc::channel::<()>();
    let mut blocking = Request::new(vec![1, 2], 1);
    blocking.stop = Some(Box::new(move |_| {
        let _ = resumed.recv();
        false
    }));
    let stream = engine.submit(blocking).unwrap();
    let workload = small(Pace::Open { rate: 2_000.0 }, Start::Warm);
    let workload = Workload {
        base_share: 1.0,
        ..workload
    };
    let plan = workload.plan(0, 8).unwrap();
    let release = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(resume);
    });
    let (records, _) = drive(&engine, workload.pace, &plan, &[], 0).unwrap();
    release.join().unwrap();
    stream.blocking_collect().unwrap().1.unwrap();
    // All were sent, though no more than two fitted the queue beside the one that held it: a closed loop
    // would have waited for room.
    let refused = records.iter().filter(|r| r.outcome == Outcome::Refused);
    assert_eq!((records.len(), refused.count()), (24, 22));
}

#[test]
fn each_pace_and_start_should_measure_every_request() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(EngineOptions {
        threads: Some(1),
        ..EngineOptions::default()
    });
    let members = members(dir.path(), &engine, 6);
    let workloads = [
        small(Pace::Closed { clients: 3 }, Start::Warm),
        small(Pace::Open { rate: 2_000.0 }, Start::Warm),
        small(Pace::Closed { clients: 3 }, Start::Cold),
    ];
    let points = sweep::run(&engine, &workloads, &members, |_| {}).unwrap();
    for point in &points {
        assert_eq!(point.runs.len(), 2);
        for run in &point.runs {
            assert_eq!((run.finished, run.refused, run.failed), (24.0, 0.0, 0.0));
            assert_eq!(run.first_token.count, 24);
            assert_eq!(run.inter_token.count, 24 * 3);
            assert!(run.resident.device_bytes > 0.0);
            let tiers = run.tiers;
            let all = tiers.device_hit_rate + tiers.host_hit_rate + tiers.source_rate;
            assert!((all - 1.0).abs() < 1e-9, "{tiers:?}");
        }
    }
    let tiers: Vec<_> = points.iter().map(|p| &p.runs[1].tiers).collect();
    assert_eq!((tiers[0].reads, tiers[0].device_hit_rate), (0.0, 1.0));
    assert_eq!(tiers[2].reads, 4.0, "a cold run reads each adapter once");
    assert!(tiers[2].source_rate > 0.0);
    let shown = points[0].to_string();
    assert!(
        shown.contains("3 clients, 24 requests of 2-9 + 4 tokens"),
        "{shown}"
    );
}

#[test]
fn what_the_bench_writes_should_be_the_same_for_the_same_seed() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = engine(EngineOptions::default());
    let ids =
        |dir: &Path| -> Vec<AdapterId> { members(dir, &engine, 3).iter().map(|m| m.id).collect() };
    let first = ids(one.path());
    assert_eq!(first, ids(two.path()));
    assert!(first[0] != first[1] && first[1] != first[2]);
}

#[test]
fn a_fleet_that_does_not_fit_the_disk_should_be_refused_before_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let config = crate::testing::config();
    let adapted = Adapted {
        rank: 500,
        sites: Sites::QueryValue,
    };
    let refused = fleet::write(dir.path(), &config, adapted, 0..usize::MAX >> 24, 1);
    assert!(matches!(refused, Err(BenchError::Disk { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_two_sides_of_a_ratio_should_take_turns() {
    let order = RefCell::new(String::new());
    let side = |name: char, rate: f64| {
        order.borrow_mut().push(name);
        Ok(rate)
    };
    let turns = Turns {
        repeats: 3,
        each: Duration::ZERO,
    };
    let ratio = ratio("a / b", 2.0, turns, || side('a', 3.0), || side('b', 2.0)).unwrap();
    assert_eq!(order.into_inner(), "ababbaabbaabba");
    assert!((ratio.ratio - 1.5).abs() < 1e-9 && (ratio.achieved - 0.75).abs() < 1e-9);
    assert_eq!(ratio.repeats.len(), 3);
}

#[test]
fn rounds_should_answer_with_the_adapter_that_each_request_names() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(EngineOptions::default());
    let (base, adapters) = (dir.path().join("base"), dir.path().join("adapters"));
    let weights = Weights::random(engine.config(), 1).unwrap();
    weights.save(&base, StoredType::F32).unwrap();
    std::fs::write(base.join("config.json"), engine.config().to_json()).unwrap();
    let members = members(&adapters, &engine, 2);
    let mut rounds = Rounds::open(&base, &adapters, Some(1)).unwrap();
    let names: Vec<String> = rounds.adapters().map(str::to_owned).collect();
    assert_eq!(names, ["adapter-000000", "adapter-000001"]);
    let asked = |adapter: Option<&str>| RoundRequest {
        prompt: vec![1, 2, 3],
        adapter: adapter.map(str::to_owned),
        max_tokens: 5,
    };
    let answer = rounds
        .ask(&[asked(Some(&names[1])), asked(None), asked(Some(&names[0]))])
        .unwrap();
    for (output, id) in answer
        .outputs
        .iter()
        .zip([Some(members[1].id), None, Some(members[0].id)])
    {
        let mut request = Request::new(vec![1, 2, 3], 5);
        request.adapter = id;
        let tokens = engine
            .submit(request)
            .unwrap()
            .blocking_collect()
            .unwrap()
            .0;
        assert_eq!(*output, tokens.iter().map(|t| t.id).collect::<Vec<_>>());
    }
    assert!(rounds.ask(&[asked(Some("adapter-9"))]).is_err());
}

#[test]
fn first_tokens_should_be_measured_from_every_tier() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    let config = ModelConfig {
        max_position_embeddings: 80,
        ..crate::testing::config()
    };
    Weights::random(&config, 1)
        .unwrap()
        .save(&base, StoredType::F32)
        .unwrap();
    std::fs::write(base.join("config.json"), config.to_json()).unwrap();
    let options = registered::Options {
        shape: shape::Shape::Folder(base),
        registered: 20,
        asked_for: 12,
        repeats: 1,
        threads: Some(1),
        ..registered::Options::default()
    };
    let report = registered::run(&options, &dir.path().join("fleet"), |_| {}).unwrap();
    let first = &report.first_token;
    assert_eq!((first.disk.count, first.page_cache.count), (12, 12));
    assert!(
        first.device.count >= 12 && first.host.count >= 1,
        "{first:?}"
    );
    assert!(report.adapter_bytes > 0.0);
    assert!(report.to_string().contains("20 adapters registered"));
}

#[test]
fn the_models_should_be_of_the_sizes_that_the_figures_are_for() {
    let parameters = |shape: shape::Shape| shape.config().unwrap().parameters();
    assert!(parameters(shape::Shape::Medium) >= 100_000_000);
    assert!((6_000_000..7_000_000).contains(&parameters(shape::Shape::Small)));
}
