// Kernels with one fault each, which the emulator must show: `tests/emulator.rs`.
#include "prelude.cuh"

struct FaultParams {
    float* out;
    u32 length;
};

// Each thread reads what another wrote, without a barrier between them.
KERNEL(64, missing_barrier, FaultParams) {
    SHARED(float, numbers, [64]);
    numbers[threadIdx.x] = (float)threadIdx.x;
    p.out[threadIdx.x] = numbers[63 - threadIdx.x];
}

// The same with a barrier: right in every order.
KERNEL(64, with_barrier, FaultParams) {
    SHARED(float, numbers, [64]);
    numbers[threadIdx.x] = (float)threadIdx.x;
    __syncthreads();
    p.out[threadIdx.x] = numbers[63 - threadIdx.x];
}

// Half of the warp takes part in a collective that names all of it.
KERNEL(64, divergent_collective, FaultParams) {
    float x = (float)threadIdx.x;
    if (threadIdx.x % WARP < 16) x = warp_sum(x);
    p.out[threadIdx.x] = x;
}

// Half of the block waits in one barrier, half in another.
KERNEL(64, different_barriers, FaultParams) {
    if (threadIdx.x < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    p.out[threadIdx.x] = 1.0f;
}

// Half of the block waits in a barrier, half for lanes that are in it.
KERNEL(64, deadlock, FaultParams) {
    if (threadIdx.x < 48) __syncthreads();
    if (threadIdx.x >= 48) __syncwarp();
    p.out[threadIdx.x] = 1.0f;
}

// Reads shared memory that nobody wrote.
KERNEL(64, unwritten_shared, FaultParams) {
    SHARED(float, numbers, [64]);
    if (threadIdx.x < 32) numbers[threadIdx.x] = 1.0f;
    __syncthreads();
    p.out[threadIdx.x] = numbers[threadIdx.x];
}

// Writes one number past the end.
KERNEL(64, past_the_end, FaultParams) {
    if (threadIdx.x == 0) p.out[p.length] = 1.0f;
}
