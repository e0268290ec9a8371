fn scaled(factor: f32, addend: f32, codes: Eight) -> Eight {
    return Eight(factor * codes.low + addend, factor * codes.high + addend);
}

fn numbers(quad: Quad) -> Numbers {
    let factor = quad.scales.factor;
    let addend = quad.scales.addend;
    return Numbers(
        scaled(factor.x, addend.x, quad.a), scaled(factor.y, addend.y, quad.b),
        scaled(factor.z, addend.z, quad.c), scaled(factor.w, addend.w, quad.d),
    );
}
