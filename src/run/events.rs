//! TensorBoard's event files: protocol buffers in records with checksums, as `tensorboard/compat/proto` and TFRecord have them.

use super::disk;
use anyhow::Result;
use prost::{Message, Oneof};
use std::path::{Path, PathBuf};

/// A file of events, one for each start of a run.
pub struct Events {
    path: PathBuf,
}

/// Something to show at a step under a tag.
pub enum Shown<'a> {
    /// A number.
    Scalar(f64),
    /// Counts of the places 0, 1, ..
    Histogram(&'a [f64]),
    /// A picture.
    Image {
        /// The bytes of a PNG file.
        png: Vec<u8>,
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(oneof = "Kind", tags = "2, 4, 5")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Kind {
    #[prost(float, tag = "2")]
    SimpleValue(f32),
    #[prost(message, tag = "4")]
    Image(Image),
    #[prost(message, tag = "5")]
    Histo(Histogram),
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    encoded_image_string: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(double, tag = "1")]
    min: f64,
    #[prost(double, tag = "2")]
    max: f64,
    #[prost(double, tag = "3")]
    num: f64,
    #[prost(double, tag = "4")]
    sum: f64,
    #[prost(double, tag = "5")]
    sum_squares: f64,
    #[prost(double, repeated, tag = "6")]
    bucket_limit: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    bucket: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    /// 1: start, from which step on earlier events count no more.
    #[prost(int32, tag = "1")]
    status: i32,
}

impl Events {
    /// A new file for events after `step` in a directory that is made where it is not there, and whether it is the first there: whatever
    /// an earlier file says of later steps is void. `seconds` since 1970 stamp its first events and name it, or the second after that of
    /// the last file, where that is later: TensorBoard reads files in the order of their names.
    pub fn create(directory: &Path, step: u64, seconds: f64) -> Result<(Self, bool)> {
        let is_first = !directory.exists();
        disk::make_directory(directory)?;
        let taken = disk::files(directory)?.iter().filter_map(|name| second_of(name)).max();
        let second = taken.map_or(seconds as u64, |last| last.saturating_add(1).max(seconds as u64));
        let path = directory.join(format!("{NAME}{second:010}{OURS}"));
        disk::write_whole(&path, b"")?;
        let events = Self { path };
        events.add(seconds, 0, What::FileVersion("brain.Event:2".into()))?;
        if !is_first {
            events.add(seconds, step + 1, What::SessionLog(SessionLog { status: 1 }))?;
        }
        Ok((events, is_first))
    }

    /// Adds what is to be shown at a step, each under its tag.
    pub fn show(&self, seconds: f64, step: u64, shown: Vec<(String, Shown)>) -> Result<()> {
        let value = |(tag, shown): (String, Shown)| Value { tag, kind: Some(kind(shown)) };
        self.add(seconds, step, What::Summary(Summary { value: shown.into_iter().map(value).collect() }))
    }

    fn add(&self, wall_time: f64, step: u64, what: What) -> Result<()> {
        let event = Event { wall_time, step: step as i64, what: Some(what) };
        disk::append(&self.path, &record(&event.encode_to_vec()))
    }
}

/// What names of files begin with; TensorBoard looks for it.
const NAME: &str = "events.out.tfevents.";
/// What those of this program end with.
const OURS: &str = ".grokscope";

/// The second in a file's name.
fn second_of(name: &str) -> Option<u64> {
    name.strip_prefix(NAME)?.strip_suffix(OURS)?.parse().ok()
}

fn kind(shown: Shown) -> Kind {
    match shown {
        Shown::Scalar(x) => Kind::SimpleValue(x as f32),
        Shown::Histogram(counts) => {
            let places = || counts.iter().enumerate().map(|(place, &count)| (place as f64, count));
            Kind::Histo(Histogram {
                min: -0.5,
                max: counts.len() as f64 - 0.5,
                num: counts.iter().sum(),
                sum: places().map(|(place, count)| place * count).sum(),
                sum_squares: places().map(|(place, count)| place * place * count).sum(),
                bucket_limit: places().map(|(place, _)| place + 0.5).collect(),
                bucket: counts.to_vec(),
            })
        }
        Shown::Image { png, width, height } => Kind::Image(Image {
            height: height as i32,
            width: width as i32,
            // Red, green, blue and alpha.
            colorspace: 4,
            encoded_image_string: png,
        }),
    }
}

/// Length, its checksum, the data and its checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let len = (data.len() as u64).to_le_bytes();
    [&len[..], &masked(&len), data, &masked(data)].concat()
}

/// CRC-32C, turned by 15 bits and moved, so that a checksum of data that hold checksums is none of theirs.
fn masked(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_framed_as_tfrecord_has_it() {
        // CRC-32C of "123456789" is e3069283: its published check value.
        assert_eq!(u32::from_le_bytes(masked(b"123456789")), 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8));
        let record = record(b"abc");
        assert_eq!((record.len(), &record[..8], &record[12..15]), (19, &3u64.to_le_bytes()[..], &b"abc"[..]));
    }

    #[test]
    fn each_start_has_a_later_file_whatever_the_clock_says() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("tensorboard");
        // Twice in one second, a clock that was set back, and one that goes on.
        let starts = [(0, 100.0), (10, 100.9), (20, 50.0), (30, 200.0)];
        let files = starts.map(|(step, seconds)| Events::create(&directory, step, seconds).unwrap());
        assert_eq!(files.each_ref().map(|(_, is_first)| *is_first), [true, false, false, false]);
        let names = files.each_ref().map(|(events, _)| events.path.file_name().unwrap().to_string_lossy().into_owned());
        assert_eq!(names, [100, 101, 102, 200].map(|second| format!("events.out.tfevents.{second:010}.grokscope")));

        let bytes = files.map(|(events, _)| std::fs::read(events.path).unwrap());
        let version = |seconds| {
            let what = Some(What::FileVersion("brain.Event:2".into()));
            record(&Event { wall_time: seconds, step: 0, what }.encode_to_vec())
        };
        let start = |seconds, step| {
            let what = Some(What::SessionLog(SessionLog { status: 1 }));
            record(&Event { wall_time: seconds, step, what }.encode_to_vec())
        };
        assert_eq!(bytes[0], version(100.0));
        assert_eq!(bytes[1], [version(100.9), start(100.9, 11)].concat());
        assert_eq!(bytes[2], [version(50.0), start(50.0, 21)].concat());
    }
}
