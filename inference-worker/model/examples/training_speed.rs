//! Tokens per second of forward and backward on a small Llama: all weights, and an adapter alone.
//!
//! `cargo run --release -p openledger-model --example training_speed [steps]`

use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use openledger_model::{
    forward, forward::loss, Adapter, Family, LoraConfig, ModelConfig, Targets, Weights,
};

fn main() -> anyhow::Result<()> {
    let steps: usize = std::env::args()
        .nth(1)
        .map_or(Ok(5), |steps| steps.parse())?;
    let (batch, seq) = (16, 128);
    let config = ModelConfig {
        family: Family::Llama,
        vocab_size: 512,
        hidden_size: 192,
        intermediate_size: 512,
        num_hidden_layers: 6,
        num_attention_heads: 6,
        num_key_value_heads: 6,
        head_dim: 32,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 512,
        tie_word_embeddings: true,
        bos_token_id: None,
        eos_token_ids: vec![],
    };
    let ids: Vec<u32> = (0..batch * seq)
        .map(|i| (i * 7919 % config.vocab_size) as u32)
        .collect();
    let ids = Tensor::from_vec(ids, (batch, seq), &Device::Cpu)?;
    let mask = Tensor::ones((batch, seq), candle_core::DType::F32, &Device::Cpu)?;
    let frozen = Weights::random(&config, 1)?;
    let trained = frozen.map(|_, tensor| Ok(Var::from_tensor(tensor)?.into_inner()))?;
    let lora = LoraConfig::new(16, 32.0, Targets::AllLinear);
    let (adapter, _) = Adapter::init(&config, lora, 2)?.into_vars()?;

    let measure = |name: &str, run: &dyn Fn() -> anyhow::Result<()>| -> anyhow::Result<()> {
        run()?;
        let mut best = f64::MAX;
        for _ in 0..steps {
            let start = Instant::now();
            run()?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        println!("{name:<28} {:>9.0} tokens/s", (batch * seq) as f64 / best);
        Ok(())
    };
    println!(
        "{} parameters, batch {batch} x {seq}, best of {steps}",
        config.parameters()
    );
    measure("forward", &|| {
        forward(&config, &frozen, None, &ids)?;
        Ok(())
    })?;
    measure("forward + backward, all", &|| {
        loss(&forward(&config, &trained, None, &ids)?, &ids, &mask)?.backward()?;
        Ok(())
    })?;
    measure("forward + backward, LoRA 16", &|| {
        loss(
            &forward(&config, &frozen, Some(&adapter), &ids)?,
            &ids,
            &mask,
        )?
        .backward()?;
        Ok(())
    })
}
