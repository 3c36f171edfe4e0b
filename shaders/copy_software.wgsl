// What copies read on software adapters, which execute both branches of an `if`, but not a loop without iterations.

fn four_at(buffer: u32, i: u32) -> vec4<f32> {
    var four = vec4<f32>();
    for (var n = buffer; n == 0u; n++) { four = from0[i]; }
    for (var n = buffer; n == 1u; n++) { four = from1[i]; }
    for (var n = buffer; n == 2u; n++) { four = from2[i]; }
    return four;
}

// The sum of a matrix's parts, the first of which has a vec4 at `at`.
fn parts_at(matrix: Operand, at: u32) -> vec4<f32> {
    var sum = vec4<f32>();
    for (var part = 0u; part < matrix.parts; part++) { sum += four_at(matrix.buffer, at + part * matrix.part); }
    return sum;
}
