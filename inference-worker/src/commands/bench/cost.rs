//! `bench cost`: N fine-tuned models by themselves and on this engine, from what was measured.
//!
//! A machine that serves one model at the measured speed is the unit of demand. Of each deployment as many
//! machines are paid for as its demand keeps busy, at least its replicas, and as many as its memory takes.
//!
//! | | machines |
//! | --- | --- |
//! | each model by itself | Σ max(replicas, ⌈demand · share / busy⌉) |
//! | as many models on a machine as fit its memory | max(replicas · ⌈N · model / memory⌉, ⌈demand / busy⌉) |
//! | this engine | max(replicas · ⌈(base + N · adapter) / memory⌉, ⌈demand / (busy · speed)⌉) |
//!
//! `speed` is what the engine has left of a dedicated deployment's tokens per second when many models are
//! asked for.

use super::args::CostArgs;
use anyhow::{bail, ensure, Context, Result};
use serde_json::Value;
use std::fmt;

/// Hours of a month.
const HOURS: f64 = 730.0;

/// What the file of `bench engine` says.
#[derive(Clone, Debug, PartialEq)]
struct Measured {
    /// Models that were asked for together.
    models: u64,
    /// Tokens per second with one model, and with all of them.
    one: f64,
    many: f64,
    /// Bytes of a process that serves the base model.
    base_bytes: f64,
    /// Bytes of an adapter in memory, on the device and in host memory together.
    adapter_bytes: f64,
}

/// What is paid for.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Machines {
    dedicated: f64,
    packed: f64,
    shared: f64,
}

pub fn run(args: &CostArgs) -> Result<()> {
    let text = std::fs::read_to_string(&args.from)
        .with_context(|| format!("{} cannot be read", args.from.display()))?;
    let measured = Measured::read(&serde_json::from_str(&text)?).with_context(|| {
        format!(
            "{}: write it by `bench engine --only load --distinct 1,N --json FILE`",
            args.from.display()
        )
    })?;
    ensure!(
        args.busy > 0.0 && args.busy <= 1.0,
        "--busy is above 0 and at most 1"
    );
    ensure!(args.memory > 0.0, "--memory must be above 0");
    ensure!(
        args.replicas > 0 && args.models.iter().all(|n| *n > 0),
        "--replicas and --models must be at least 1"
    );
    ensure!(
        args.demand.iter().all(|d| d.is_finite() && *d >= 0.0),
        "--demand must not be negative"
    );
    println!("{measured}");
    println!(
        "\n| models | demand | each by itself | packed by memory | this engine | saved against each | against packed |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for &models in &args.models {
        for &demand in &args.demand {
            let machines = measured.machines(args, models, demand);
            let month = |machines: f64| machines * args.price * HOURS;
            let saved = |of: f64| 100.0 * (1.0 - machines.shared / of);
            println!(
                "| {models} | {demand} | {:.0} | {:.0} | {:.0} | {:.1} % | {:.1} % |",
                month(machines.dedicated),
                month(machines.packed),
                month(machines.shared),
                saved(machines.dedicated),
                saved(machines.packed)
            );
        }
    }
    println!(
        "\nPrices of a month of {HOURS:.0} hours at {} an hour; machines of {} GiB, busy {:.0} % of their time, \
         {} in any case.",
        args.price,
        args.memory,
        args.busy * 100.0,
        args.replicas
    );
    Ok(())
}

impl Measured {
    fn read(report: &Value) -> Result<Self> {
        let load = report.get("load").context("no load was measured")?;
        let points = load.get("points").and_then(Value::as_array);
        let points = points.context("the load has no points")?;
        let number = |value: &Value, path: &str| {
            value
                .pointer(path)
                .and_then(Value::as_f64)
                .with_context(|| format!("{path} is missing"))
        };
        let distinct = |point: &&Value| {
            let distinct = point.pointer("/workload/distinct");
            distinct.and_then(Value::as_u64).unwrap_or(0)
        };
        let most = points.iter().max_by_key(distinct);
        let most = most.context("the load has no points")?;
        let one = points.iter().find(|point| distinct(point) == 1);
        let one = one.context("one model alone was not measured")?;
        let models = distinct(&most);
        if models < 2 {
            bail!("several models together were not measured");
        }
        let held = number(most, "/median/resident/device_page_bytes")?
            / number(most, "/median/resident/device_adapters")?.max(1.0)
            + number(most, "/median/resident/host_bytes")?
                / number(most, "/median/resident/host_adapters")?.max(1.0);
        Ok(Self {
            models,
            one: number(one, "/median/output_tokens_per_second")?,
            many: number(most, "/median/output_tokens_per_second")?,
            base_bytes: number(load, "/model_process_bytes")?,
            adapter_bytes: held,
        })
    }

    /// What the engine has left of one model's speed.
    fn speed(&self) -> f64 {
        self.many / self.one
    }

    fn machines(&self, args: &CostArgs, models: u64, demand: f64) -> Machines {
        let replicas = args.replicas as f64;
        let memory = args.memory * (1u64 << 30) as f64;
        let weight = |k: u64| (k as f64).powf(-args.zipf);
        let all: f64 = (1..=models).map(weight).sum();
        let dedicated = (1..=models)
            .map(|k| (demand * weight(k) / all / args.busy).ceil().max(replicas))
            .sum();
        let count = models as f64;
        let model = self.base_bytes + self.adapter_bytes;
        let shared = self.base_bytes + count * self.adapter_bytes;
        let needed = |bytes: f64, speed: f64| {
            let for_memory = replicas * (bytes / memory).ceil();
            for_memory.max((demand / (args.busy * speed)).ceil())
        };
        Machines {
            dedicated,
            packed: needed(count * model, 1.0),
            shared: needed(shared, self.speed()),
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "measured: one model {:.0} tok/s; {} models together {:.0} tok/s, {:.2} of that",
            self.one,
            self.models,
            self.many,
            self.speed()
        )?;
        write!(
            f,
            "memory: {:.1} MB for the base model's process, {:.2} MB for each adapter: the base {:.0} times",
            self.base_bytes / 1e6,
            self.adapter_bytes / 1e6,
            self.base_bytes / self.adapter_bytes
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn args() -> CostArgs {
        CostArgs {
            from: std::path::PathBuf::new(),
            models: Vec::new(),
            demand: Vec::new(),
            zipf: 0.0,
            busy: 0.5,
            memory: 1.0,
            price: 1.0,
            replicas: 1,
        }
    }

    fn measured() -> Measured {
        let gib = (1u64 << 30) as f64;
        Measured {
            models: 8,
            one: 100.0,
            many: 80.0,
            base_bytes: gib / 4.0,
            adapter_bytes: gib / 64.0,
        }
    }

    #[test]
    fn idle_models_should_cost_a_machine_each_only_by_themselves() {
        let machines = measured().machines(&args(), 16, 0.1);
        // 16 models of 17/64 GiB take 4.25 GiB; on one base, half a GiB.
        assert_eq!(
            machines,
            Machines {
                dedicated: 16.0,
                packed: 5.0,
                shared: 1.0
            }
        );
    }

    #[test]
    fn busy_models_should_cost_more_on_the_engine_by_what_it_is_slower() {
        let machines = measured().machines(&args(), 2, 40.0);
        assert_eq!((machines.dedicated, machines.packed), (80.0, 80.0));
        assert_eq!(machines.shared, 100.0);
    }

    #[test]
    fn replicas_should_be_paid_for_by_every_deployment() {
        let args = CostArgs {
            replicas: 2,
            ..args()
        };
        let machines = measured().machines(&args, 3, 0.0);
        assert_eq!((machines.dedicated, machines.shared), (6.0, 2.0));
    }

    #[test]
    fn what_was_measured_should_be_read_from_the_report() {
        let point = |distinct: u64, rate: f64| {
            json!({
                "workload": { "distinct": distinct },
                "median": {
                    "output_tokens_per_second": rate,
                    "resident": {
                        "device_adapters": distinct, "device_page_bytes": 30.0 * distinct as f64,
                        "host_adapters": distinct, "host_bytes": 20.0 * distinct as f64,
                    },
                },
            })
        };
        let report = json!({ "load": {
            "model_process_bytes": 500,
            "points": [point(1, 100.0), point(8, 90.0)],
        }});
        let measured = Measured::read(&report).unwrap();
        assert_eq!((measured.models, measured.speed()), (8, 0.9));
        assert_eq!((measured.base_bytes, measured.adapter_bytes), (500.0, 50.0));
        let alone = json!({ "load": { "model_process_bytes": 500, "points": [point(8, 90.0)] } });
        assert!(Measured::read(&alone).is_err());
    }
}
