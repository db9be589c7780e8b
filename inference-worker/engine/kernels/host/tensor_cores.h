// Stands in for the instructions of tensor cores and asynchronous copies: what `tensor.cuh` writes in
// PTX for the device. Fragments are spread over the lanes of a warp as the PTX manual has them, so that
// kernels that place a value wrongly give wrong results here too.
#pragma once

#include "cuda_shim.h"

namespace shim {

inline float bf16_half(uint32_t pair, uint32_t which) {
    uint32_t bits = which ? pair & 0xffff0000u : pair << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

struct Fragments {
    uint32_t a[4];
    uint32_t b[2];
};

// A lane's two neighbours of one row in each of the four matrices, whose rows the lanes point to: eight
// lanes for a matrix. Transposed: two neighbours of one column.
inline void load_matrices(uint32_t (&to)[4], const void* row, bool transposed) {
    struct Rows;
    Exchange<Rows, const void*> rows(row);
    uint32_t lane = current % WARP_LANES;
    for (uint32_t matrix = 0; matrix < 4; matrix++) {
        uint16_t pair[2];
        for (uint32_t i = 0; i < 2; i++) {
            uint32_t along = lane % 4 * 2 + i;
            uint32_t across = lane / 4;
            const char* from = static_cast<const char*>(
                rows.of(matrix * 8 + (transposed ? along : across)));
            std::memcpy(&pair[i], from + 2 * (transposed ? across : along), 2);
        }
        to[matrix] = pair[0] | uint32_t(pair[1]) << 16;
    }
}

}  // namespace shim

inline void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    struct Mma;
    shim::Fragments own = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    shim::Exchange<Mma, shim::Fragments> all(own);
    uint32_t lane = shim::current % shim::WARP_LANES;
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t row = lane / 4 + i / 2 * 8;
        uint32_t column = lane % 4 * 2 + i % 2;
        for (uint32_t k = 0; k < 16; k++) {
            // Where the value of this row and of this column is: lane, register, half.
            uint32_t pair = k % 8 / 2;
            uint32_t left = all.of(row % 8 * 4 + pair).a[row / 8 + k / 8 * 2];
            uint32_t right = all.of(column * 4 + pair).b[k / 8];
            c[i] = fmaf(shim::bf16_half(left, k % 2), shim::bf16_half(right, k % 2), c[i]);
        }
    }
}

inline void ldmatrix(uint32_t (&to)[4], const void* row) {
    shim::load_matrices(to, row, false);
}

inline void ldmatrix_transposed(uint32_t (&to)[4], const void* row) {
    shim::load_matrices(to, row, true);
}

// A copy may be done at once or as late as it is waited for. In the one order of threads it is done at
// once, and whoever still reads what it writes over is wrong; in the other when it is waited for, and
// whoever reads without that is wrong.
inline void copy_async16(void* to, const void* from, bool there) {
    shim::Fiber& fiber = shim::fibers[shim::current];
    if (!shim::backwards || fiber.copies == shim::MOST_COPIES) {
        shim::Copy{to, from, there, 0}.run();
        return;
    }
    fiber.pending[fiber.copies++] = {to, from, there, fiber.groups};
}

inline void copy_commit() {
    shim::fibers[shim::current].groups++;
}

template <int REMAIN>
void copy_wait() {
    shim::Fiber& fiber = shim::fibers[shim::current];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < fiber.copies; i++) {
        if (fiber.pending[i].group + REMAIN < fiber.groups) {
            fiber.pending[i].run();
        } else {
            fiber.pending[kept++] = fiber.pending[i];
        }
    }
    fiber.copies = kept;
}
