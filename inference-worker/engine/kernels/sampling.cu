// What drawing a token needs of a row of logits: two log-sum-exps and the largest values in order.
#include "common.cuh"

#define SAMPLING_THREADS 256u
#define NOTHING 0xffffffffu

struct Candidate {
    float value;
    u32 id;
};

// Larger first, the lower id among equals. A NaN is before nothing.
__device__ inline bool before(Candidate a, Candidate b) {
    return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// The first of a thread's own ids that comes after `last`.
__device__ inline Candidate scan(const float* logits, u32 vocabulary, Candidate last, bool any) {
    Candidate best = {NEGATIVE_INFINITY, NOTHING};
    for (u32 id = threadIdx.x; id < vocabulary; id += SAMPLING_THREADS) {
        Candidate next = {logits[id], id};
        if (before(next, best) && (any || before(last, next))) {
            best = next;
        }
    }
    return best;
}

// logits [rows, vocabulary]. sums [rows, 2]: log-sum-exp of the logits and of the logits times
// inverse_temperature[row]; NaN where a logit is NaN. values, ids [rows, k]: the k largest logits,
// equals by lower id; id NOTHING past the last. Grid (rows). A thread keeps its best candidate, and only
// the thread whose candidate won looks for another.
KERNEL(256)
sampling_support(float* sums, float* values, u32* ids, const float* logits,
                 const float* inverse_temperature, u32 vocabulary, u32 k) {
    __shared__ float parts[8];
    __shared__ Candidate bests[8];
    u32 row = blockIdx.x;
    const float* from = logits + (u64)row * vocabulary;
    float inverse = inverse_temperature[row];

    float largest = NEGATIVE_INFINITY;
    for (u32 id = threadIdx.x; id < vocabulary; id += SAMPLING_THREADS) {
        largest = fmaxf(largest, from[id]);
    }
    largest = block_max(largest, parts);
    float plain = 0.0f;
    float tempered = 0.0f;
    for (u32 id = threadIdx.x; id < vocabulary; id += SAMPLING_THREADS) {
        float below = from[id] - largest;
        plain += expf(below);
        tempered += expf(below * inverse);
    }
    plain = block_sum(plain, parts);
    tempered = block_sum(tempered, parts);
    if (threadIdx.x == 0) {
        sums[2 * row] = largest + logf(plain);
        sums[2 * row + 1] = fmaf(largest, inverse, logf(tempered));
    }

    Candidate mine = scan(from, vocabulary, Candidate{0.0f, 0}, true);
    for (u32 place = 0; place < k; place++) {
        Candidate best = mine;
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) {
            Candidate other;
            other.value = __shfl_xor_sync(ALL_LANES, best.value, distance);
            other.id = __shfl_xor_sync(ALL_LANES, best.id, distance);
            best = before(other, best) ? other : best;
        }
        if (threadIdx.x % WARP == 0) {
            bests[threadIdx.x / WARP] = best;
        }
        __syncthreads();
        best = bests[0];
        for (u32 warp = 1; warp < SAMPLING_THREADS / WARP; warp++) {
            best = before(bests[warp], best) ? bests[warp] : best;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            values[(u64)row * k + place] = best.value;
            ids[(u64)row * k + place] = best.id;
        }
        if (best.id != NOTHING && best.id % SAMPLING_THREADS == threadIdx.x) {
            mine = scan(from, vocabulary, best, false);
        }
    }
}
