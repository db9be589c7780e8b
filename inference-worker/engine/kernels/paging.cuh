// Where a token's keys and values are (paged attention, Kwon et al. 2023). A page holds PAGE_TOKENS
// tokens of all layers: [layers][key, value][kv_heads][PAGE_TOKENS][HEAD_DIM]. Kernels get the address
// of their layer in page 0 and the distance between pages.
#pragma once
#include "common.cuh"

#define PAGE_TOKENS 16u

// Index of the key of a token; its value is value_offset(kv_heads) behind.
__device__ inline u64 key_index(const u32* pages, u64 page_stride, u32 kv_head, u32 token) {
    u64 page = pages[token / PAGE_TOKENS];
    return page * page_stride +
           ((u64)kv_head * PAGE_TOKENS + token % PAGE_TOKENS) * (u64)HEAD_DIM;
}

__device__ inline u64 value_offset(u32 kv_heads) {
    return (u64)kv_heads * PAGE_TOKENS * HEAD_DIM;
}

// Adjacent rows of one sequence that share a block of prefill attention: with q queries to a block,
// rows * min(heads of a kv head, q) <= q.
struct RowTile {
    u32 first;
    u32 rows;
    u32 sequence;
};
