var<workgroup> sums: array<vec4<f32>, LANES>;

// The sum of x over the lanes, for all of them, as a tree in a fixed order.
fn sum_of_lanes(lane: u32, x: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    sums[lane] = x;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { sums[lane] += sums[lane + half]; }
    }
    workgroupBarrier();
    return sums[0];
}
