
// A row of the batch for each invocation.
const LANES = 64u;
const ROWS_A_GROUP = 64u;

fn row_of_lane(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 { return (group.y * groups.x + group.x) * LANES + lane; }
