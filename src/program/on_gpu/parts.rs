//! Splits long dispatches into parts, to stay below a display driver's watchdog limit (two seconds on Windows).

use crate::program::Cost;
use crate::program::dispatches::Planned;

/// Seconds that a dispatch takes at most if it is launched whole.
const LONGEST_S: f64 = 0.2;
/// Seconds that a part should take: half of `LONGEST_S`, because parts are not equally long.
const PART_S: f64 = 0.1;
/// Speed of a slow GPU, in FLOP/s and bytes/s. Dispatches are split for it until they have been timed.
const SLOW_FLOPS: f64 = 10e9;
const SLOW_BYTES: f64 = 2e9;

/// Returns the number of parts for a dispatch that takes so many seconds.
pub fn count(seconds: f64) -> u32 {
    if seconds > LONGEST_S { (seconds / PART_S).ceil() as u32 } else { 1 }
}

/// Returns the seconds that a dispatch of this cost takes on a slow GPU.
pub fn estimate(cost: Cost) -> f64 {
    (cost.flops as f64 / SLOW_FLOPS).max(cost.bytes as f64 / SLOW_BYTES)
}

/// A contiguous range of a dispatch's workgroups.
#[derive(Debug, PartialEq)]
pub struct Part {
    /// Its first workgroup or invocation along x, y and z, whichever the kernel takes.
    pub first: [u32; 3],
    /// Workgroups along x, y and z.
    pub workgroups: [u32; 3],
}

/// Splits a dispatch into at most `count` parts along one axis: the first of z, y and x that has at least `count` workgroups, otherwise the
/// longest.
pub fn of(planned: &Planned, count: u32) -> Vec<Part> {
    let entry = &planned.entry;
    let unit = if entry.takes_invocation { entry.workgroup } else { [1; 3] };
    split(planned.workgroups, unit, entry.takes_workgroups, count)
}

fn split(workgroups: [u32; 3], unit: [u32; 3], numbers_workgroups: bool, count: u32) -> Vec<Part> {
    let axis = axis(workgroups, numbers_workgroups, count);
    let all = workgroups[axis];
    let count = count.min(all).max(1);
    // In 64 bits, because a dimension may have 2^31 workgroups.
    let bound = |number: u32| (u64::from(all) * u64::from(number) / u64::from(count)) as u32;
    let part = |number: u32| {
        let mut part = Part { first: [0; 3], workgroups };
        part.first[axis] = bound(number) * unit[axis];
        part.workgroups[axis] = bound(number + 1) - bound(number);
        part
    };
    (0..count).map(part).collect()
}

/// Kernels that number their workgroups y * num_workgroups.x + x need whole rows of them in every part.
fn axis(workgroups: [u32; 3], numbers_workgroups: bool, count: u32) -> usize {
    let axes: &[usize] = if numbers_workgroups && workgroups[1] > 1 { &[2, 1] } else { &[2, 1, 0] };
    let enough = axes.iter().find(|&&axis| workgroups[axis] >= count);
    let most = axes.iter().max_by_key(|&&axis| workgroups[axis]);
    enough.or(most).map_or(2, |&axis| axis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_dispatch_of_a_fifth_of_a_second_stays_whole() {
        assert_eq!([0.0, 0.2, 0.21, 1.0].map(count), [1, 1, 3, 10]);
    }

    /// The numbers that a dispatch's workgroups take themselves for, launched in parts.
    fn numbers(parts: &[Part], unit: [u32; 3], numbers_workgroups: bool) -> Vec<[u32; 3]> {
        let mut found = Vec::new();
        for part in parts {
            let [x, y, z] = part.workgroups;
            for workgroup in 0..x * y * z {
                let launched = [workgroup % x, workgroup / x % y, workgroup / (x * y)];
                let [here_x, here_y, here_z] = [0, 1, 2].map(|axis| launched[axis] + part.first[axis] / unit[axis]);
                found.push(match numbers_workgroups {
                    true => [here_y * x + here_x, 0, here_z],
                    false => [here_x, here_y, here_z],
                });
            }
        }
        found
    }

    #[test]
    fn parts_do_every_workgroup_once() {
        let unit = [16, 4, 1];
        for size in 0..6 * 6 * 6 {
            let workgroups = [1 + size % 6, 1 + size / 6 % 6, 1 + size / 36];
            for numbers_workgroups in [false, true] {
                let whole = numbers(&split(workgroups, unit, numbers_workgroups, 1), unit, numbers_workgroups);
                for count in 2..9 {
                    let parts = split(workgroups, unit, numbers_workgroups, count);
                    assert!(parts.len() <= count as usize);
                    assert!(parts.iter().all(|part| part.workgroups.iter().all(|&n| n > 0)));
                    let found = numbers(&parts, unit, numbers_workgroups);
                    assert_eq!(found.len(), whole.len());
                    let as_set = |numbers: &[[u32; 3]]| numbers.iter().copied().collect::<BTreeSet<_>>();
                    assert_eq!(as_set(&found), as_set(&whole), "{workgroups:?} in {count} parts");
                }
            }
        }
    }

    #[test]
    fn the_axis_has_enough_workgroups() {
        assert_eq!(axis([8, 3, 4], true, 4), 2);
        assert_eq!(axis([8, 3, 1], true, 4), 1);
        assert_eq!(axis([8, 3, 1], false, 4), 0);
        assert_eq!(axis([8, 1, 1], true, 4), 0);
    }
}
