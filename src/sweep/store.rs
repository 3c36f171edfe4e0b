//! A sweep in an object store, for tasks that share no file system: each trains on its own disk and puts here what has ended.
//!
//! ```text
//! URL/sweep.toml       the plan, with the files that it names
//! URL/runs/ID/         the files of a run that has ended
//! URL/done/ID.json     its marker, written last: every file with its size and SHA-256
//! URL/parts/ID-STEP.zip    a run that was stopped on its way, as one object
//! ```

use crate::plan::one_line;
use crate::run::disk;
use crate::run::lens::sha256;
use anyhow::{Context, Result, bail, ensure};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::{Cursor, Read, Write};
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use zip::{ZipArchive, ZipWriter};

/// Of the markers.
const SCHEMA: u32 = 1;

/// Objects under way at the same time.
const AT_ONCE: usize = 8;

/// A place in an object store.
pub struct Store {
    /// As the user calls it.
    url: String,
    objects: Arc<dyn ObjectStore>,
    root: Key,
    runtime: Runtime,
}

/// What is in the store of a run that has ended.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    schema: u32,
    files: BTreeMap<String, Stored>,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    bytes: usize,
    sha256: String,
}

impl Stored {
    fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len(), sha256: sha256(bytes) }
    }
}

/// Names, with `/` between their parts, and what the files hold.
pub type Files = Vec<(String, Vec<u8>)>;

/// What came of fetching a run.
pub enum Pulled {
    /// Its files.
    Whole(Files),
    /// It is not what its marker says; and how. The marker is gone, so that the run is done again.
    Damaged(String),
}

/// An error of a store in a line.
#[derive(Debug)]
struct Trouble {
    what: String,
    /// Whether it may be gone another time: the network, or a server in trouble.
    passes: bool,
}

impl Trouble {
    fn new(object: &str, error: &Error) -> Self {
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let cause = one_line(cause.to_string());
        // Errors of requests say their status in words, and what S3 says of it as XML.
        let passing = ["status code: 408", "status code: 429", "ExpiredToken", "RequestTimeout", "SlowDown"];
        let refused = cause.contains("status code: 4") && !passing.iter().any(|text| cause.contains(text));
        let code = cause.split_once("<Code>").and_then(|(_, rest)| Some(rest.split_once("</Code>")?.0));
        let what = match (code, refused) {
            (Some(code), true) => {
                format!(
                    "{object}: refused, {code}: expected another --store, or other AWS_ variables in the environment"
                )
            }
            _ => format!("{object}: {cause}"),
        };
        Self { passes: matches!(error, Error::Generic { .. } | Error::JoinError { .. }) && !refused, what }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Trouble {}

/// Whether a store's error may be gone another time.
pub fn passes(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Trouble>().is_some_and(|trouble| trouble.passes)
}

/// What an address says.
pub enum Address<'a> {
    /// A directory, from the root.
    File(&'a str),
    /// A bucket, and what its objects' names begin with.
    S3 {
        /// Its name.
        bucket: &'a str,
        /// May be empty.
        prefix: &'a str,
    },
}

/// Reads the address of a store.
pub fn address(url: &str) -> Result<Address<'_>> {
    let wrong = || format!("--store {url}: expected file:///PATH or s3://BUCKET/PREFIX");
    let (scheme, rest) = url.split_once("://").with_context(wrong)?;
    match scheme {
        "file" => {
            let is_path = rest.starts_with('/') && !rest.trim_matches('/').is_empty();
            ensure!(is_path, "--store {url}: expected file:// and an absolute path");
            Ok(Address::File(rest))
        }
        "s3" => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            ensure!(!bucket.is_empty(), "--store {url}: expected s3:// and the name of a bucket");
            Ok(Address::S3 { bucket, prefix })
        }
        _ => bail!("{}", wrong()),
    }
}

impl Store {
    /// By its address: `file:///PATH`, or `s3://BUCKET/PREFIX` with what the environment says (AWS_ACCESS_KEY_ID, AWS_ENDPOINT, ..).
    /// Nothing is made yet.
    pub fn open(url: &str) -> Result<Self> {
        let (objects, root): (Arc<dyn ObjectStore>, &str) = match address(url)? {
            Address::File(path) => (Arc::new(LocalFileSystem::new().with_fsync(true)), path),
            Address::S3 { bucket, prefix } => (s3(bucket).map_err(|error| refused(url, &*error))?, prefix),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let root = Key::parse(root.trim_matches('/')).map_err(|error| refused(url, &error))?;
        Ok(Self { url: url.into(), objects, root, runtime: runtime.context("no runtime for the object store")? })
    }

    /// As the user calls it.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn key(&self, name: &str) -> Key {
        name.split('/').fold(self.root.clone(), |key, part| key.join(part))
    }

    /// An object as the user calls it.
    fn title(&self, name: &str) -> String {
        format!("{}/{name}", self.url.trim_end_matches('/'))
    }

    fn trouble(&self, name: &str, error: &Error) -> anyhow::Error {
        Trouble::new(&self.title(name), error).into()
    }

    /// An object's bytes; none where it is not there.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.get_all(&[name.to_string()])?.pop().flatten())
    }

    fn get_all(&self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        let fetch = |(place, name): (usize, String)| {
            let (objects, key) = (self.objects.clone(), self.key(&name));
            async move { (place, name, async { objects.get(&key).await?.bytes().await }.await) }
        };
        let mut all: Vec<Option<Vec<u8>>> = vec![None; names.len()];
        for (place, name, bytes) in self.side_by_side(names.iter().cloned().enumerate().map(fetch))? {
            match bytes {
                Err(Error::NotFound { .. }) => {}
                bytes => all[place] = Some(bytes.map_err(|error| self.trouble(&name, &error))?.into()),
            }
        }
        Ok(all)
    }

    /// Makes requests, a few at the same time; their answers come in any order.
    fn side_by_side<T: Send + 'static>(
        &self,
        mut requests: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
    ) -> Result<Vec<T>> {
        self.runtime.block_on(async {
            let mut answers = Vec::new();
            let mut under_way: JoinSet<T> = requests.by_ref().take(AT_ONCE).collect();
            while let Some(answer) = under_way.join_next().await {
                answers.push(answer.context("a request was cut off")?);
                requests.next().map(|request| under_way.spawn(request));
            }
            Ok(answers)
        })
    }

    /// Writes an object where none is of that name; false where one is by now, which stays as it is.
    pub fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<bool> {
        let (key, options) = (self.key(name), PutMode::Create.into());
        match self.runtime.block_on(self.objects.put_opts(&key, PutPayload::from(bytes), options)) {
            Err(Error::AlreadyExists { .. }) => Ok(false),
            // A server that cannot: whoever is the last has its way.
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => Ok(true),
            put => put.map(|_| true).map_err(|error| self.trouble(name, &error)),
        }
    }

    /// Writes an object, whole or not at all.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        self.put_all(vec![(name.into(), bytes)])
    }

    fn put_all(&self, files: Vec<(String, Vec<u8>)>) -> Result<()> {
        let write = |(name, bytes): (String, Vec<u8>)| {
            let (objects, key) = (self.objects.clone(), self.key(&name));
            async move { (name, objects.put(&key, PutPayload::from(bytes)).await) }
        };
        let answers = self.side_by_side(files.into_iter().map(write))?;
        answers.into_iter().try_for_each(|(name, put)| put.map(drop).map_err(|error| self.trouble(&name, &error)))
    }

    fn delete(&self, name: &str) -> Result<()> {
        match self.runtime.block_on(self.objects.delete(&self.key(name))) {
            Err(Error::NotFound { .. }) => Ok(()),
            deleted => deleted.map_err(|error| self.trouble(name, &error)),
        }
    }

    /// Names in a folder, without their ends.
    fn names(&self, folder: &str, end: &str) -> Result<HashSet<String>> {
        let listed = self.runtime.block_on(self.objects.list_with_delimiter(Some(&self.key(folder))));
        let objects = listed.map_err(|error| self.trouble(folder, &error))?.objects;
        let name = |object: &object_store::ObjectMeta| Some(object.location.filename()?.strip_suffix(end)?.to_string());
        Ok(objects.iter().filter_map(name).collect())
    }

    /// Runs that have ended.
    pub fn done(&self) -> Result<HashSet<String>> {
        self.names("done", ".json")
    }

    /// Runs that were stopped on their way, with the steps at which they were, rising.
    pub fn parts(&self) -> Result<BTreeMap<String, Vec<u64>>> {
        let part = |name: String| -> Option<(String, u64)> {
            let (id, step) = name.split_once('-')?;
            Some((id.to_string(), step.parse().ok()?))
        };
        let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (id, step) in self.names("parts", ".zip")?.into_iter().filter_map(part) {
            all.entry(id).or_default().push(step);
        }
        all.values_mut().for_each(|steps| steps.sort_unstable());
        Ok(all)
    }

    /// Puts a run that has ended here, its marker last.
    pub fn push(&self, id: &str, directory: &Path) -> Result<()> {
        // Whoever looks meanwhile is not to take new files for those of an older marker.
        self.forget(id)?;
        let mut listed = Marker { schema: SCHEMA, files: BTreeMap::new() };
        for names in disk::files(directory)?.chunks(AT_ONCE) {
            let mut files = Vec::new();
            for name in names {
                let bytes = disk::read(&directory.join(name))?;
                listed.files.insert(name.clone(), Stored::new(&bytes));
                files.push((format!("runs/{id}/{name}"), bytes));
            }
            self.put_all(files)?;
        }
        self.put(&marker(id), serde_json::to_vec_pretty(&listed)?)
    }

    /// Takes a run's marker away, so that it is done again.
    pub fn forget(&self, id: &str) -> Result<()> {
        self.delete(&marker(id))
    }

    /// Fetches a run that has ended. Where it is not what its marker says, and nobody is writing it anew, the marker goes.
    pub fn pull(&self, id: &str) -> Result<Pulled> {
        let name = marker(id);
        let mut known = self.get(&name)?;
        loop {
            let found = match &known {
                Some(bytes) => self.pull_marked(id, bytes)?,
                None => return Ok(Pulled::Damaged(format!("{}: is gone", self.title(&name)))),
            };
            if let Pulled::Whole(_) = found {
                return Ok(found);
            }
            let now = self.get(&name)?;
            if now == known {
                self.forget(id)?;
                return Ok(found);
            }
            known = now;
        }
    }

    fn pull_marked(&self, id: &str, marker_bytes: &[u8]) -> Result<Pulled> {
        let damaged = |what: String| Ok(Pulled::Damaged(what));
        let title = self.title(&marker(id));
        let marker: Marker = match serde_json::from_slice(marker_bytes) {
            Ok(marker) => marker,
            Err(error) => return damaged(format!("{title}: not a marker: {error}")),
        };
        ensure!(
            marker.schema == SCHEMA,
            "{title}: has the schema {}: expected {SCHEMA}, or a later grokscope",
            marker.schema
        );
        let objects: Vec<String> = marker.files.keys().map(|file| format!("runs/{id}/{file}")).collect();
        let mut files = Vec::new();
        for (((file, stored), bytes), object) in marker.files.iter().zip(self.get_all(&objects)?).zip(&objects) {
            match bytes {
                Some(bytes) if Stored::new(&bytes) == *stored && disk::is_inside(Path::new(file)) => {
                    files.push((file.clone(), bytes));
                }
                _ => return damaged(format!("{}: is not what its marker says", self.title(object))),
            }
        }
        Ok(Pulled::Whole(files))
    }

    /// Puts a run here that is to go on elsewhere.
    pub fn push_part(&self, id: &str, step: u64, directory: &Path) -> Result<()> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for name in disk::files(directory)? {
            zip.start_file(name.as_str(), zip::write::SimpleFileOptions::default()).context(name.clone())?;
            zip.write_all(&disk::read(&directory.join(&name))?).context(name)?;
        }
        self.put(&part(id, step), zip.finish().context("a part")?.into_inner())
    }

    /// Takes it away.
    pub fn delete_part(&self, id: &str, step: u64) -> Result<()> {
        self.delete(&part(id, step))
    }

    /// Fetches it.
    pub fn pull_part(&self, id: &str, step: u64) -> Result<Files> {
        let name = part(id, step);
        let bytes = self.get(&name)?.with_context(|| format!("{}: is gone", self.title(&name)))?;
        let mut files = Vec::new();
        let mut unpack = || -> Result<()> {
            let mut zip = ZipArchive::new(Cursor::new(&bytes))?;
            for i in 0..zip.len() {
                let mut entry = zip.by_index(i)?;
                let (name, mut bytes) = (entry.name()?.into_owned(), Vec::new());
                ensure!(disk::is_inside(Path::new(&name)), "{name}: leads out of the run");
                entry.read_to_end(&mut bytes)?;
                files.push((name, bytes));
            }
            Ok(())
        };
        unpack().map_err(|error| anyhow::anyhow!("{}: not a part of a run: {error:#}", self.title(&name)))?;
        Ok(files)
    }
}

/// Where the marker of a run is.
fn marker(id: &str) -> String {
    format!("done/{id}.json")
}

/// Where a run is that was stopped at a step.
fn part(id: &str, step: u64) -> String {
    format!("parts/{id}-{step}.zip")
}

/// An error of what was asked for: it comes again every time.
fn refused(url: &str, error: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("--store {url}: {error}")
}

#[cfg(feature = "s3")]
fn s3(bucket: &str) -> Result<Arc<dyn ObjectStore>, Box<dyn std::error::Error>> {
    for name in ["AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"] {
        let Ok(endpoint) = std::env::var(name) else { continue };
        let allowed =
            std::env::var("AWS_ALLOW_HTTP").is_ok_and(|value| value.eq_ignore_ascii_case("true") || value == "1");
        if endpoint.starts_with("http://") && !allowed {
            return Err(format!("{name}={endpoint} has no TLS: expected https://, or AWS_ALLOW_HTTP=true").into());
        }
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(format!("{name}={endpoint}: expected https://HOST:PORT").into());
        }
    }
    // Whoever trains waits for it: what does not answer soon is tried again at the end.
    let retry = object_store::RetryConfig {
        max_retries: 5,
        retry_timeout: std::time::Duration::from_secs(20),
        ..Default::default()
    };
    let builder = object_store::aws::AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry);
    let keys =
        "expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what else the server wants, in the environment";
    Ok(Arc::new(builder.build().map_err(|error| format!("{error}: {keys}"))?))
}

#[cfg(not(feature = "s3"))]
fn s3(_: &str) -> Result<Arc<dyn ObjectStore>, Box<dyn std::error::Error>> {
    Err("this grokscope was built without S3: expected cargo install --path . --features s3".into())
}
