// moe_apply for many rows (prefill), 1 of 4: sorts the pairs by their experts, and cuts each expert's into tiles
// of TILE_ROWS, so that the next kernels read a weight once a tile instead of once a pair.
//   lists[0]                    tiles
//   lists[TILE_WORDS (1 + tile)] expert, first of its pairs, how many
//   lists[pairs_at ..]          pairs, one expert's after the other's
//
// Tiling: one workgroup counts, one lane adds up, all of them sort in. The order of one expert's pairs is left
// open; no result depends on it. Barriers: four. Limits: 1024 experts.
const LANES = 256u;
@group(0) @binding(2) var<storage, read_write> lists: array<u32>;

var<workgroup> counts: array<atomic<u32>, MOST_EXPERTS>;

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
    for (var expert = lane; expert < params.experts; expert += LANES) { atomicStore(&counts[expert], 0u); }
    workgroupBarrier();
    let pairs = rows_in_use(params.outputs) * params.top_k;
    for (var pair = lane; pair < pairs; pair += LANES) {
        let expert = expert_of(pair / params.top_k, pair % params.top_k);
        if expert < params.experts { atomicAdd(&counts[expert], 1u); }
    }
    workgroupBarrier();
    if lane == 0u {
        var start = 0u;
        var tiles = 0u;
        for (var expert = 0u; expert < params.experts; expert++) {
            let count = atomicLoad(&counts[expert]);
            atomicStore(&counts[expert], start);
            for (var done = 0u; done < count; done += TILE_ROWS) {
                let at = TILE_WORDS * (1u + tiles);
                lists[at] = expert;
                lists[at + 1u] = start + done;
                lists[at + 2u] = min(count - done, TILE_ROWS);
                tiles++;
            }
            start += count;
        }
        lists[0] = tiles;
    }
    workgroupBarrier();
    for (var pair = lane; pair < pairs; pair += LANES) {
        let expert = expert_of(pair / params.top_k, pair % params.top_k);
        if expert < params.experts { lists[params.pairs_at + atomicAdd(&counts[expert], 1u)] = pair; }
    }
}
