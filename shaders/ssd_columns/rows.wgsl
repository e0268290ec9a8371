// Adds to eight rows of four columns: a number of each row times the same four columns.
fn add_rows(rows: ptr<function, EightRows>, low: vec4<f32>, high: vec4<f32>, columns: vec4<f32>) {
    (*rows).a += low.x * columns;
    (*rows).b += low.y * columns;
    (*rows).c += low.z * columns;
    (*rows).d += low.w * columns;
    (*rows).e += high.x * columns;
    (*rows).f += high.y * columns;
    (*rows).g += high.z * columns;
    (*rows).h += high.w * columns;
}

// Each row times its own number.
fn scale_rows(rows: ptr<function, EightRows>, low: vec4<f32>, high: vec4<f32>) {
    (*rows).a *= low.x;
    (*rows).b *= low.y;
    (*rows).c *= low.z;
    (*rows).d *= low.w;
    (*rows).e *= high.x;
    (*rows).f *= high.y;
    (*rows).g *= high.z;
    (*rows).h *= high.w;
}
