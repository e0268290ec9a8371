// One number of lanes 0 to 7 of a subgroup each.
fn low_lanes(value: f32) -> vec4<f32> {
    return vec4(subgroupBroadcast(value, 0u), subgroupBroadcast(value, 1u), subgroupBroadcast(value, 2u), subgroupBroadcast(value, 3u));
}
fn high_lanes(value: f32) -> vec4<f32> {
    return vec4(subgroupBroadcast(value, 4u), subgroupBroadcast(value, 5u), subgroupBroadcast(value, 6u), subgroupBroadcast(value, 7u));
}
