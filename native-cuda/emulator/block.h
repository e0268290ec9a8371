// Blocks of threads on a CPU. The threads of a block are fibers on one OS thread; a fiber gives the CPU
// away only where it must wait for others: at a barrier, or in a warp's collective operation. Blocks run
// one after the other.
//
// That is enough to show the faults that matter, because the order is a choice (`Order`):
//   * a missing barrier: some order reads what has not been written yet;
//   * a collective that not all lanes of its mask reach, or reach at different places: named and aborted;
//   * a barrier that not all threads reach: a deadlock, named and aborted;
//   * shared memory read before it is written: every block finds it full of NaN;
//   * blocks that rely on one another: they run forwards, backwards or shuffled.
// Not shown: timing, bank conflicts, weak memory order, blocks that wait for one another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>

namespace emulator {

struct Dim3 {
    uint32_t x = 1, y = 1, z = 1;
};

// Which of the threads that can run goes on.
enum class Order { Forward, Reverse, Random };

// Where in a kernel's text an operation stands.
using Place = std::source_location;

// ---- what runs a kernel ---------------------------------------------------------------------------

using Entry = void (*)(const void* parameters);

// A kernel, registered by the macro KERNEL.
struct Kernel {
    const char* name;
    uint32_t most_threads;
    size_t parameter_bytes;
    Entry entry;
};

struct Registration {
    Registration(const char* name, uint32_t most_threads, size_t parameter_bytes, Entry entry);
};

// The kernel of a name, or null.
const Kernel* find_kernel(const char* name);

// Every launch from now on uses this order; `seed` is for Random.
void set_order(Order order, uint32_t seed);

// Runs all blocks of a grid. A fault in the kernel is told on stderr and ends the process.
void run_grid(const Kernel& kernel, const void* parameters, Dim3 grid, Dim3 block);

// The kernel that runs now, for messages; null between launches.
const Kernel* running();

// Tells what is wrong, with the state of all warps, and aborts.
[[noreturn]] void fault(const char* what);

// ---- what a kernel calls ----------------------------------------------------------------------------

constexpr uint32_t LANES = 32;

struct Thread {
    Dim3 index;
    uint32_t lane;
};

const Thread& this_thread();
Dim3 block_index();
Dim3 block_size();
Dim3 grid_size();

// All threads of the block that have not returned meet here.
void block_barrier(Place place);

// The lanes of `mask` meet here. Each brings eight bytes and gets those that lane `source` brings.
uint64_t exchange(uint32_t mask, uint64_t bytes, uint32_t source, Place place);

// Shared memory of one declaration: filled with NaN when the first thread of a block comes by.
class Shared {
public:
    void enter(void* memory, size_t bytes);

private:
    uint64_t entered = 0;  // number of the block
};

}  // namespace emulator
