//! Rotary position embedding: frequencies and tables, as transformers computes them.

use crate::config::{ModelConfig, RopeScaling};

/// The angle per position of each pair of a head's elements, radians; `head_dim / 2` values.
///
/// Element `j` is paired with element `j + head_dim / 2`.
pub fn inv_freq(config: &ModelConfig) -> Vec<f32> {
    let half = config.head_dim / 2;
    let plain = (0..half).map(|j| {
        let exponent = (2 * j) as f32 / config.head_dim as f32;
        1.0 / (config.rope_theta as f32).powf(exponent)
    });
    match &config.rope_scaling {
        None => plain.collect(),
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        }) => {
            let original = *original_max_position_embeddings as f64;
            let longest_kept = original / high_freq_factor;
            let shortest_divided = original / low_freq_factor;
            plain
                .map(|frequency| {
                    let wavelength = std::f64::consts::TAU / f64::from(frequency);
                    if wavelength < longest_kept {
                        frequency
                    } else if wavelength > shortest_divided {
                        (f64::from(frequency) / factor) as f32
                    } else {
                        let smooth = (original / wavelength - low_freq_factor)
                            / (high_freq_factor - low_freq_factor);
                        let frequency = f64::from(frequency);
                        ((1.0 - smooth) * frequency / factor + smooth * frequency) as f32
                    }
                })
                .collect()
        }
    }
}

/// Cosines and sines of positions `0..len`: two row-major tables `[len, head_dim / 2]`.
pub fn tables(config: &ModelConfig, len: usize) -> (Vec<f32>, Vec<f32>) {
    let frequencies = inv_freq(config);
    let angles = (0..len).flat_map(|position| {
        frequencies
            .iter()
            .map(move |frequency| position as f32 * frequency)
    });
    angles.map(|angle| (angle.cos(), angle.sin())).unzip()
}
