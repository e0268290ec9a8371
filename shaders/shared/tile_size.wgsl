// What a workgroup of the kernels for many rows makes: see shared/tile.wgsl.
const TILE_ROWS = 32u;
const TILE_OUTS = 64u;
