#include "block.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string_view>
#include <vector>

namespace emulator {
namespace {

// ---- fibers -----------------------------------------------------------------------------------------

// Not a power of two: the tops of all stacks, which is what threads use, shall not meet in one set of the cache.
constexpr size_t STACK_BYTES = 64 * 1024 + 5 * 64;

// A stack and where it was left. On x86-64 a switch is a dozen instructions; elsewhere the C library's.
#if defined(__x86_64__)
struct Context {
    void* stack_pointer;
};

extern "C" void emulator_switch(void** leave, void* enter);
asm(R"(
    .text
    .globl emulator_switch
    .hidden emulator_switch
    .type emulator_switch, @function
emulator_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
)");

void start(Context& context, char* stack, void (*function)()) {
    void** top = reinterpret_cast<void**>(stack + STACK_BYTES);
    *--top = nullptr;  // keeps the stack aligned as after a call
    *--top = reinterpret_cast<void*>(function);
    top -= 6;  // six saved registers of any value
    context.stack_pointer = top;
}

void change(Context& leave, Context& enter) { emulator_switch(&leave.stack_pointer, enter.stack_pointer); }
#else
using Context = ucontext_t;

void start(Context& context, char* stack, void (*function)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = STACK_BYTES;
    context.uc_link = nullptr;
    makecontext(&context, function, 0);
}

void change(Context& leave, Context& enter) { swapcontext(&leave, &enter); }
#endif

// ---- the block that runs now --------------------------------------------------------------------------

struct Fiber {
    Context context;
    Thread thread;
    uint32_t warp;
    Place place;
};

struct Warp {
    uint32_t alive, ready;                // lanes that have not returned; of these, those that can run
    uint32_t at_barrier;                  // lanes in a block barrier
    uint32_t meeting, masks[LANES];       // lanes in a collective, and the mask each gave
    uint32_t sources[LANES];              // of each, the lane whose bytes it wants
    uint64_t brought[LANES], got[LANES];  // what each brings, and what it gets
};

struct Block {
    const Kernel* kernel;
    const void* parameters;
    Dim3 index, size, grid;
    uint64_t number;       // counts all blocks ever run
    uint32_t ready_warps;  // those with a thread that can run
    size_t shared_bytes;
    uint32_t alive, at_barrier;
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    Fiber* current;
    Context outside;
    char* stacks;
    size_t stack_count;
};

constexpr char RETURNED[] = "a collective waits for lanes that have returned";
constexpr size_t MOST_SHARED_BYTES = 48 * 1024;

Block block;
Order order = Order::Forward;

// Numerical Recipes' generator: what matters is that it is quick, and the same everywhere.
struct Random {
    using result_type = uint32_t;
    static constexpr uint32_t min() { return 0; }
    static constexpr uint32_t max() { return UINT32_MAX; }
    uint32_t operator()() { return state = state * 1664525 + 1013904223; }
    uint32_t state;
} random_numbers;

uint32_t bit(const Fiber& fiber) { return 1u << fiber.thread.lane; }

void wake(Warp& warp, uint32_t lanes) {
    warp.ready |= lanes;
    if (lanes) block.ready_warps |= 1u << (&warp - block.warps.data());
}

// The thread cannot run until it is woken.
void rest(const Fiber& fiber) {
    Warp& warp = block.warps[fiber.warp];
    warp.ready &= ~bit(fiber);
    if (!warp.ready) block.ready_warps &= ~(1u << fiber.warp);
}

// The next of the bits, none of them 0, from bit `start` on, and round.
uint32_t next_bit(uint32_t bits, uint32_t start) { return (start + std::countr_zero(std::rotr(bits, start))) % 32; }
// The same downwards.
uint32_t bit_before(uint32_t bits, uint32_t start) {
    return (start - std::countl_zero(std::rotl(bits, 31 - start))) % 32;
}

// The next thread that can run, or null: of the current warp first, but in random order of any.
Fiber* choose() {
    if (!block.ready_warps) return nullptr;
    const uint32_t current = block.current ? block.current->warp : 0;
    uint32_t warp, lane;
    if (order == Order::Forward) {
        warp = next_bit(block.ready_warps, current);
        lane = std::countr_zero(block.warps[warp].ready);
    } else if (order == Order::Reverse) {
        warp = bit_before(block.ready_warps, current);
        lane = 31 - std::countl_zero(block.warps[warp].ready);
    } else {
        const uint32_t chance = random_numbers();
        warp = next_bit(block.ready_warps, chance >> 27);
        lane = next_bit(block.warps[warp].ready, chance >> 22 & 31);
    }
    return &block.fibers[warp * LANES + lane];
}

// Another thread goes on, if the current one cannot or if the order has it so.
void give_way() {
    Fiber* self = block.current;
    if (order != Order::Random && block.warps[self->warp].ready & bit(*self)) return;
    Fiber* next = choose();
    if (!next) fault("deadlock: no thread can go on");
    if (next == self) return;
    block.current = next;
    change(self->context, next->context);
}

bool same(const Place& a, const Place& b) { return a.line() == b.line() && a.column() == b.column(); }

void open_barrier() {
    const Place* place = nullptr;
    for (Fiber& fiber : block.fibers) {
        if (!(block.warps[fiber.warp].at_barrier & bit(fiber))) continue;
        if (place && !same(*place, fiber.place)) fault("threads wait in different barriers");
        place = &fiber.place;
    }
    for (Warp& warp : block.warps) {
        wake(warp, warp.at_barrier);
        warp.at_barrier = 0;
    }
    block.at_barrier = 0;
}

// A fiber's whole life.
void live() {
    block.kernel->entry(block.parameters);
    Fiber* self = block.current;
    Warp& warp = block.warps[self->warp];
    warp.alive &= ~bit(*self);
    rest(*self);
    block.alive--;
    for (uint32_t lane = 0; warp.meeting && lane < LANES; lane++) {
        if (warp.meeting >> lane & 1 && warp.masks[lane] & bit(*self)) fault(RETURNED);
    }
    if (block.alive && block.alive == block.at_barrier) open_barrier();
    if (!block.alive) {
        change(self->context, block.outside);
    } else {
        give_way();
    }
    abort();  // nobody returns to the dead
}

void run_block(Dim3 index) {
    block.index = index;
    block.number++;
    block.shared_bytes = 0;
    block.alive = block.fibers.size();
    block.at_barrier = 0;
    block.ready_warps = 0;
    for (Warp& warp : block.warps) warp.alive = warp.ready = warp.at_barrier = warp.meeting = 0;
    for (uint32_t i = 0; i < block.fibers.size(); i++) {
        Fiber& fiber = block.fibers[i];
        const Dim3 size = block.size;
        fiber.thread = {{i % size.x, i / size.x % size.y, i / (size.x * size.y)}, i % LANES};
        fiber.warp = i / LANES;
        block.warps[fiber.warp].alive |= bit(fiber);
        wake(block.warps[fiber.warp], bit(fiber));
        start(fiber.context, block.stacks + i * STACK_BYTES, live);
    }
    block.current = nullptr;
    block.current = choose();
    change(block.outside, block.current->context);
}

std::vector<Kernel>& kernels() {
    static std::vector<Kernel> all;
    return all;
}

}  // namespace

// ---- what runs a kernel -----------------------------------------------------------------------------

Registration::Registration(const char* name, uint32_t most_threads, size_t parameter_bytes, Entry entry) {
    kernels().push_back({name, most_threads, parameter_bytes, entry});
}

const Kernel* find_kernel(const char* name) {
    for (const Kernel& kernel : kernels()) {
        if (std::string_view(kernel.name) == name) return &kernel;
    }
    return nullptr;
}

void set_order(Order new_order, uint32_t seed) {
    order = new_order;
    random_numbers.state = seed;
}

void run_grid(const Kernel& kernel, const void* parameters, Dim3 grid, Dim3 size) {
    const size_t threads = size_t{size.x} * size.y * size.z;
    block.kernel = &kernel;
    block.parameters = parameters;
    block.grid = grid;
    block.size = size;
    block.fibers.resize(threads);
    block.warps.resize((threads + LANES - 1) / LANES);
    if (block.stack_count < threads) {
        if (block.stacks) munmap(block.stacks, block.stack_count * STACK_BYTES);
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void* stacks = mmap(nullptr, threads * STACK_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
        if (stacks == MAP_FAILED) fault("no memory for the stacks of a block");
        block.stacks = static_cast<char*>(stacks);
        block.stack_count = threads;
    }
    std::vector<uint64_t> blocks(uint64_t{grid.x} * grid.y * grid.z);
    std::iota(blocks.begin(), blocks.end(), 0);
    if (order == Order::Reverse) std::reverse(blocks.begin(), blocks.end());
    if (order == Order::Random) std::shuffle(blocks.begin(), blocks.end(), random_numbers);
    for (const uint64_t i : blocks) {
        run_block({uint32_t(i % grid.x), uint32_t(i / grid.x % grid.y), uint32_t(i / grid.x / grid.y)});
    }
    block.kernel = nullptr;
}

const Kernel* running() { return block.kernel; }

void fault(const char* what) {
    const char* name = block.kernel ? block.kernel->name : "no kernel";
    fprintf(stderr, "emulator: %s: %s in block (%u, %u, %u)\n", name, what, block.index.x, block.index.y, block.index.z);
    for (size_t i = 0; i < block.warps.size(); i++) {
        const Warp& warp = block.warps[i];
        if (!warp.alive) continue;
        fprintf(stderr, "  warp %zu: alive %08x, in a barrier %08x, in a collective %08x\n", i, warp.alive,
                warp.at_barrier, warp.meeting);
        for (const Fiber& fiber : block.fibers) {
            if (fiber.warp != i || !((warp.at_barrier | warp.meeting) & bit(fiber))) continue;
            fprintf(stderr, "    lane %u waits at %s:%u\n", fiber.thread.lane, fiber.place.file_name(),
                    fiber.place.line());
        }
    }
    abort();
}

// ---- what a kernel calls ----------------------------------------------------------------------------

const Thread& this_thread() { return block.current->thread; }
Dim3 block_index() { return block.index; }
Dim3 block_size() { return block.size; }
Dim3 grid_size() { return block.grid; }

void block_barrier(Place place) {
    Fiber& self = *block.current;
    Warp& warp = block.warps[self.warp];
    self.place = place;
    rest(self);
    warp.at_barrier |= bit(self);
    if (++block.at_barrier == block.alive) open_barrier();
    give_way();
}

uint64_t exchange(uint32_t mask, uint64_t bytes, uint32_t source, Place place) {
    Fiber& self = *block.current;
    Warp& warp = block.warps[self.warp];
    const uint32_t lane = self.thread.lane;
    if (!(mask & bit(self))) fault("a lane is not in the mask it gives");
    if (mask & ~warp.alive) fault(RETURNED);
    if (source >= LANES || !(mask >> source & 1)) fault("a lane wants the value of one that is not in the mask");
    self.place = place;
    warp.masks[lane] = mask;
    warp.sources[lane] = source;
    warp.brought[lane] = bytes;
    rest(self);
    warp.meeting |= bit(self);
    if ((warp.meeting & mask) == mask) {
        for (uint32_t i = 0; i < LANES; i++) {
            if (!(mask >> i & 1)) continue;
            if (warp.masks[i] != mask) fault("lanes meet with different masks");
            if (!same(block.fibers[self.warp * LANES + i].place, place)) fault("lanes meet in different collectives");
            warp.got[i] = warp.brought[warp.sources[i]];
        }
        warp.meeting &= ~mask;
        wake(warp, mask);
    }
    give_way();
    return warp.got[lane];
}

void Shared::enter(void* memory, size_t bytes) {
    if (entered == block.number) return;
    entered = block.number;
    block.shared_bytes += bytes;
    if (block.shared_bytes > MOST_SHARED_BYTES) fault("more than 48 KiB of shared memory");
    memset(memory, 0xff, bytes);
}

}  // namespace emulator
