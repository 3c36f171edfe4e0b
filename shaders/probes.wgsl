// Constructs that drivers have miscompiled, each with an exact result. The self-check runs them.

@group(0) @binding(0) var<storage, read> input: array<u32>;            // [workgroup, lane], or what an entry point says
@group(0) @binding(1) var<storage, read_write> output: array<u32>;     // [workgroup, lane]

var<workgroup> sums: array<u32, 256>;
var<workgroup> shared_number: u32;

fn add_up(lanes: u32, lane: u32) {
    for (var half = lanes / 2u; half > 0u; half /= 2u) {
        if (lane < half) { sums[lane] += sums[lane + half]; }
        workgroupBarrier();
    }
}

// A tree reduction over 64 lanes; all lanes read the sum (gfx-rs/wgpu#7904)
@compute @workgroup_size(64)
fn tree_64(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    sums[lane] = input[id.x];
    workgroupBarrier();
    add_up(64u, lane);
    output[id.x] = sums[0];
}

@compute @workgroup_size(256)
fn tree_256(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    sums[lane] = input[id.x];
    workgroupBarrier();
    add_up(256u, lane);
    output[id.x] = sums[0];
}

// One lane writes inside an if, all read after the barrier (gfx-rs/wgpu#3181); then once more
@compute @workgroup_size(64)
fn broadcast(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var sum = lane;
    if (lane == 0u) { shared_number = input[id.x]; }
    workgroupBarrier();
    sum += shared_number;
    workgroupBarrier();
    if (lane == 0u) { shared_number *= 2u; }
    workgroupBarrier();
    output[id.x] = sum + shared_number;
}

// The same by workgroupUniformLoad
@compute @workgroup_size(64)
fn uniform_load(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var sum = lane;
    if (lane == 0u) { shared_number = input[id.x]; }
    sum += workgroupUniformLoad(&shared_number);
    if (lane == 0u) { shared_number *= 2u; }
    output[id.x] = sum + workgroupUniformLoad(&shared_number);
}

// Counts the iterations of three nested loops with the bounds input[3 i ..] (gfx-rs/wgpu#5067)
@compute @workgroup_size(64)
fn nested_loops(@builtin(global_invocation_id) id: vec3<u32>) {
    var rounds = 0u;
    for (var a = 0u; a < input[3u * id.x]; a++) {
        for (var b = 0u; b < input[3u * id.x + 1u]; b++) {
            for (var c = 0u; c < input[3u * id.x + 2u]; c++) { rounds++; }
        }
    }
    output[id.x] = rounds;
}

// 1 where the bits of input[i] are those of an infinity or NaN
@compute @workgroup_size(64)
fn not_finite(@builtin(global_invocation_id) id: vec3<u32>) {
    output[id.x] = select(0u, 1u, is_bad(bitcast<f32>(input[id.x])));
}
