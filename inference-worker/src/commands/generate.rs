//! `generate`: one answer here, through the same engine that serves.

use crate::cli::GenerateArgs;
use anyhow::{bail, Context, Result};
use openledger_engine::{Engine, EngineOptions, Event, Request, Sampling};
use openledger_model::{Adapter, Checkpoint, ModelConfig};
use openledger_text::{Message, TextModel};
use std::io::Write;

pub fn run(args: GenerateArgs) -> Result<()> {
    let config = ModelConfig::from_dir(&args.base)
        .with_context(|| format!("the base model in {}", args.base.display()))?;
    let weights = Checkpoint::open(&args.base, &config)?;
    let text = TextModel::from_dir(&args.base)?;
    let (backend, tensor_parallel) = args.device.backend()?;
    let options = EngineOptions {
        backend,
        tensor_parallel,
        ..EngineOptions::default()
    };
    let engine = Engine::start(&config, weights, options)?;
    let adapter = match &args.adapter {
        None => None,
        Some(folder) => {
            let adapter = Adapter::load(folder, &config)
                .with_context(|| format!("the adapter in {}", folder.display()))?;
            Some(engine.load_adapter(&adapter)?)
        }
    };
    let prompt = if args.raw {
        text.count_text(&args.prompt)?
    } else {
        text.count_prompt(&[Message::new("user", args.prompt.as_str())])?
    };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&args.seed.to_le_bytes());
    let mut request = Request::new(prompt, args.max_tokens as usize);
    request.adapter = adapter;
    request.sampling = Sampling {
        temperature: args.temperature,
        ..Sampling::GREEDY
    };
    request.seed = seed;
    request.stop_tokens = config.eos_token_ids.clone();
    let mut stream = engine.submit(request)?;
    let mut decoder = text.stream();
    let mut out = std::io::stdout().lock();
    while let Some(event) = stream.blocking_next() {
        match event {
            Event::Token(token) => {
                write!(out, "{}", decoder.push(token.id)?)?;
                out.flush()?;
            }
            Event::Prompt(_) | Event::Embedding(_) => {}
            Event::Finished(_) => {
                writeln!(out, "{}", decoder.finish()?)?;
                return Ok(());
            }
            Event::Failed(error) => return Err(error.into()),
        }
    }
    bail!("the engine stopped before the answer was complete")
}
