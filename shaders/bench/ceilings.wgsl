// What a device does at most of one thing: copies, multiply-adds in registers, dispatches of nothing.

@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> target_: array<vec4<f32>>;

const ROUNDS = 256u;

@compute @workgroup_size(64)
fn copy(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = id.y * groups.x * 64u + id.x;
    if (i < arrayLength(&target_)) { target_[i] = source[i]; }
}

// ROUNDS times 8 vec4s, none of which waits for another
@compute @workgroup_size(64)
fn multiply_add(@builtin(global_invocation_id) id: vec3<u32>) {
    let a = source[0];
    let b = source[1];
    var s0 = vec4(f32(id.x));
    var s1 = s0 + a;
    var s2 = s1 + a;
    var s3 = s2 + a;
    var s4 = s3 + a;
    var s5 = s4 + a;
    var s6 = s5 + a;
    var s7 = s6 + a;
    for (var i = 0u; i < ROUNDS; i++) {
        s0 = fma(s0, a, b);
        s1 = fma(s1, a, b);
        s2 = fma(s2, a, b);
        s3 = fma(s3, a, b);
        s4 = fma(s4, a, b);
        s5 = fma(s5, a, b);
        s6 = fma(s6, a, b);
        s7 = fma(s7, a, b);
    }
    target_[id.x] = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7;
}

@compute @workgroup_size(1)
fn empty() {}
