// FP8 E4M3 (Micikevicius et al. 2022): no infinities, largest finite value 448.
#pragma once
#include "common.cuh"

#define FP8_LARGEST 448.0f

// To the nearest, ties to even; values beyond the largest become the largest.
__device__ inline u8 fp8_encode(float value) {
    u32 bits = __float_as_uint(value);
    u8 sign = (u8)((bits >> 24) & 0x80u);
    u32 magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return (u8)(sign | 0x7fu);
    }
    float size = fminf(__uint_as_float(magnitude), FP8_LARGEST);
    if (size < 0.015625f) {
        // Subnormal, in steps of 2^-9; eight steps are the smallest normal number.
        return (u8)(sign | (u8)rintf(size * 512.0f));
    }
    u32 rounded = __float_as_uint(size);
    rounded += 0x7ffffu + ((rounded >> 20) & 1u);
    return (u8)(sign | (((rounded >> 20) - (120u << 3)) & 0x7fu));
}

__device__ inline float fp8_decode(u8 code) {
    u32 exponent = (code >> 3) & 15u;
    u32 mantissa = code & 7u;
    float size;
    if ((code & 0x7fu) == 0x7fu) {
        size = NOT_A_NUMBER;
    } else if (exponent == 0) {
        size = (float)mantissa / 512.0f;
    } else {
        size = __uint_as_float(((exponent + 120u) << 23) | (mantissa << 20));
    }
    return code & 0x80u ? -size : size;
}
