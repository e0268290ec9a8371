#include "memory.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <map>

#include "block.h"

namespace emulator {
namespace {

// The widest load of a kernel. A larger alignment would leave a larger gap before the guard page.
constexpr size_t ALIGNMENT = 32;
constexpr size_t TOTAL_BYTES = size_t{8} << 30;

struct Allocation {
    size_t bytes;
    char* mapping;
    size_t mapped;
};

std::map<char*, Allocation> allocations;
size_t used_bytes = 0;

size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

void on_wild_access(int, siginfo_t* info, void*) {
    const char* address = static_cast<const char*>(info->si_addr);
    const Kernel* kernel = running();
    if (!kernel) {
        signal(SIGSEGV, SIG_DFL);  // not ours: let it happen again
        return;
    }
    fprintf(stderr, "emulator: %s touches memory it has no right to, at %p", kernel->name, address);
    for (const auto& [start, allocation] : allocations) {
        if (address >= allocation.mapping && address < allocation.mapping + allocation.mapped) {
            fprintf(stderr, ", %zd bytes past an allocation of %zu", address - (start + allocation.bytes), allocation.bytes);
        }
    }
    fprintf(stderr, "\n");
    fault("memory fault");
}

}  // namespace

void* allocate(size_t bytes) {
    if (bytes > TOTAL_BYTES - used_bytes) return nullptr;
    const size_t page = sysconf(_SC_PAGESIZE), room = round_up(bytes, ALIGNMENT), pages = round_up(room, page);
    void* mapping = mmap(nullptr, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) return nullptr;
    char* first = static_cast<char*>(mapping);
    mprotect(first + pages, page, PROT_NONE);
    memset(first, 0xff, pages);
    char* start = first + pages - room;
    allocations[start] = {bytes, first, pages + page};
    used_bytes += bytes;
    return start;
}

bool release(void* memory) {
    const auto found = allocations.find(static_cast<char*>(memory));
    if (found == allocations.end()) return false;
    munmap(found->second.mapping, found->second.mapped);
    used_bytes -= found->second.bytes;
    allocations.erase(found);
    return true;
}

bool is_allocated(const void* memory, size_t bytes) {
    char* start = static_cast<char*>(const_cast<void*>(memory));
    auto after = allocations.upper_bound(start);
    if (after == allocations.begin()) return false;
    const auto& [first, allocation] = *std::prev(after);
    return bytes <= allocation.bytes && size_t(start - first) <= allocation.bytes - bytes;
}

size_t total_memory() { return TOTAL_BYTES; }
size_t free_memory() { return TOTAL_BYTES - used_bytes; }

void watch_accesses() {
    // The handler needs a stack of its own: the fiber's may be what overflowed.
    static char stack[64 * 1024];
    stack_t own{};
    own.ss_sp = stack;
    own.ss_size = sizeof stack;
    sigaltstack(&own, nullptr);
    struct sigaction action {};
    action.sa_sigaction = on_wild_access;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
}

}  // namespace emulator
