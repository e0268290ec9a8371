// Words of the lists in front of the tiles, and of a tile: see moe_apply/group.wgsl.
const TILE_WORDS = 4u;
