// The matrix product of gemm.cu on tensor cores, for BF16 and a number of inputs divisible by 8. An
// output is one chain over blocks of sixteen inputs in order, whatever the tile it is in and the number
// of rows, so both sizes of tiles give the same bits.
#include "tensor.cuh"

__device__ inline void put_bf16(u16* to, float value) {
    *to = bf16_bits(value);
}

__device__ inline void put_bf16(float* to, float value) {
    *to = value;
}

// A block computes ROWS x OUTPUTS, INPUTS at a time, with STAGES of these on their way or in use. Warps
// lie DOWN x ACROSS over the block.
template <u32 ROWS, u32 OUTPUTS, u32 INPUTS, u32 STAGES, u32 DOWN, u32 ACROSS, class Out>
__device__ inline void multiply_tensor(Out* y, const u16* x, const u16* w, u32 rows, u32 outputs,
                                       u32 inputs) {
    constexpr u32 CHUNKS = INPUTS / 8;
    constexpr u32 THREADS = DOWN * ACROSS * WARP;
    constexpr u32 WARP_ROWS = ROWS / DOWN / 16;
    constexpr u32 WARP_OUTPUTS = OUTPUTS / ACROSS / 8;
    typedef Tile<CHUNKS> Place;
    __shared__ uint4 memory[STAGES * (ROWS + OUTPUTS) * CHUNKS];
    u16* left = reinterpret_cast<u16*>(memory);
    u16* right = left + STAGES * ROWS * INPUTS;

    u32 first_output = blockIdx.x * OUTPUTS;
    u32 first_row = blockIdx.y * ROWS;
    u32 lane = threadIdx.x % WARP;
    u32 warp = threadIdx.x / WARP;
    u32 warp_row = warp / ACROSS * WARP_ROWS * 16;
    u32 warp_output = warp % ACROSS * WARP_OUTPUTS * 8;
    u32 steps = (inputs + INPUTS - 1) / INPUTS;

    auto load = [&](u32 step) {
        u32 stage = step % STAGES;
        for (u32 i = threadIdx.x; i < (ROWS + OUTPUTS) * CHUNKS; i += THREADS) {
            bool is_left = i < ROWS * CHUNKS;
            u32 at = is_left ? i : i - ROWS * CHUNKS;
            u32 line = at / CHUNKS;
            u32 input = step * INPUTS + at % CHUNKS * 8;
            u32 number = (is_left ? first_row : first_output) + line;
            bool there = step < steps && input < inputs && number < (is_left ? rows : outputs);
            const u16* from = is_left ? x : w;
            u16* to = is_left ? left + stage * ROWS * INPUTS : right + stage * OUTPUTS * INPUTS;
            copy_async16(to + Place::at(line, at % CHUNKS),
                         there ? from + (u64)number * inputs + input : from, there);
        }
        copy_commit();
    };

    float sums[WARP_ROWS][WARP_OUTPUTS][4] = {};
    for (u32 step = 0; step + 1 < STAGES; step++) {
        load(step);
    }
    for (u32 step = 0; step < steps; step++) {
        copy_wait<STAGES - 2>();
        // Also: nobody reads the stage any more that the next load writes.
        __syncthreads();
        load(step + STAGES - 1);
        const u16* a = left + step % STAGES * ROWS * INPUTS;
        const u16* b = right + step % STAGES * OUTPUTS * INPUTS;
#pragma unroll
        for (u32 chunk = 0; chunk < CHUNKS; chunk += 2) {
            u32 lefts[WARP_ROWS][4];
#pragma unroll
            for (u32 i = 0; i < WARP_ROWS; i++) {
                ldmatrix(lefts[i],
                         a + Place::at(warp_row + i * 16 + lane % 16, chunk + lane / 16));
            }
#pragma unroll
            for (u32 j = 0; j < WARP_OUTPUTS; j += 2) {
                // Two tiles of eight outputs; the second may lie past the warp's, and is not used then.
                u32 line = warp_output + j * 8 + lane % 8 + lane / 16 * 8;
                u32 rights[4];
                ldmatrix(rights, b + Place::at(line < OUTPUTS ? line : 0, chunk + lane / 8 % 2));
                u32 one[2] = {rights[0], rights[1]};
                u32 two[2] = {rights[2], rights[3]};
#pragma unroll
                for (u32 i = 0; i < WARP_ROWS; i++) {
                    mma_m16n8k16(sums[i][j], lefts[i], one);
                    if (j + 1 < WARP_OUTPUTS) {
                        mma_m16n8k16(sums[i][j + 1 < WARP_OUTPUTS ? j + 1 : j], lefts[i], two);
                    }
                }
            }
        }
    }

#pragma unroll
    for (u32 i = 0; i < WARP_ROWS; i++) {
#pragma unroll
        for (u32 j = 0; j < WARP_OUTPUTS; j++) {
#pragma unroll
            for (u32 k = 0; k < 4; k++) {
                u32 row = first_row + warp_row + i * 16 + lane / 4 + k / 2 * 8;
                u32 output = first_output + warp_output + j * 8 + lane % 4 * 2 + k % 2;
                if (row < rows && output < outputs) {
                    put_bf16(y + (u64)row * outputs + output, sums[i][j][k]);
                }
            }
        }
    }
}

// For many rows. Grid (ceil(outputs / 128), ceil(rows / 128)).
KERNEL(256)
gemm_tensor(u16* y, const u16* x, const u16* w, u32 rows, u32 outputs, u32 inputs) {
    multiply_tensor<128, 128, 32, 3, 2, 4>(y, x, w, rows, outputs, inputs);
}

KERNEL(256)
gemm_tensor_logits(float* y, const u16* x, const u16* w, u32 rows, u32 outputs, u32 inputs) {
    multiply_tensor<128, 128, 32, 3, 2, 4>(y, x, w, rows, outputs, inputs);
}

// For few rows, where reading the weights is what takes time. Grid (ceil(outputs / 32), ceil(rows / 16)).
KERNEL(128)
gemm_tensor_narrow(u16* y, const u16* x, const u16* w, u32 rows, u32 outputs, u32 inputs) {
    multiply_tensor<16, 32, 64, 6, 1, 4>(y, x, w, rows, outputs, inputs);
}

KERNEL(128)
gemm_tensor_logits_narrow(float* y, const u16* x, const u16* w, u32 rows, u32 outputs,
                          u32 inputs) {
    multiply_tensor<16, 32, 64, 6, 1, 4>(y, x, w, rows, outputs, inputs);
}
