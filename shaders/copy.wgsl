// What copies read on hardware.

fn four_at(buffer: u32, i: u32) -> vec4<f32> {
    if (buffer == 0u) { return from0[i]; }
    if (buffer == 1u) { return from1[i]; }
    return from2[i];
}

// The sum of a matrix's parts, the first of which has a vec4 at `at`. Four of them are on their way together.
fn parts_at(matrix: Operand, at: u32) -> vec4<f32> {
    var sum = vec4<f32>();
    for (var part = 0u; part < matrix.parts; part += 4u) {
        let last = matrix.parts - 1u;
        let first = four_at(matrix.buffer, at + part * matrix.part);
        let second = four_at(matrix.buffer, at + min(part + 1u, last) * matrix.part);
        let third = four_at(matrix.buffer, at + min(part + 2u, last) * matrix.part);
        let fourth = four_at(matrix.buffer, at + min(part + 3u, last) * matrix.part);
        sum += first;
        if (part + 1u < matrix.parts) { sum += second; }
        if (part + 2u < matrix.parts) { sum += third; }
        if (part + 3u < matrix.parts) { sum += fourth; }
    }
    return sum;
}
