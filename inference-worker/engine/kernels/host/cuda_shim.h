// Stands in for CUDA's built-ins, so that the kernels compile as C++ and run on a CPU in tests.
//
// Blocks run one after the other, in a given order; the threads of a block are fibers on one thread of
// the system. A fiber runs until it waits: at a barrier for its block, in a shuffle for its warp. What
// does not meet is an error, not a hang: a barrier that some threads of a block do not reach, a shuffle
// without all lanes. The order of blocks and fibers can be reversed; a kernel whose result changes with
// it reads what another thread writes without waiting.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __device__
#define __global__
#define __launch_bounds__(threads)
// All fibers of a block are on one thread of the system.
#define __shared__ static thread_local
#define KERNEL(threads) static void

struct uint4 {
    alignas(16) uint32_t x;
    uint32_t y, z, w;
};

struct float4 {
    alignas(16) float x;
    float y, z, w;
};

namespace shim {

struct Index {
    uint32_t x, y, z;
};

enum class State { Ready, AtBarrier, InShuffle, Done };

struct Fiber {
    ucontext_t context;
    State state;
    uint64_t exchanged;
};

constexpr size_t STACK = 128 * 1024;

inline thread_local std::vector<Fiber> fibers;
inline thread_local std::vector<char> stacks;
inline thread_local ucontext_t scheduler;
inline thread_local uint32_t current;
inline thread_local void (*body)(void*);
inline thread_local void* argument;
inline thread_local Index thread_index, block_index, block_size, grid_size;

inline void wait(State state) {
    Fiber& fiber = fibers[current];
    fiber.state = state;
    swapcontext(&fiber.context, &scheduler);
}

inline void enter() {
    body(argument);
    fibers[current].state = State::Done;
    swapcontext(&fibers[current].context, &scheduler);
}

// Whether every fiber of [first, last) is in `state`.
inline bool all(uint32_t first, uint32_t last, State state) {
    for (uint32_t i = first; i < last; i++) {
        if (fibers[i].state != state) {
            return false;
        }
    }
    return true;
}

// Runs one block to its end; false when some of its threads wait for others that do not come.
inline bool run_block(uint32_t threads, bool reversed) {
    for (uint32_t i = 0; i < threads; i++) {
        Fiber& fiber = fibers[i];
        fiber.state = State::Ready;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = stacks.data() + i * STACK;
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, enter, 0);
    }
    for (;;) {
        bool moved = false;
        for (uint32_t i = 0; i < threads; i++) {
            uint32_t which = reversed ? threads - 1 - i : i;
            if (fibers[which].state == State::Ready) {
                current = which;
                thread_index = {which, 0, 0};
                swapcontext(&scheduler, &fibers[which].context);
                moved = true;
            }
        }
        if (all(0, threads, State::Done)) {
            return true;
        }
        for (uint32_t first = 0; first < threads; first += 32) {
            if (all(first, first + 32, State::InShuffle)) {
                for (uint32_t i = first; i < first + 32; i++) {
                    fibers[i].state = State::Ready;
                }
                moved = true;
            }
        }
        if (all(0, threads, State::AtBarrier)) {
            for (uint32_t i = 0; i < threads; i++) {
                fibers[i].state = State::Ready;
            }
            moved = true;
        }
        if (!moved) {
            return false;
        }
    }
}

// 0; 1 when threads of a block did not meet; 2 for a block that is not whole warps.
template <class... Arguments>
int launch(void (*kernel)(Arguments...), const uint32_t* grid, uint32_t threads, int reversed,
           void** arguments) {
    if (threads == 0 || threads % 32 != 0 || threads > 1024) {
        return 2;
    }
    if (fibers.size() < threads) {
        fibers.resize(threads);
        stacks.resize(threads * STACK);
    }
    struct Call {
        void (*kernel)(Arguments...);
        void** arguments;
    } call = {kernel, arguments};
    argument = &call;
    body = [](void* opaque) {
        Call* call = static_cast<Call*>(opaque);
        [call]<size_t... I>(std::index_sequence<I...>) {
            call->kernel(*static_cast<std::decay_t<Arguments>*>(call->arguments[I])...);
        }(std::index_sequence_for<Arguments...>());
    };
    block_size = {threads, 1, 1};
    grid_size = {grid[0], grid[1], grid[2]};
    uint64_t blocks = uint64_t(grid[0]) * grid[1] * grid[2];
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t which = reversed ? blocks - 1 - i : i;
        block_index = {uint32_t(which % grid[0]), uint32_t(which / grid[0] % grid[1]),
                       uint32_t(which / grid[0] / grid[1])};
        if (!run_block(threads, reversed)) {
            return 1;
        }
    }
    return 0;
}

}  // namespace shim

#define threadIdx (::shim::thread_index)
#define blockIdx (::shim::block_index)
#define blockDim (::shim::block_size)
#define gridDim (::shim::grid_size)

inline void __syncthreads() {
    ::shim::wait(::shim::State::AtBarrier);
}

template <class T>
T __shfl_xor_sync(uint32_t, T value, int distance) {
    static_assert(sizeof(T) <= 8);
    uint32_t own = ::shim::current;
    std::memcpy(&::shim::fibers[own].exchanged, &value, sizeof(T));
    ::shim::wait(::shim::State::InShuffle);
    std::memcpy(&value, &::shim::fibers[own ^ uint32_t(distance)].exchanged, sizeof(T));
    // Nobody may overwrite a value that another lane has still to read.
    ::shim::wait(::shim::State::InShuffle);
    return value;
}

inline float __uint_as_float(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32_t __float_as_uint(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
