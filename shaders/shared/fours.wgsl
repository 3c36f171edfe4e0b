// Tensors in whole vec4s: how many of them a row has. What the last one has too many is zero.
fn fours(n: u32) -> u32 { return (n + 3u) / 4u; }
fn model4() -> u32 { return fours(D_MODEL); }
fn mlp4() -> u32 { return fours(D_MLP); }
fn class4() -> u32 { return fours(D_VOCAB_OUT); }
fn head4() -> u32 { return fours(D_HEAD); }
fn z4() -> u32 { return N_HEADS * head4(); }
fn reader4() -> u32 { return mlp4() + class4(); }

// First vec4 of a model's part of a tensor with this many vec4s.
fn part4(model: u32, vectors: u32) -> u32 { return part(model, 4u * vectors) / 4u; }
