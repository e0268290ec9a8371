// The chunks of the step table: up to CHUNK_ROWS rows of one span. Those of spans that have several
// come first; their index is also the index of the state that they hand on.
fn chunk_count() -> u32 { return table[params.chunks_at].x; }
fn long_chunk_count() -> u32 { return table[params.chunks_at].y; }

// first row, rows, span, chunks of the span still to come
fn chunk_at(chunk: u32) -> vec4<u32> { return table[params.chunks_at + 1u + chunk]; }
