fn numbers(quad: Quad) -> Numbers { return Numbers(quad.a, quad.b, quad.c, quad.d); }
