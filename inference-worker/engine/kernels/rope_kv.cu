// Bias, norm of queries and keys (Qwen3), rotary embedding (Su et al. 2021, halves as in Hugging Face
// checkpoints) and the write of keys and values into their pages, in one pass over the projections.
// One block per row and head; a thread holds the pair (d, d + HEAD_DIM / 2). The sum of squares runs
// over pairs in thread order, then block_sum.
#include "paging.cuh"

#define HALF (HEAD_DIM / 2)
#define ROPE_THREADS ((HALF + 31) / 32 * 32)

// qkv [rows, heads + 2 * kv_heads, HEAD_DIM] -> q [rows, heads, HEAD_DIM] and the pages of `kv`.
// bias [heads + 2 * kv_heads, HEAD_DIM], q_norm and k_norm [HEAD_DIM] may be null.
// angles [positions, HALF] pairs of cosine and sine. tables [sequences, table_stride] page numbers.
// Grid (rows, heads + 2 * kv_heads).
KERNEL(ROPE_THREADS)
rope_kv(Scalar* q, Scalar* kv, const Scalar* qkv, const Scalar* bias, const Scalar* q_norm,
        const Scalar* k_norm, const float* angles, const u32* positions, const u32* sequences,
        const u32* tables, u64 page_stride, u32 table_stride, u32 heads, u32 kv_heads,
        float epsilon) {
    __shared__ float parts[ROPE_THREADS / 32];
    u32 row = blockIdx.x;
    u32 head = blockIdx.y;
    u32 d = threadIdx.x;
    bool holds = d < HALF;
    u64 from = ((u64)row * (heads + 2 * kv_heads) + head) * HEAD_DIM;
    float low = 0.0f;
    float high = 0.0f;
    if (holds) {
        low = to_float(qkv[from + d]);
        high = to_float(qkv[from + d + HALF]);
        if (bias) {
            low += to_float(bias[(u64)head * HEAD_DIM + d]);
            high += to_float(bias[(u64)head * HEAD_DIM + d + HALF]);
        }
    }
    bool is_query = head < heads;
    bool is_value = head >= heads + kv_heads;
    const Scalar* norm = is_query ? q_norm : k_norm;
    // The same for the whole block, so its threads meet at the barriers inside.
    if (norm && !is_value) {
        float squares = block_sum(fmaf(high, high, low * low), parts);
        float inverse = 1.0f / sqrtf(squares / (float)HEAD_DIM + epsilon);
        if (holds) {
            low = low * inverse * to_float(norm[d]);
            high = high * inverse * to_float(norm[d + HALF]);
        }
    }
    if (!holds) {
        return;
    }
    u32 position = positions[row];
    if (!is_value) {
        u64 angle = ((u64)position * HALF + d) * 2;
        float cosine = angles[angle];
        float sine = angles[angle + 1];
        float rotated = fmaf(low, cosine, -(high * sine));
        high = fmaf(high, cosine, low * sine);
        low = rotated;
    }
    Scalar* to;
    if (is_query) {
        to = q + ((u64)row * heads + head) * HEAD_DIM;
    } else {
        u32 kv_head = is_value ? head - heads - kv_heads : head - heads;
        const u32* pages = tables + (u64)sequences[row] * table_stride;
        to = kv + key_index(pages, page_stride, kv_head, position);
        if (is_value) {
            to += value_offset(kv_heads);
        }
    }
    to[d] = from_float(low);
    to[d + HALF] = from_float(high);
}
