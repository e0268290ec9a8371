// Codes of q8: bytes with a sign.
fn unpack_codes(codes: u32) -> vec4<f32> {
    return vec4<f32>((vec4(bitcast<i32>(codes)) << vec4(24u, 16u, 8u, 0u)) >> vec4(24u));
}
