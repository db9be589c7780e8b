// The gate of a gated feed-forward layer (Shazeer 2020): out = silu(gate) * up.
#include "common.cuh"

// gate_up [rows, 2, width] -> out [rows, width]. Grid (rows, ceil(width / 256)).
KERNEL(256)
silu_mul(Scalar* out, const Scalar* gate_up, u32 width) {
    u32 i = blockIdx.y * blockDim.x + threadIdx.x;
    if (i >= width) {
        return;
    }
    u64 first = (u64)blockIdx.x * 2 * width;
    float gate = to_float(gate_up[first + i]);
    float up = to_float(gate_up[first + width + i]);
    out[(u64)blockIdx.x * width + i] = from_float(gate / (1.0f + expf(-gate)) * up);
}
