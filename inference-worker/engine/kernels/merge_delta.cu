// The weights of a base with one adapter merged in: out = gain * base + scale * B A (Hu et al. 2021;
// the gain of a DoRA). Taking
// the delta off again would not give the base back in BF16, so the base is read, not changed; out may
// be base where it is kept elsewhere.
#include "common.cuh"

// out, base [outputs, inputs]; a [rank, inputs]; b [outputs, rank]; gain [outputs] or null. The sum over ranks is one chain in
// order. Grid (outputs, ceil(inputs / 256)).
KERNEL(256)
merge_delta(Scalar* out, const Scalar* base, const Scalar* a, const Scalar* b, const float* gain,
            u32 rank, float scale, u32 inputs) {
    u32 input = blockIdx.y * blockDim.x + threadIdx.x;
    if (input >= inputs) {
        return;
    }
    u64 output = blockIdx.x;
    float sum = 0.0f;
    for (u32 r = 0; r < rank; r++) {
        sum = fmaf(to_float(b[output * rank + r]), to_float(a[(u64)r * inputs + input]), sum);
    }
    u64 at = output * inputs + input;
    float kept = to_float(base[at]) * (gain ? gain[output] : 1.0f);
    out[at] = from_float(fmaf(scale, sum, kept));
}
