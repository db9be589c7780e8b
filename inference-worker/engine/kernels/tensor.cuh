// Tensor cores and asynchronous copies, in the PTX of sm_80 and later; `host/tensor_cores.h` stands in
// for them on a CPU. Matrices are of BF16 whatever tensors are stored as; who has f32 takes the plain
// kernels. A fragment of m16n8k16 by lane, with g = lane / 4 and t = lane % 4: a[0] holds row g, columns
// 2t and 2t + 1; a[1] row g + 8; a[2] and a[3] the same eight columns on. b[0] holds column g, rows 2t
// and 2t + 1; b[1] eight rows on. c[0], c[1] are row g, columns 2t and 2t + 1; c[2], c[3] row g + 8.
#pragma once
#include "common.cuh"

#ifdef __CUDACC__
// c += a * b, for a of 16 x 16, b of 16 x 8.
__device__ inline void mma_m16n8k16(float (&c)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline u32 shared_address(const void* pointer) {
    return (u32)__cvta_generic_to_shared(pointer);
}

// Four matrices of 8 x 8 from shared memory; lane i points to row i % 8 of matrix i / 8. A lane gets
// columns 2t and 2t + 1 of row g of each.
__device__ inline void ldmatrix(u32 (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// The same with a lane getting rows 2t and 2t + 1 of column g.
__device__ inline void ldmatrix_transposed(u32 (&to)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// Begins a copy of sixteen bytes to shared memory, of zeros where nothing is there to be read.
__device__ inline void copy_async16(void* to, const void* from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(there ? 16 : 0)
                 : "memory");
}

// What was begun so far is a group.
__device__ inline void copy_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits for all groups of this thread but the last REMAIN.
template <int REMAIN>
__device__ inline void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(REMAIN) : "memory");
}
#endif

__device__ inline u32 bf16_pair(float low, float high) {
    return bf16_bits(low) | (u32)bf16_bits(high) << 16;
}

// A tile of BF16 in shared memory, CHUNKS times eight values to a row. Chunks are exchanged within a row
// so that eight rows of one column lie in different banks, where a row's length allows it.
template <u32 CHUNKS>
struct Tile {
    __device__ static u32 at(u32 row, u32 chunk) {
        u32 moved = chunk;
        if (CHUNKS % 8 == 0) {
            moved = chunk ^ (row & 7u);
        } else if (CHUNKS == 4) {
            moved = chunk ^ (row >> 1 & 3u);
        }
        return (row * CHUNKS + moved) * 8;
    }
};
