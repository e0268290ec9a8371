// Which row of a KV pool holds a position: the pinned rows first, then the slot's pages, or its ring.
fn kv_row(slot: u32, position: u32) -> u32 {
    if position < params.pinned { return position; }
    let offset = position - params.pinned;
    if params.ring > 0u { return params.pinned + slot * params.ring + offset % params.ring; }
    let page = pages[slot * params.pages_per_slot + offset / PAGE_ROWS];
    return params.pinned + page * PAGE_ROWS + offset % PAGE_ROWS;
}
