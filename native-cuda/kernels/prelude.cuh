// What every kernel begins with: the language, number formats, the step table, views of activations,
// where keys and values lie, reductions.
//
// NVRTC compiles this text without any NVIDIA header. g++ compiles the same text for the emulator, which
// then supplies the language (`emulator/device.h`). Kernels are written in what both have:
//   KERNEL(threads, name, Params) { ... p.field ... }   at most `threads` threads a block; parameters are `p`
//   SHARED(float, tile, [16][64]);                      shared memory of the block
// and `__syncthreads`, `__syncwarp`, `__shfl_*_sync` from CUDA. A Params struct here and the struct of the
// same name in `src/ops` are one and the same memory; a test compares their sizes.
#pragma once

#if defined(__CUDACC__)
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
#define KERNEL(threads, name, Params) \
    extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Params p)
#define SHARED(type, name, dimensions) __shared__ __align__(16) type name dimensions
#define INFINITY __int_as_float(0x7f800000)
#define DEVICE static __device__ __forceinline__
#define DEVICE_METHOD __device__ __forceinline__
#else
#include "device.h"
#endif

// Every lane of a warp.
constexpr u32 ALL_LANES = 0xffffffffu;
constexpr u32 WARP = 32;

// ---- number formats: all arithmetic is in f32 ----------------------------------------------------

struct f16 {
    u16 bits;
};
struct bf16 {
    u16 bits;
};

#if defined(__CUDACC__)
DEVICE float widen(f16 x) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(x.bits));
    return result;
}
DEVICE f16 narrow_f16(float x) {
    f16 result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
    return result;
}
#else
inline float widen(f16 x) { return f16_to_f32(x.bits); }
inline f16 narrow_f16(float x) { return {f32_to_f16(x)}; }
#endif
DEVICE float widen(float x) { return x; }
DEVICE float widen(bf16 x) { return __uint_as_float((u32)x.bits << 16); }

DEVICE void store(float* at, float x) { *at = x; }
DEVICE void store(f16* at, float x) { *at = narrow_f16(x); }

// Eight consecutive numbers, of which the first lies on a 16-byte boundary.
DEVICE void load8(const float* at, float (&out)[8]) {
    const float4 a = *(const float4*)at, b = *(const float4*)(at + 4);
    out[0] = a.x, out[1] = a.y, out[2] = a.z, out[3] = a.w;
    out[4] = b.x, out[5] = b.y, out[6] = b.z, out[7] = b.w;
}
template <class Half> DEVICE void load8(const Half* at, float (&out)[8]) {
    const uint4 v = *(const uint4*)at;
    const u32 pairs[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        out[2 * i] = widen(Half{(u16)pairs[i]});
        out[2 * i + 1] = widen(Half{(u16)(pairs[i] >> 16)});
    }
}

// ---- activations ---------------------------------------------------------------------------------

// Columns of a value: f32 [rows, width], rows `pitch` numbers apart.
struct View {
    float* data;
    u32 pitch;
    u32 width;

    DEVICE_METHOD float* row(u32 r) const { return data + (u64)r * pitch; }
};

// Pointwise functions, numbered as in `Function` of src/ops.
DEVICE float apply(u32 function, float x) {
    switch (function) {
        case 1: return x / (1.0f + expf(-x));
        case 2: return x > 0.0f ? x * x : 0.0f;
        case 3: return 1.0f / (1.0f + expf(-x));
        default: return x;
    }
}

// ln(1 + exp(x)), linear above 20 where f32 shows no difference.
DEVICE float softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }

// ---- the step table ------------------------------------------------------------------------------

struct Row {
    u32 token, slot, position, span;
};
struct Span {
    u32 slot, first_row, first_position, rows;
};

// A token id that means: the token last sampled in the row's slot.
constexpr u32 TOKEN_OF_SLOT = 0xffffffffu;

// What this step is about, in 32-bit words:
//   rows, spans, outputs, capacity in rows; then, each part as long as its capacity,
//   4 words a row, 4 words a span (never more than rows), 1 word an output.
struct Step {
    const u32* words;

    // Words of the header, and what `Count` of src/ops chooses among.
    DEVICE_METHOD u32 rows() const { return words[0]; }
    DEVICE_METHOD u32 spans() const { return words[1]; }
    DEVICE_METHOD u32 outputs() const { return words[2]; }
    DEVICE_METHOD u32 capacity() const { return words[3]; }

    DEVICE_METHOD Row row(u32 r) const {
        const uint4 w = *(const uint4*)(words + 4 + 4 * r);
        return {w.x, w.y, w.z, w.w};
    }
    DEVICE_METHOD Span span(u32 s) const {
        const uint4 w = *(const uint4*)(words + 4 + 4 * capacity() + 4 * s);
        return {w.x, w.y, w.z, w.w};
    }
    DEVICE_METHOD u32 output_row(u32 o) const { return words[4 + 8 * capacity() + o]; }
};

// ---- keys and values -----------------------------------------------------------------------------

constexpr u32 PAGE_ROWS = 64;

// Where the rows of one KV state lie in its pools: `pinned` rows shared by all slots, then pages
// (`ring` is 0) or one ring of `ring` rows a slot.
struct KvRows {
    const u32* pages;  // [slots + 1, pages_per_slot]
    u32 pages_per_slot;
    u32 pinned;
    u32 ring;

    DEVICE_METHOD u32 row(u32 slot, u32 position) const {
        if (position < pinned) return position;
        const u32 offset = position - pinned;
        if (ring) return pinned + slot * ring + offset % ring;
        return pinned + pages[slot * pages_per_slot + offset / PAGE_ROWS] * PAGE_ROWS + offset % PAGE_ROWS;
    }
};

// ---- reductions ----------------------------------------------------------------------------------

// The sum over groups of `lanes` neighbouring lanes, a power of two; every lane gets it.
template <u32 lanes = WARP> DEVICE float warp_sum(float x) {
#pragma unroll
    for (u32 step = lanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(ALL_LANES, x, step);
    return x;
}

DEVICE float warp_max(float x) {
#pragma unroll
    for (u32 step = WARP / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, step));
    return x;
}

// The sum over the block, whose threads are whole warps; every thread gets it. All threads call it.
DEVICE float block_sum(float x) {
    SHARED(float, of_warp, [WARP]);
    const u32 lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    x = warp_sum(x);
    __syncthreads();  // the readers of an earlier call are done
    if (lane == 0) of_warp[threadIdx.x / WARP] = x;
    __syncthreads();
    return warp_sum(lane < warps ? of_warp[lane] : 0.0f);
}
