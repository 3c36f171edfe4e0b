// Where things stand. A model's part of a tensor is padded to whole blocks of elements, so that no block of an arena
// belongs to two models.
override BLOCK: u32;

// First element of a model's part of a tensor whose parts have this many elements.
fn part(model: u32, elements: u32) -> u32 {
    return model * ((elements + BLOCK - 1u) / BLOCK * BLOCK);
}

// The offset of a launch along x, y and z; not 0 where a long dispatch is launched in parts. Counted in invocations for kernels that take
// global_invocation_id, otherwise in workgroups.
@group(0) @binding(30) var<uniform> launch_first: vec4<u32>;

fn here(launched: vec3<u32>) -> vec3<u32> { return launched + launch_first.xyz; }

// Slots: x at 0..P, y at P..2P, "=" at 2P.
fn slot_equals() -> u32 { return 2u * P; }
fn slot_pos(slot: u32) -> u32 { return slot / P; }
fn slot_token(slot: u32) -> u32 { return select(slot % P, P, slot == slot_equals()); }
