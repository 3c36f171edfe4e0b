
// Reductions of the rows of a workgroup, each by LANES lanes, as a tree in a fixed order.
const LANES = 32u;
const ROWS_A_GROUP = 4u;
var<workgroup> halves: array<f32, 128>;   // ROWS_A_GROUP LANES

// The number of the row that a lane works on, and its place among the lanes of the row.
fn row_of_lane(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    return (group.y * groups.x + group.x) * ROWS_A_GROUP + lane / LANES;
}

// The largest x of the row's lanes, for all of them.
fn max_of_row(lane: u32, x: f32) -> f32 {
    workgroupBarrier();
    halves[lane] = x;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane % LANES < half) { halves[lane] = max(halves[lane], halves[lane + half]); }
    }
    workgroupBarrier();
    return halves[lane / LANES * LANES];
}

// The sum of x over the row's lanes, for all of them.
fn sum_of_row(lane: u32, x: f32) -> f32 {
    workgroupBarrier();
    halves[lane] = x;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane % LANES < half) { halves[lane] += halves[lane + half]; }
    }
    workgroupBarrier();
    return halves[lane / LANES * LANES];
}
