fn scaled(scale: f32, codes: Eight) -> Eight { return Eight(scale * codes.low, scale * codes.high); }

fn numbers(quad: Quad) -> Numbers {
    let scale = quad.scale;
    return Numbers(scaled(scale.x, quad.a), scaled(scale.y, quad.b), scaled(scale.z, quad.c), scaled(scale.w, quad.d));
}
