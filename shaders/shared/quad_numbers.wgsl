// A quad as numbers: what its codes are multiplied with is worth a multiplication each where many rows of x follow.
struct Numbers { a: Eight, b: Eight, c: Eight, d: Eight }

fn products(quad: Numbers, x: Eight) -> vec4<f32> {
    return vec4(dot8(quad.a, x), dot8(quad.b, x), dot8(quad.c, x), dot8(quad.d, x));
}
