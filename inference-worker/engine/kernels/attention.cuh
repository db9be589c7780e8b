// Attention of a few queries to one chunk of one key-value head: what decode and prefill share, so that
// a token's output has the same bits whichever of them computes it. Online softmax as in FlashAttention
// (Dao et al. 2022), chunks as in Flash-Decoding, but of a fixed length and merged in order.
#pragma once
#include "paging.cuh"

#define CHUNK_TOKENS 256u
#define ATTENTION_THREADS 128u
#define DIMS ((HEAD_DIM + 127) / 128)

// Dimensions of a key that are read at once. Keys of other widths do not start on 16 bytes.
#if HEAD_DIM % 8 == 0
#define KEY_STEP 8u
__device__ inline void load_key(const Scalar* from, float (&to)[KEY_STEP]) {
    load8(from, to);
}
#else
#define KEY_STEP 2u
__device__ inline void load_key(const Scalar* from, float (&to)[KEY_STEP]) {
    to[0] = to_float(from[0]);
    to[1] = to_float(from[1]);
}
#endif

// Shared memory of a block that attends with up to Q queries.
template <int Q>
struct Attention {
    float query[Q][HEAD_DIM];
    float score[Q][CHUNK_TOKENS];
    float maximum[Q];
    float total[Q];
    // Tokens that a query sees; 0 where there is no query.
    u32 visible[Q];
};

// The tokens [first, first + CHUNK_TOKENS) that exist: the largest score and the sum of exponentials of
// each query into shared memory, the weighted sum of values into `sums`, thread t holding the
// dimensions t, t + 128, .... A score is one chain over dimensions, a weighted sum one chain over
// tokens. Every thread of the block calls this.
template <int Q>
__device__ inline void attend_chunk(Attention<Q>& shared, float (&sums)[Q][DIMS], const Scalar* kv,
                                    const u32* pages, u64 page_stride, u32 kv_head, u32 kv_heads,
                                    u32 first, float scale) {
    u32 end = 0;
#pragma unroll
    for (int i = 0; i < Q; i++) {
        end = shared.visible[i] > end ? shared.visible[i] : end;
    }
    end = end < first + CHUNK_TOKENS ? end : first + CHUNK_TOKENS;

    for (u32 token = first + threadIdx.x; token < end; token += ATTENTION_THREADS) {
        const Scalar* key = kv + key_index(pages, page_stride, kv_head, token);
        float products[Q];
#pragma unroll
        for (int i = 0; i < Q; i++) {
            products[i] = 0.0f;
        }
        for (u32 d = 0; d < HEAD_DIM; d += KEY_STEP) {
            float values[KEY_STEP];
            load_key(key + d, values);
#pragma unroll
            for (int i = 0; i < Q; i++) {
#pragma unroll
                for (u32 j = 0; j < KEY_STEP; j++) {
                    products[i] = fmaf(shared.query[i][d + j], values[j], products[i]);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < Q; i++) {
            shared.score[i][token - first] =
                token < shared.visible[i] ? products[i] * scale : NEGATIVE_INFINITY;
        }
    }
    __syncthreads();

    u32 lane = threadIdx.x % WARP;
    for (u32 i = threadIdx.x / WARP; i < Q; i += ATTENTION_THREADS / WARP) {
        float largest = NEGATIVE_INFINITY;
        for (u32 t = lane; first + t < end; t += WARP) {
            largest = fmaxf(largest, shared.score[i][t]);
        }
        largest = warp_max(largest);
        float total = 0.0f;
        for (u32 t = lane; first + t < end; t += WARP) {
            // A query that sees nothing here has no largest score to subtract.
            float weight = first < shared.visible[i] ? expf(shared.score[i][t] - largest) : 0.0f;
            shared.score[i][t] = weight;
            total += weight;
        }
        total = warp_sum(total);
        if (lane == 0) {
            shared.maximum[i] = largest;
            shared.total[i] = total;
        }
    }
    __syncthreads();

#pragma unroll
    for (int j = 0; j < DIMS; j++) {
        u32 d = threadIdx.x + j * ATTENTION_THREADS;
#pragma unroll
        for (int i = 0; i < Q; i++) {
            sums[i][j] = 0.0f;
        }
        if (d < HEAD_DIM) {
            // A page at a time, all its values on their way before the first is needed. Chunks begin with a
            // page. The order of the sum is that of the tokens all the same.
            for (u32 token = first; token < end; token += PAGE_TOKENS) {
                const Scalar* value = kv + key_index(pages, page_stride, kv_head, token) +
                                      value_offset(kv_heads) + d;
                u32 count = end - token;
                Scalar page[PAGE_TOKENS];
#pragma unroll
                for (u32 t = 0; t < PAGE_TOKENS; t++) {
                    if (t < count) {
                        page[t] = value[t * HEAD_DIM];
                    }
                }
#pragma unroll
                for (u32 t = 0; t < PAGE_TOKENS; t++) {
                    if (t < count) {
                        float of_token = to_float(page[t]);
#pragma unroll
                        for (int i = 0; i < Q; i++) {
                            sums[i][j] =
                                fmaf(shared.score[i][token - first + t], of_token, sums[i][j]);
                        }
                    }
                }
            }
        }
    }
}

// The softmax of the chunks so far, seen from one query and one dimension.
struct Softmax {
    float maximum;
    float total;
    float sum;
};

// Takes in the next chunk. Chunks come in order of tokens.
__device__ inline Softmax merge(Softmax before, Softmax chunk) {
    Softmax both;
    both.maximum = fmaxf(before.maximum, chunk.maximum);
    float old_weight = expf(before.maximum - both.maximum);
    float new_weight = expf(chunk.maximum - both.maximum);
    both.total = fmaf(chunk.total, new_weight, before.total * old_weight);
    both.sum = fmaf(chunk.sum, new_weight, before.sum * old_weight);
    return both;
}
