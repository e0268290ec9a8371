// Maximum and sum of eight numbers each over the LANES of a workgroup: within subgroups by their own operations, then
// over the subgroups through workgroup memory. Every lane gets the result. Must be reached by all lanes, and a barrier comes
// between two of them.
var<workgroup> eight_scratch: array<Eight, LANES / 4u>;
var<workgroup> eight_count: atomic<u32>;

// Puts eight numbers a subgroup into eight_scratch; gives the count of subgroups.
fn collect_eight(lane: u32, value: Eight) -> u32 {
    if lane == 0u { atomicStore(&eight_count, 0u); }
    workgroupBarrier();
    // The first lane of each subgroup; naga has no subgroupElect.
    if subgroupBroadcastFirst(lane) == lane { eight_scratch[atomicAdd(&eight_count, 1u)] = value; }
    workgroupBarrier();
    return atomicLoad(&eight_count);
}

fn sum_of_eight(lane: u32, value: Eight) -> Eight {
    let count = collect_eight(lane, Eight(subgroupAdd(value.low), subgroupAdd(value.high)));
    var sum = eight_scratch[0];
    for (var i = 1u; i < count; i++) {
        sum = Eight(sum.low + eight_scratch[i].low, sum.high + eight_scratch[i].high);
    }
    return sum;
}

fn max_of_eight(lane: u32, value: Eight) -> Eight {
    let count = collect_eight(lane, Eight(subgroupMax(value.low), subgroupMax(value.high)));
    var highest = eight_scratch[0];
    for (var i = 1u; i < count; i++) {
        highest = Eight(max(highest.low, eight_scratch[i].low), max(highest.high, eight_scratch[i].high));
    }
    return highest;
}
