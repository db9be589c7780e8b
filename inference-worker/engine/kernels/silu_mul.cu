// The gate of a gated feed-forward layer (Shazeer 2020): out = silu(gate) * up.
#include "common.cuh"

// gate_up [rows, 2, width] -> out [rows, width]. Grid (ceil(width / 256), rows).
KERNEL(256)
silu_mul(Scalar* out, const Scalar* gate_up, u32 width) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= width) {
        return;
    }
    u64 first = (u64)blockIdx.y * 2 * width;
    float gate = to_float(gate_up[first + i]);
    float up = to_float(gate_up[first + width + i]);
    out[(u64)blockIdx.y * width + i] = from_float(gate / (1.0f + expf(-gate)) * up);
}
