// Where the outputs of each site are in a row of y.
#pragma once
#include "common.cuh"

#define MAX_SITES 4

struct Spans {
    u32 offset[MAX_SITES];
    u32 width[MAX_SITES];
};
