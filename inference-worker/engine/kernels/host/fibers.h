// Threads of a block as fibers: each has a stack of its own and runs until it hands over. The switch is
// written by hand where that is known how, because a block of a kernel switches some thousand times
// and that of the C library asks the system each time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#if defined(__ELF__) && (defined(__x86_64__) || defined(__aarch64__))
#define FIBERS_BY_HAND 1
#else
#define FIBERS_BY_HAND 0
#include <ucontext.h>
#endif

namespace shim {

constexpr size_t STACK = 128 * 1024;

#if FIBERS_BY_HAND

// Where a stack that does not run was left: its registers are on it.
struct Context {
    void* stack;
};

extern "C" __attribute__((visibility("hidden"))) void openledger_switch(void** from, void* to);

#if defined(__x86_64__)
// A jump in place of the return, whose target the processor would expect to be the caller's.
asm(R"(
    .pushsection .text
    .p2align 4
    .globl openledger_switch
    .hidden openledger_switch
    .type openledger_switch, @function
openledger_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    popq %rcx
    jmpq *%rcx
    .size openledger_switch, .-openledger_switch
    .popsection
)");

// Six registers and the address to return to; the word above keeps the stack aligned as a call would.
inline void prepare(Context& context, char* stack, void (*entry)()) {
    void** top = reinterpret_cast<void**>(stack + STACK);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; i++) {
        *--top = nullptr;
    }
    context.stack = top;
}
#else
asm(R"(
    .pushsection .text
    .p2align 4
    .globl openledger_switch
    .hidden openledger_switch
    .type openledger_switch, %function
openledger_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size openledger_switch, .-openledger_switch
    .popsection
)");

// Twenty registers, of which the twelfth is the address to return to.
inline void prepare(Context& context, char* stack, void (*entry)()) {
    void** top = reinterpret_cast<void**>(stack + STACK) - 20;
    for (int i = 0; i < 20; i++) {
        top[i] = nullptr;
    }
    top[11] = reinterpret_cast<void*>(entry);
    context.stack = top;
}
#endif

inline void hand_over(Context& from, Context& to) {
    openledger_switch(&from.stack, to.stack);
}

#else

struct Context {
    ucontext_t state;
};

inline void prepare(Context& context, char* stack, void (*entry)()) {
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = stack;
    context.state.uc_stack.ss_size = STACK;
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}

inline void hand_over(Context& from, Context& to) {
    swapcontext(&from.state, &to.state);
}

#endif

// Memory for the stacks of a block, kept from launch to launch. Not touched before a fiber runs on it.
struct Stacks {
    char* memory = nullptr;
    size_t count = 0;

    ~Stacks() {
        std::free(memory);
    }

    bool reserve(size_t wanted) {
        if (wanted > count) {
            std::free(memory);
            memory = static_cast<char*>(std::aligned_alloc(64, wanted * STACK));
            count = memory ? wanted : 0;
        }
        return memory != nullptr;
    }

    char* stack(size_t index) const {
        return memory + index * STACK;
    }
};

}  // namespace shim
