//! Sums over several devices against sums that the host takes, and how long they take.

use super::number::kept;
use super::subject::Failure;
use crate::backend::cuda::device::{Device, DeviceRank, DeviceValues, Event, Memory, Stream};
use crate::backend::cuda::model::{fetch, store};
use crate::backend::cuda::Storage;
use crate::backend::parallel::together;
use rand::Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// Numbers of values: one, few, rows of a step, and what no power of two divides.
pub const COUNTS: [usize; 5] = [1, 7, 4096, 64 * 4096, (4 << 20) + 3];

/// Values behind those that are added up, which have to stay.
const MARGIN: usize = 64;

/// What the margin holds.
const UNTOUCHED: f32 = 77.0;

/// Runs each rank's part on a thread of its own and gives the results in order of rank.
fn on_all<T: Send>(
    ends: &[Arc<dyn DeviceRank>],
    part: impl Fn(usize, &dyn DeviceRank) -> Result<T, Failure> + Sync,
) -> Result<Vec<T>, Failure> {
    std::thread::scope(|scope| {
        let part = &part;
        let threads: Vec<_> = ends
            .iter()
            .enumerate()
            .map(|(rank, end)| scope.spawn(move || together(&**end, || part(rank, &**end))))
            .collect();
        let results = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => Err("a rank panicked".into()),
        });
        // All of them are waited for.
        results.collect::<Vec<_>>().into_iter().collect()
    })
}

/// Memory on each device, taken and given back while no device waits for another: the driver may wait for all
/// of them then.
fn take(devices: &[Arc<dyn Device>], bytes: usize) -> Result<Vec<Memory>, Failure> {
    let memory = devices.iter().map(|device| Memory::new(device, bytes));
    Ok(memory.collect::<Result<_, _>>()?)
}

/// How far sums may be off that each take `ranks - 1` roundings, of values whose magnitudes add up to `sum`.
fn tolerance(storage: Storage, ranks: usize, sum: f32) -> f32 {
    let unit = match storage {
        Storage::F32 => f32::EPSILON,
        // A little above half a place: what is rounded are sums that were rounded before.
        Storage::Bf16 => 1.05 / 256.0,
    };
    (ranks - 1) as f32 * unit * sum
}

/// Adds random values up over the devices and compares each rank's result with the host's sum. Gives the
/// largest share of the tolerance that an error takes.
///
/// # Errors
/// When a sum is wrong, the ranks have different bits, memory beside the values was written, or a device
/// fails.
pub fn check(
    devices: &[Arc<dyn Device>],
    ends: &[Arc<dyn DeviceRank>],
    storage: Storage,
    count: usize,
    seed: u64,
) -> Result<f32, Failure> {
    let ranks = devices.len();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || {
        let value: f32 = random.random_range(-1.0..1.0);
        kept(value, storage)
    };
    let parts: Vec<Vec<f32>> = (0..ranks)
        .map(|_| (0..count).map(|_| draw()).collect())
        .collect();
    let memory = take(devices, (count + MARGIN) * storage.bytes())?;
    for (memory, part) in memory.iter().zip(&parts) {
        let mut values = part.clone();
        values.resize(count + MARGIN, UNTOUCHED);
        store(memory, Stream::Compute, 0, storage, &values)?;
    }
    let results = on_all(ends, |rank, end| {
        let memory = &memory[rank];
        // SAFETY: the memory has room for the values, and is read below before it is given back.
        let mut shared = unsafe { DeviceValues::new(memory.address(), count, storage) };
        end.all_reduce(&mut shared)?;
        let mut values = vec![0.0; count + MARGIN];
        fetch(memory, Stream::Compute, 0, storage, &mut values)?;
        Ok(values)
    })?;
    let mut worst = 0f32;
    for (rank, values) in results.iter().enumerate() {
        let (sums, margin) = values.split_at(count);
        if margin.iter().any(|value| *value != UNTOUCHED) {
            return Err(format!("{count} values: memory behind them was written").into());
        }
        let first = results[0].iter().zip(values);
        if let Some(at) = first
            .into_iter()
            .position(|(a, b)| a.to_bits() != b.to_bits())
        {
            return Err(format!("{count} values: ranks 0 and {rank} differ in value {at}").into());
        }
        for (i, sum) in sums.iter().enumerate() {
            let exact: f64 = parts.iter().map(|part| f64::from(part[i])).sum();
            let magnitude: f32 = parts.iter().map(|part| part[i].abs()).sum();
            let allowed = tolerance(storage, ranks, magnitude).max(f32::MIN_POSITIVE);
            let share = ((f64::from(*sum) - exact).abs() / f64::from(allowed)) as f32;
            if share.is_nan() || share > 1.0 {
                return Err(format!(
                    "{count} values: value {i} of rank {rank} is {sum:e}, not {exact:e} ± {allowed:.1e}"
                )
                .into());
            }
            worst = worst.max(share);
        }
    }
    Ok(worst)
}

/// Seconds of one sum of `count` values, of the slowest device, from `repeats` in a row.
///
/// # Errors
/// When a device fails.
pub fn seconds(
    devices: &[Arc<dyn Device>],
    ends: &[Arc<dyn DeviceRank>],
    storage: Storage,
    count: usize,
    repeats: usize,
) -> Result<f64, Failure> {
    let memory = take(devices, count * storage.bytes())?;
    let of_ranks = on_all(ends, |rank, end| {
        let (device, memory) = (&devices[rank], &memory[rank]);
        memory.clear(Stream::Compute)?;
        // SAFETY: the memory has room, and is given back after the last sum was waited for.
        let mut shared = unsafe { DeviceValues::new(memory.address(), count, storage) };
        for _ in 0..3 {
            end.all_reduce(&mut shared)?;
        }
        device.synchronize(Stream::Compute)?;
        let start = Event::record(device, Stream::Compute)?;
        for _ in 0..repeats {
            end.all_reduce(&mut shared)?;
        }
        let last = Event::record(device, Stream::Compute)?;
        last.wait()?;
        Ok(start.seconds_until(&last)? / repeats.max(1) as f64)
    })?;
    Ok(of_ranks.into_iter().fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::super::number::to_bf16;
    use super::*;

    #[test]
    fn a_sum_rounded_at_every_step_should_be_within_the_tolerance_and_a_wrong_one_not() {
        let round = |value: f32| f32::from_bits(u32::from(to_bf16(value)) << 16);
        let parts = [0.7f32, 0.6, -0.9, 0.3].map(round);
        let sum = parts.into_iter().fold(0.0, |sum, part| round(sum + part));
        let exact: f32 = parts.iter().sum();
        let magnitude = parts.iter().map(|part| part.abs()).sum();
        let allowed = tolerance(Storage::Bf16, 4, magnitude);
        assert!((sum - exact).abs() <= allowed);
        assert!((sum - parts[3] - exact).abs() > allowed);
        assert!(tolerance(Storage::F32, 2, 1.0) < 1e-6);
    }
}
