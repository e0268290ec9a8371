// Sum and maximum over the LANES of a workgroup: within subgroups by their own operations, then over
// the subgroups through workgroup memory. Every lane gets the result. Must be reached by all lanes.
// A subgroup has 4 lanes or more; which lanes form one is left open.
const MOST_SUBGROUPS = LANES / 4u;
var<workgroup> reduce_scratch: array<vec4<f32>, MOST_SUBGROUPS>;
var<workgroup> reduce_count: atomic<u32>;

// Puts one value a subgroup into reduce_scratch; gives their number.
fn reduce_collect(lane: u32, value: vec4<f32>) -> u32 {
    if lane == 0u { atomicStore(&reduce_count, 0u); }
    workgroupBarrier();
    // The first lane of each subgroup; naga has no subgroupElect.
    if subgroupBroadcastFirst(lane) == lane { reduce_scratch[atomicAdd(&reduce_count, 1u)] = value; }
    workgroupBarrier();
    return atomicLoad(&reduce_count);
}

fn reduce_sum(lane: u32, value: vec4<f32>) -> vec4<f32> {
    let count = reduce_collect(lane, subgroupAdd(value));
    var sum = vec4(0.0);
    for (var i = 0u; i < count; i++) { sum += reduce_scratch[i]; }
    workgroupBarrier();
    return sum;
}

fn reduce_max(lane: u32, value: f32) -> f32 {
    let count = reduce_collect(lane, vec4(subgroupMax(value)));
    var highest = reduce_scratch[0].x;
    for (var i = 1u; i < count; i++) { highest = max(highest, reduce_scratch[i].x); }
    workgroupBarrier();
    return highest;
}
