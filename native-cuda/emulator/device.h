// The CUDA language on a CPU, as far as the kernels use it: what `prelude.cuh` includes when it is not
// NVRTC that reads it. Grows with the kernels; what is missing does not compile.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "block.h"

using u16 = uint16_t;
using u32 = uint32_t;
using u64 = unsigned long long;

#define DEVICE static inline
#define DEVICE_METHOD inline

// A kernel is a function that registers itself by its name.
#define KERNEL(threads, name, Params)                                                                             \
    static void name(const Params p);                                                                             \
    static const emulator::Registration name##_registration(                                                      \
        #name, threads, sizeof(Params), [](const void* p) { name(*static_cast<const Params*>(p)); });             \
    static void name([[maybe_unused]] const Params p)

// Blocks run one after the other: a static variable is a block's shared memory.
#define SHARED(type, name, dimensions)        \
    alignas(16) static type name dimensions;  \
    static emulator::Shared name##_of_block;  \
    name##_of_block.enter(&name, sizeof name)

#define threadIdx (emulator::this_thread().index)
#define blockIdx (emulator::block_index())
#define blockDim (emulator::block_size())
#define gridDim (emulator::grid_size())

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    u32 x, y, z, w;
};

inline u32 min(u32 a, u32 b) { return a < b ? a : b; }
inline u32 max(u32 a, u32 b) { return a > b ? a : b; }

inline float __uint_as_float(u32 bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
inline u32 __float_as_uint(float x) {
    u32 bits;
    memcpy(&bits, &x, 4);
    return bits;
}

// ---- what threads do together -----------------------------------------------------------------------

inline void __syncthreads(emulator::Place place = emulator::Place::current()) { emulator::block_barrier(place); }

inline void __syncwarp(u32 mask = 0xffffffffu, emulator::Place place = emulator::Place::current()) {
    emulator::exchange(mask, 0, emulator::this_thread().lane, place);
}

template <class T> T __shfl_sync(u32 mask, T x, u32 source, emulator::Place place = emulator::Place::current()) {
    static_assert(sizeof(T) <= 8);
    u64 bytes = 0;
    memcpy(&bytes, &x, sizeof x);
    bytes = emulator::exchange(mask, bytes, source % emulator::LANES, place);
    memcpy(&x, &bytes, sizeof x);
    return x;
}

template <class T> T __shfl_xor_sync(u32 mask, T x, u32 flip, emulator::Place place = emulator::Place::current()) {
    return __shfl_sync(mask, x, emulator::this_thread().lane ^ flip, place);
}

// ---- IEEE half precision ------------------------------------------------------------------------------

inline float f16_to_f32(u16 bits) {
    const u32 sign = u32(bits & 0x8000) << 16, magnitude = bits & 0x7fff;
    if (magnitude >= 0x7c00) return __uint_as_float(sign | 0x7f800000 | u32(magnitude & 0x3ff) << 13);
    // As the bits of a single it is 2^-112 of what it should be, subnormals included.
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(magnitude << 13) * 0x1p112f));
}

// To the nearest; ties to even.
inline u16 f32_to_f16(float x) {
    const u32 sign = __float_as_uint(x) >> 16 & 0x8000, magnitude = __float_as_uint(x) & 0x7fffffff;
    if (magnitude > 0x7f800000) return u16(sign | 0x7e00);
    if (magnitude >= 0x477ff000) return u16(sign | 0x7c00);  // rounds to 65536 or more
    if (magnitude < 0x38800000) {
        // Subnormal: the addition rounds to multiples of 2^-24, which then are the low bits.
        return u16(sign | (__float_as_uint(__uint_as_float(magnitude) + 0.5f) - __float_as_uint(0.5f)));
    }
    return u16(sign | ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13));
}
