// The plain deterministic matrix product: the reference of every faster one, and what the deterministic
// mode runs. y [rows, outputs] = x [rows, inputs] * w [outputs, inputs]^T. Tiles of 64 x 64 outputs, 16
// inputs at a time; an output is one chain of fused multiply-adds over the inputs in order, whatever
// the number of rows. Grid (ceil(outputs / 64), ceil(rows / 64)), 256 threads with 4 x 4 outputs each.
#include "fp8.cuh"

#define TILE 64u
#define STEP 16u

struct ScalarWeights {
    const Scalar* values;
    __device__ float get(u32 output, u32 input, u32 inputs) const {
        return to_float(values[(u64)output * inputs + input]);
    }
};

// Groups of `group` inputs share a scale: scales [outputs, ceil(inputs / group)].
struct Int8Weights {
    const i8* values;
    const float* scales;
    u32 group;
    __device__ float get(u32 output, u32 input, u32 inputs) const {
        u32 groups = (inputs + group - 1) / group;
        return (float)values[(u64)output * inputs + input] *
               scales[(u64)output * groups + input / group];
    }
};

// Two inputs in a byte, the even one in the low half; inputs and group are even.
struct Int4Weights {
    const u8* values;
    const float* scales;
    u32 group;
    __device__ float get(u32 output, u32 input, u32 inputs) const {
        u32 groups = (inputs + group - 1) / group;
        u32 pair = values[(u64)output * (inputs / 2) + input / 2];
        int nibble = (int)((pair >> (input % 2 * 4)) & 15u);
        int value = nibble >= 8 ? nibble - 16 : nibble;
        return (float)value * scales[(u64)output * groups + input / group];
    }
};

// One scale for each output.
struct Fp8Weights {
    const u8* values;
    const float* scales;
    __device__ float get(u32 output, u32 input, u32 inputs) const {
        return fp8_decode(values[(u64)output * inputs + input]) * scales[output];
    }
};

template <class Rounding, class Out, class Weights>
__device__ inline void multiply(Out* y, const Scalar* x, Weights weights, u32 rows, u32 outputs,
                                u32 inputs) {
    __shared__ float left[STEP][TILE + 1];
    __shared__ float right[STEP][TILE + 1];
    u32 first_output = blockIdx.x * TILE;
    u32 first_row = blockIdx.y * TILE;
    u32 column = threadIdx.x % 16;
    u32 line = threadIdx.x / 16;
    float sums[4][4] = {};
    for (u32 start = 0; start < inputs; start += STEP) {
        // Neighbouring threads read neighbouring inputs.
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            u32 which = line + i * 16;
            u32 input = start + column;
            u32 row = first_row + which;
            u32 output = first_output + which;
            left[column][which] =
                row < rows && input < inputs ? to_float(x[(u64)row * inputs + input]) : 0.0f;
            right[column][which] =
                output < outputs && input < inputs ? weights.get(output, input, inputs) : 0.0f;
        }
        __syncthreads();
        u32 steps = inputs - start < STEP ? inputs - start : STEP;
        for (u32 k = 0; k < steps; k++) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
#pragma unroll
                for (u32 j = 0; j < 4; j++) {
                    sums[i][j] = fmaf(left[k][line + i * 16], right[k][column + j * 16], sums[i][j]);
                }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            u32 row = first_row + line + i * 16;
            u32 output = first_output + column + j * 16;
            if (row < rows && output < outputs) {
                put(y + (u64)row * outputs + output, sums[i][j], Rounding());
            }
        }
    }
}

KERNEL(256)
gemm(Scalar* y, const Scalar* x, const Scalar* w, u32 rows, u32 outputs, u32 inputs) {
    multiply<Rounded>(y, x, ScalarWeights{w}, rows, outputs, inputs);
}

// Logits are not rounded to the storage of the model.
KERNEL(256)
gemm_logits(float* y, const Scalar* x, const Scalar* w, u32 rows, u32 outputs, u32 inputs) {
    multiply<Exact>(y, x, ScalarWeights{w}, rows, outputs, inputs);
}

KERNEL(256)
gemm_int8(Scalar* y, const Scalar* x, const i8* w, const float* scales, u32 group, u32 rows,
          u32 outputs, u32 inputs) {
    multiply<Rounded>(y, x, Int8Weights{w, scales, group}, rows, outputs, inputs);
}

KERNEL(256)
gemm_int4(Scalar* y, const Scalar* x, const u8* w, const float* scales, u32 group, u32 rows,
          u32 outputs, u32 inputs) {
    multiply<Rounded>(y, x, Int4Weights{w, scales, group}, rows, outputs, inputs);
}

KERNEL(256)
gemm_fp8(Scalar* y, const Scalar* x, const u8* w, const float* scales, u32 rows, u32 outputs,
         u32 inputs) {
    multiply<Rounded>(y, x, Fp8Weights{w, scales}, rows, outputs, inputs);
}
