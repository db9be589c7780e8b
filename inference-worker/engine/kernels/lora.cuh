// Where the pairs of the resident adapters are: PtrTable[slot][layer][site]. One launch serves all
// adapters of a step and all sites that share an input (the segmented products of Punica, Chen et al.
// 2023, and S-LoRA, Sheng et al. 2023), each pair at its own rank.
#pragma once
#include "common.cuh"

#define NO_ADAPTER 0xffffffffu
#define TILE_ROWS 16

// One low-rank pair: a [rank, inputs], b [outputs, rank], both from addresses divisible by 16.
// rank 0: the adapter leaves this matrix alone. gain [outputs] or null: what the base's result is
// multiplied by (DoRA, Liu et al. 2024); the rows of b are then multiplied by it already.
struct LoraEntry {
    const Scalar* a;
    const Scalar* b;
    const float* gain;
    u32 rank;
    float scale;
};

// Up to TILE_ROWS entries of the list of rows sorted by adapter, all of one adapter. Without rows: the
// grid of a captured graph is larger than the step.
struct LoraTile {
    u32 first;
    u32 rows;
    u32 slot;
};

// One lane's part of a dot product with each of ROWS rows: every 32nd group of eight inputs, or every
// 32nd input where rows do not start on 16 bytes. The chain of one row does not depend on the others.
template <int ROWS>
__device__ inline void lane_products(float (&sums)[ROWS], const Scalar* a,
                                     const Scalar* const (&x)[ROWS], u32 rows, u32 inputs, u32 lane) {
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        sums[row] = 0.0f;
    }
    if (inputs % 8 == 0) {
        // Several loads are under way before the first is used; the chain keeps its order.
        constexpr int AHEAD = ROWS == 1 ? 4 : 1;
        for (u32 start = lane * 8; start < inputs; start += AHEAD * WARP * 8) {
            float weights[AHEAD][8];
            float values[AHEAD][8];
#pragma unroll
            for (int step = 0; step < AHEAD; step++) {
                u32 i = start + step * WARP * 8;
                if (i < inputs) {
                    load8(a + i, weights[step]);
                    if (ROWS == 1) {
                        load8(x[0] + i, values[step]);
                    }
                }
            }
#pragma unroll
            for (int step = 0; step < AHEAD; step++) {
                u32 i = start + step * WARP * 8;
                if (i >= inputs) {
                    break;
                }
#pragma unroll
                for (int row = 0; row < ROWS; row++) {
                    if (row < rows) {
                        if (ROWS > 1) {
                            load8(x[row] + i, values[step]);
                        }
#pragma unroll
                        for (int j = 0; j < 8; j++) {
                            sums[row] = fmaf(weights[step][j], values[step][j], sums[row]);
                        }
                    }
                }
            }
        }
    } else {
        for (u32 i = lane; i < inputs; i += WARP) {
            float weight = to_float(a[i]);
#pragma unroll
            for (int row = 0; row < ROWS; row++) {
                if (row < rows) {
                    sums[row] = fmaf(weight, to_float(x[row][i]), sums[row]);
                }
            }
        }
    }
}
