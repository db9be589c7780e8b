// Stands in for CUDA's built-ins, so that the kernels compile as C++ and run on a CPU in tests.
//
// Blocks run one after the other, in a given order; the threads of a block are fibers on one thread of
// the system. A fiber runs until it waits: at a barrier for its block, in an exchange for its warp. What
// does not meet is an error, not a hang: a barrier that some threads of a block do not reach, an
// exchange without all lanes. The order of blocks and fibers can be reversed; a kernel whose result
// changes with it reads what another thread writes without waiting.
//
// The state is one for the library: launches beside each other need a copy of it each. It is not the
// thread's, because kernels reach for it at every step, and in a library that is loaded at run time
// that would be a call each time.
#pragma once

#include "fibers.h"

#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#define __device__
#define __global__
#define __launch_bounds__(threads)
// All fibers of a block are on one thread of the system, and one launch runs in a library at a time.
#define __shared__ static
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

enum class State : uint8_t { Ready, AtBarrier, InExchange, Done };

constexpr uint32_t WARP_LANES = 32;
constexpr uint32_t MOST_THREADS = 1024;
constexpr size_t MOST_EXCHANGED = 64;

constexpr uint32_t MOST_COPIES = 128;

// An asynchronous copy of sixteen bytes, or of zeros, that has not been done yet.
struct Copy {
    void* to;
    const void* from;
    bool there;
    uint32_t group;

    void run() const {
        if (there) {
            std::memcpy(to, from, 16);
        } else {
            std::memset(to, 0, 16);
        }
    }
};

struct Fiber {
    Context context;
    State state;
    // Which of the two places the next exchange uses. With two, a lane may offer its next value while
    // others have still to read its last one: they are read before the exchange after that begins.
    uint8_t turn;
    // What the lane takes part in: lanes of one exchange must agree.
    const void* kind;
    alignas(16) unsigned char offered[2][MOST_EXCHANGED];
    uint32_t groups;
    uint32_t copies;
    Copy pending[MOST_COPIES];
};

static Fiber fibers[MOST_THREADS];
static Stacks stacks;
static Context scheduler;
static uint32_t current;
static bool backwards;
static void (*body)(void*);
static void* argument;
static Index thread_index, block_index, block_size, grid_size;

inline void wait(State state) {
    Fiber& fiber = fibers[current];
    fiber.state = state;
    hand_over(fiber.context, scheduler);
}

inline void enter() {
    body(argument);
    wait(State::Done);
}

// Offers a value to the warp and gives that of every lane, by number of the lane.
template <class Kind, class T>
class Exchange {
    static_assert(sizeof(T) <= MOST_EXCHANGED && std::is_trivially_copyable_v<T>);
    static constexpr char KIND = 0;
    const Fiber* warp;
    uint8_t turn;

  public:
    explicit Exchange(const T& value) {
        Fiber& own = fibers[current];
        warp = fibers + current / WARP_LANES * WARP_LANES;
        turn = own.turn;
        own.turn ^= 1;
        own.kind = &KIND;
        std::memcpy(own.offered[turn], &value, sizeof(T));
        wait(State::InExchange);
    }

    T of(uint32_t lane) const {
        T value;
        std::memcpy(&value, warp[lane % WARP_LANES].offered[turn], sizeof(T));
        return value;
    }
};

// Runs the lanes of a warp until all of them wait at a barrier or are done; false when some wait for an
// exchange that not all come to.
inline bool run_warp(uint32_t first) {
    for (;;) {
        for (uint32_t i = 0; i < WARP_LANES; i++) {
            uint32_t which = first + (backwards ? WARP_LANES - 1 - i : i);
            if (fibers[which].state == State::Ready) {
                current = which;
                thread_index = {which, 0, 0};
                hand_over(scheduler, fibers[which].context);
            }
        }
        uint32_t exchanging = 0;
        bool agree = true;
        for (uint32_t i = first; i < first + WARP_LANES; i++) {
            exchanging += fibers[i].state == State::InExchange;
            agree &= fibers[i].kind == fibers[first].kind;
        }
        if (exchanging == 0) {
            return true;
        }
        if (exchanging != WARP_LANES || !agree) {
            return false;
        }
        for (uint32_t i = first; i < first + WARP_LANES; i++) {
            fibers[i].state = State::Ready;
        }
    }
}

// Runs one block to its end; false when some of its threads wait for others that do not come.
inline bool run_block(uint32_t threads) {
    for (uint32_t i = 0; i < threads; i++) {
        fibers[i].state = State::Ready;
        fibers[i].turn = 0;
        fibers[i].kind = nullptr;
        fibers[i].groups = 0;
        fibers[i].copies = 0;
        prepare(fibers[i].context, stacks.stack(i), enter);
    }
    for (;;) {
        for (uint32_t first = 0; first < threads; first += WARP_LANES) {
            if (!run_warp(backwards ? threads - WARP_LANES - first : first)) {
                return false;
            }
        }
        uint32_t done = 0;
        for (uint32_t i = 0; i < threads; i++) {
            done += fibers[i].state == State::Done;
        }
        if (done != 0) {
            return done == threads;
        }
        for (uint32_t i = 0; i < threads; i++) {
            fibers[i].state = State::Ready;
        }
    }
}

// 0; 1 when threads of a block did not meet; 2 for a block that is not whole warps; 3 without memory.
template <class... Arguments>
int launch(void (*kernel)(Arguments...), const uint32_t* grid, uint32_t threads, int reversed,
           void** arguments) {
    if (threads == 0 || threads % WARP_LANES != 0 || threads > MOST_THREADS) {
        return 2;
    }
    if (!stacks.reserve(threads)) {
        return 3;
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
    backwards = reversed != 0;
    block_size = {threads, 1, 1};
    grid_size = {grid[0], grid[1], grid[2]};
    uint64_t blocks = uint64_t(grid[0]) * grid[1] * grid[2];
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t which = reversed ? blocks - 1 - i : i;
        block_index = {uint32_t(which % grid[0]), uint32_t(which / grid[0] % grid[1]),
                       uint32_t(which / grid[0] / grid[1])};
        if (!run_block(threads)) {
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
    struct Shuffle;
    uint32_t own = ::shim::current;
    return ::shim::Exchange<Shuffle, T>(value).of(own ^ uint32_t(distance));
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

#include "tensor_cores.h"

// A kernel as a function of the arguments of cuLaunchKernel.
#define LAUNCH(name)                                                                             \
    extern "C" __attribute__((visibility("default"))) int launch_##name(                        \
        const uint32_t* grid, uint32_t threads, int reversed, void** arguments) {                \
        return shim::launch(name, grid, threads, reversed, arguments);                           \
    }
