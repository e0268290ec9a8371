// Sum and maximum over the LANES of a workgroup by a tree in workgroup memory. Every lane gets the
// result. Must be reached by all lanes.
var<workgroup> reduce_scratch: array<vec4<f32>, LANES>;

fn reduce_sum(lane: u32, value: vec4<f32>) -> vec4<f32> {
    reduce_scratch[lane] = value;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half { reduce_scratch[lane] += reduce_scratch[lane + half]; }
    }
    let sum = workgroupUniformLoad(&reduce_scratch[0]);
    workgroupBarrier();
    return sum;
}

fn reduce_max(lane: u32, value: f32) -> f32 {
    reduce_scratch[lane].x = value;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half { reduce_scratch[lane].x = max(reduce_scratch[lane].x, reduce_scratch[lane + half].x); }
    }
    let highest = workgroupUniformLoad(&reduce_scratch[0]).x;
    workgroupBarrier();
    return highest;
}
