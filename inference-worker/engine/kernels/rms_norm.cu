// RMSNorm (Zhang and Sennrich 2019), alone and with the residual addition before it.
// One block of 256 threads per row. Each thread sums the squares of every 256th value, then block_sum.
#include "common.cuh"

__device__ inline float inverse_rms(float squares, u32 width, float epsilon) {
    return 1.0f / sqrtf(squares / (float)width + epsilon);
}

// out[row] = x[row] / rms(x[row]) * weight, for x [rows, width].
template <class Out, class Rounding>
__device__ inline void normalise(Out* out, const Scalar* x, const Scalar* weight, u32 width,
                                 float epsilon, Rounding rounding) {
    __shared__ float parts[8];
    u64 first = (u64)blockIdx.x * width;
    float squares = 0.0f;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        float value = to_float(x[first + i]);
        squares = fmaf(value, value, squares);
    }
    float inverse = inverse_rms(block_sum(squares, parts), width, epsilon);
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        put(out + first + i, to_float(x[first + i]) * inverse * to_float(weight[i]), rounding);
    }
}

KERNEL(256)
rms_norm(Scalar* out, const Scalar* x, const Scalar* weight, u32 width, float epsilon) {
    normalise(out, x, weight, width, epsilon, Rounded());
}

// The same, not rounded to storage: hidden states for whoever asked for them.
KERNEL(256)
rms_norm_f32(float* out, const Scalar* x, const Scalar* weight, u32 width, float epsilon) {
    normalise(out, x, weight, width, epsilon, Exact());
}

// residual += x, rounded to storage; out = rms_norm of the rounded residual. The bits are those of the
// addition followed by rms_norm.
KERNEL(256)
add_rms_norm(Scalar* out, Scalar* residual, const Scalar* x, const Scalar* weight, u32 width,
             float epsilon) {
    __shared__ float parts[8];
    u64 first = (u64)blockIdx.x * width;
    float squares = 0.0f;
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        Scalar sum = from_float(to_float(residual[first + i]) + to_float(x[first + i]));
        residual[first + i] = sum;
        float value = to_float(sum);
        squares = fmaf(value, value, squares);
    }
    float inverse = inverse_rms(block_sum(squares, parts), width, epsilon);
    for (u32 i = threadIdx.x; i < width; i += blockDim.x) {
        out[first + i] = from_float(to_float(residual[first + i]) * inverse * to_float(weight[i]));
    }
}
