//! What the interpreter counts on kernels whose waits are known.

use crate::support::{Outcome, require, test};
use grokscope::sanitizer::{Buffers, Dispatch, Memory, Shader, Trace};
use libtest_mimic::{Failed, Trial};

pub fn tests() -> Vec<Trial> {
    vec![
        test("traces_count_waits", waits),
        test("traces_count_what_covers_a_wait", covered),
        test("traces_follow_the_longest_warp", longest_warp),
        test("traces_count_work_and_traffic", work),
        test("traces_refuse_a_faulty_kernel", faulty),
    ]
}

/// Runs `main` of a kernel with a buffer `a` of floats, one `i` of integers and an output of 64 floats, in one workgroup.
fn trace(size: u32, body: &str, integers: &[u32]) -> Result<Trace, Failed> {
    let source = format!(
        "@group(0) @binding(0) var<storage, read> a: array<f32>;
         @group(0) @binding(1) var<storage, read> i: array<u32>;
         @group(0) @binding(2) var<storage, read_write> out: array<f32>;
         var<workgroup> tile: array<f32, 64>;
         fn at(k: u32) -> u32 {{ if (k > 1000u) {{ return 0u; }} return i[k]; }}
         @compute @workgroup_size({size})
         fn main(@builtin(local_invocation_index) lane: u32) {{
             var sum = 0.0;
             {body}
             out[lane] = sum;
         }}"
    );
    let shader = Shader::new("test", &source)?;
    let mut buffers = Buffers::new();
    buffers.insert("a".into(), Memory::unchecked(vec![0; 4096]));
    buffers.insert("i".into(), Memory::unchecked(integers.to_vec()));
    buffers.insert("out".into(), Memory::unchecked(vec![0; 64]));
    let dispatch = Dispatch { entry: "main", overrides: &[], workgroups: [1, 1, 1], subgroup: 32 };
    Ok(shader.trace(&dispatch, [0, 0, 0], &mut buffers)?)
}

/// A name, a body, the integers, and how often it waits for lines touched for the first time and for others.
type Case<'a> = (&'a str, &'a str, &'a [u32], (u64, u64));

fn waits() -> Outcome {
    let chain = |step: fn(u32) -> u32| (0..256).map(step).collect::<Vec<u32>>();
    let far = chain(|i| (i + 64) % 256);
    let near = chain(|i| 31 - i % 32);
    // A slot's rows: words 0 and 1 are its edges, the rows follow from word 32 on.
    let slot = [&[32, 37][..], &[0; 30], &[0, 7, 3, 9, 5], &[0; 32]].concat();
    let cases: &[Case] = &[
        ("loads that do not need each other", "sum = a[lane] + a[lane + 64u] + a[lane + 128u];", &far, (1, 0)),
        ("a chain over lines", "sum = f32(i[i[i[lane]]]);", &far, (3, 0)),
        ("a chain in one line", "sum = f32(i[i[i[lane]]]);", &near, (1, 2)),
        ("a chain through a function", "sum = f32(i[at(lane)]);", &far, (2, 0)),
        ("a loop over lines", "for (var k = 0u; k < 10u; k++) { sum += a[32u * k]; }", &far, (10, 0)),
        ("a loop in a line", "for (var k = 0u; k < 10u; k++) { sum += a[k]; }", &far, (1, 9)),
        (
            "four loads an iteration",
            "for (var k = 0u; k < 40u; k += 4u) { sum += a[32u * k] + a[32u * k + 32u] + a[32u * k + 64u] + a[32u * k + 96u]; }",
            &far,
            (10, 0),
        ),
        (
            "lanes that cross lines in turn",
            "for (var k = 0u; k < 8u; k++) { sum += a[68u * lane + 4u * k]; }",
            &far,
            (8, 0),
        ),
        ("an address that stays", "for (var k = 0u; k < 10u; k++) { sum += a[32u * k + i[0]]; }", &[0], (11, 0)),
        ("a branch on a load", "if (a[0] == 0.0) { sum = a[64]; }", &far, (2, 0)),
        (
            "branches that are known",
            "if (lane < 16u) { sum = a[lane]; } if (lane >= 8u) { sum += a[64u + lane]; }",
            &far,
            (1, 0),
        ),
        (
            "a load through a function's variable",
            "var x = a[lane]; if (lane > 3u) { x = a[lane + 64u]; } sum = x;",
            &far,
            (1, 0),
        ),
        ("a load that nobody needs", "_ = a[lane];", &far, (0, 0)),
        (
            "a barrier behind a load that is used",
            "tile[lane] = a[lane]; workgroupBarrier(); sum = tile[31u - lane] + a[lane + 64u];",
            &far,
            (2, 0),
        ),
        (
            "a barrier behind one that is not",
            "let x = a[lane]; workgroupBarrier(); sum = x + a[lane + 64u];",
            &far,
            (1, 0),
        ),
        (
            "a tile each iteration",
            "for (var k = 0u; k < 4u; k++) { tile[lane] = a[64u * k + lane]; workgroupBarrier(); sum += tile[31u - lane]; workgroupBarrier(); }",
            &far,
            (4, 0),
        ),
        // The edges come together and stay; each row waits for its number, then for its line.
        ("a slot's rows", "for (var k = i[0]; k < i[1]; k++) { sum += a[32u * i[k]]; }", &slot, (7, 4)),
    ];
    let mut wrong = Vec::new();
    for (name, body, integers, expected) in cases {
        let trace = trace(32, body, integers).map_err(|e| format!("{name}: {}", e.message().unwrap_or("?")))?;
        let got = (trace.waits_l2, trace.waits_l1);
        if got != *expected {
            wrong.push(format!("{name}: {got:?}, expected {expected:?}"));
        }
    }
    require!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Fetching the next tile before working on the one at hand waits as often, and works meanwhile.
fn covered() -> Outcome {
    let work = "for (var j = 0u; j < 32u; j++) { sum = fma(tile[j], 2.0, sum); }";
    let plain = trace(
        32,
        &format!(
            "for (var k = 0u; k < 4u; k++) {{
                 workgroupBarrier(); tile[lane] = a[64u * k + lane]; workgroupBarrier(); {work}
             }}"
        ),
        &[0],
    )?;
    let ahead = trace(
        32,
        &format!(
            "var next = a[lane];
             for (var k = 0u; k < 4u; k++) {{
                 workgroupBarrier(); tile[lane] = next; workgroupBarrier();
                 next = a[64u * (k + 1u) + lane];
                 {work}
             }}"
        ),
        &[0],
    )?;
    require!((plain.waits_l2, plain.waits_l1) == (4, 0), "plain: {plain:?}");
    require!((ahead.waits_l2, ahead.waits_l1) == (4, 0), "ahead: {ahead:?}");
    // 32 multiply-adds and 32 loads from the tile, behind each of three loads.
    require!(ahead.covered_l2 >= 3 * 64, "ahead: {ahead:?}");
    require!(plain.covered_l2 <= 4 * 4, "plain: {plain:?}");
    Ok(())
}

fn longest_warp() -> Outcome {
    let of = |first: u32, second: u32| {
        let body = format!(
            "let end = select({first}u, {second}u, lane >= 32u);
             for (var k = 0u; k < end; k++) {{ sum = fma(a[32u * k], 2.0, sum); }}"
        );
        trace(64, &body, &[0])
    };
    let (second, first) = (of(3, 7)?, of(7, 3)?);
    for trace in [&second, &first] {
        require!(trace.waits_l2 + trace.waits_l1 == 7 && trace.multiply_adds == 7, "{trace:?}");
    }
    // Branches that lanes of one warp take apart are done one after the other, those of two warps are not.
    let apart = |at: u32| {
        let loops = |from: u32| format!("for (var k = 0u; k < 5u; k++) {{ sum += a[32u * k + {from}u]; }}");
        trace(64, &format!("if (lane < {at}u) {{ {} }} else {{ {} }}", loops(0), loops(1024)), &[0])
    };
    require!(apart(32)?.waits_l2 == 5, "{:?}", apart(32)?);
    require!(apart(16)?.waits_l2 == 10, "{:?}", apart(16)?);
    // At a barrier the second warp waits for the first.
    let both = trace(
        64,
        "if (lane < 32u) { sum = a[i[lane]]; } tile[lane] = sum; workgroupBarrier(); sum = a[lane];",
        &[0; 64],
    )?;
    require!(both.waits_l2 + both.waits_l1 == 3, "{both:?}");
    Ok(())
}

fn work() -> Outcome {
    let loads = trace(32, "for (var k = 0u; k < 10u; k++) { sum += a[32u * k] * 2.0; }", &[0])?;
    require!(loads.multiply_adds == 10, "{loads:?}");
    // A sector of each of ten lines, and 128 bytes of the output.
    require!((loads.bytes_read, loads.bytes_written) == (320, 128), "{loads:?}");
    let tile = "tile[lane] = a[lane]; workgroupBarrier();
        let x = vec4(tile[0], tile[1], tile[2], tile[3]); sum = dot(x, x) + fma(tile[4], tile[5], 1.0);";
    let tile = trace(32, tile, &[0])?;
    require!(tile.shared_bytes == 24 && tile.multiply_adds == 5, "{tile:?}");
    let nothing = trace(32, "", &[0])?;
    require!(nothing.multiply_adds == 0 && nothing.bytes_read == 0 && nothing.instructions <= 2, "{nothing:?}");
    require!(loads.instructions >= 10 * 4, "{loads:?}");
    // A product and its sum are one instruction.
    let [product, sum] = ["sum = a[lane] * 2.0;", "sum = a[lane] * 2.0 + 1.0;"].map(|body| trace(32, body, &[0]));
    let (product, sum) = (product?.instructions, sum?.instructions);
    require!(product == sum && sum == nothing.instructions + 2, "{product} and {sum} instructions");
    Ok(())
}

fn faulty() -> Outcome {
    let beyond = trace(32, "sum = a[5000];", &[0]);
    let message = beyond.err().and_then(|e| e.message().map(String::from)).unwrap_or_default();
    require!(message.contains("out of bounds"), "'{message}'");
    Ok(())
}
