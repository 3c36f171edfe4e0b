//! Scripts for schedulers. Each task of an array does a shard; codes say whether to try again.

use anyhow::{Context, Result, ensure};
use base64::Engine;

/// What a script is made from.
pub struct Job<'a> {
    /// The plan's path.
    pub plan: &'a str,
    /// The sweep's directory: on storage that all tasks see, or, with a store, on each task's own.
    pub directory: &'a str,
    /// The object store, where the tasks share one instead of the directory.
    pub store: Option<&'a str>,
    /// Tasks of the array.
    pub shards: usize,
    /// Cores of a task.
    pub cpus: usize,
    /// Of Slurm: the time that a task may take, as `sbatch --time` has it.
    pub time: &'a str,
    /// The container's image, which has grokscope in its path.
    pub image: &'a str,
    /// The volume claim that holds plan and directory.
    pub claim: &'a str,
    /// Where it is mounted.
    pub mount: &'a str,
    /// The Kubernetes secret whose entries are the store's environment.
    pub secret: Option<&'a str>,
    /// With a store: the texts that the pods have of the plan and of the files that it names, by their names.
    pub files: Vec<(String, Vec<u8>)>,
}

/// A name that schedulers take: letters, digits and dashes.
fn name(plan: &str) -> String {
    let stem = std::path::Path::new(plan).file_stem().map_or(String::new(), |stem| stem.to_string_lossy().into_owned());
    let tidy: String = stem.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name: String = format!("grokscope-{}", tidy.trim_matches('-')).chars().take(50).collect();
    name.trim_end_matches('-').into()
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A batch script for `sbatch`. A task that was stopped in time (code 75) queues itself again.
pub fn slurm(job: &Job) -> Result<String> {
    let Job { plan, directory, shards, cpus, time, .. } = job;
    ensure!(
        !time.is_empty() && time.chars().all(|c| c.is_ascii_digit() || "-:".contains(c)),
        "--time {time}: expected a time as sbatch has it, such as 30 (minutes), 04:00:00 or 1-12:00:00"
    );
    let (name, last) = (name(plan), shards - 1);
    let (plan, directory) = (quoted(plan), quoted(directory));
    let store = job.store.map_or(String::new(), |url| format!(" --store {}", quoted(url)));
    Ok(format!(
        r#"#!/bin/bash
# A sweep as an array of {shards} tasks:   sbatch sweep.sbatch
# Its table and page, now or at the end:   grokscope sweep merge {directory}{store}
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={cpus}
#SBATCH --time={time}
#SBATCH --output={name}-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
# A minute before the end of its time: a checkpoint, and code 75.
#SBATCH --signal=USR1@60

# Runs that are done are left alone, those that were begun go on. sbatch --array={last} does shard {last} once more.
srun --ntasks=1 grokscope sweep run {plan} --out {directory}{store} --shard "${{SLURM_ARRAY_TASK_ID}}/{shards}" --threads {cpus} --quiet
code=$?
# 75: stopped, and can go on, a hundred times. Everything else is final: 0 done, 1 an error in what was asked for.
if [ "$code" -eq 75 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt 100 ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
"#
    ))
}

/// What a ConfigMap may hold.
const MOST_BYTES: usize = 1 << 20;

/// An indexed Job. Pods that were stopped in time (code 75), or evicted, are made again; an error in what was asked for ends the job.
/// With a store the plan travels in a ConfigMap, and every pod has a disk of its own.
pub fn kubernetes(job: &Job) -> Result<String> {
    let Job { plan, directory, shards, cpus, image, claim, mount, .. } = job;
    let text = |text: &str| serde_json::to_string(text).context("a text");
    let name = name(plan);
    let inside = |what: &str, path: &str| -> Result<()> {
        ensure!(
            std::path::Path::new(path).starts_with(mount),
            "{what} {path}: lies outside of the volume at {mount}: expected a path in it, as the pods see it, or another --mount"
        );
        Ok(())
    };
    inside("--out", directory)?;
    let (map, plan, volumes, merge) = match job.store {
        None => {
            inside("PLAN", plan)?;
            let volumes = format!(
                "            - name: sweep
              mountPath: {mount}
      volumes:
        - name: sweep
          persistentVolumeClaim:
            claimName: {claim}
",
                mount = text(mount)?,
                claim = text(claim)?
            );
            (
                String::new(),
                plan.to_string(),
                volumes,
                "from a machine that has the volume:   grokscope sweep merge DIR".into(),
            )
        }
        Some(url) => {
            let volumes = format!(
                "            - name: sweep
              mountPath: {mount}
            - name: plan
              mountPath: /plan
      volumes:
        - name: sweep
          emptyDir: {{}}
        - name: plan
          configMap:
            name: {name}
",
                mount = text(mount)?
            );
            (
                config_map(&name, &job.files)?,
                format!("/plan/{}", job.files[0].0),
                volumes,
                format!("from anywhere:   grokscope sweep merge DIR --store {url}"),
            )
        }
    };
    let store =
        job.store.map_or(Ok(String::new()), |url| Ok::<_, anyhow::Error>(format!(", \"--store\", {}", text(url)?)))?;
    let secret = match job.secret {
        Some(secret) => format!(
            "          envFrom:
            - secretRef:
                name: {}
",
            text(secret)?
        ),
        None => String::new(),
    };
    Ok(format!(
        r#"# A sweep as an indexed job of {shards} pods:   kubectl apply -f sweep.yaml
# Its table and page, {merge}
{map}apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
spec:
  completionMode: Indexed
  completions: {shards}
  parallelism: {shards}
  # Codes without a rule, 75 (stopped, and can go on) among them: try again, so many times.
  backoffLimitPerIndex: 20
  maxFailedIndexes: {shards}
  podFailurePolicy:
    rules:
      # Evicted: try again, and do not count it.
      - action: Ignore
        onPodConditions:
          - type: DisruptionTarget
            status: "True"
      # An error in what was asked for: the same would come of every other try.
      - action: FailJob
        onExitCodes:
          containerName: grokscope
          operator: In
          values: [1]
  template:
    spec:
      restartPolicy: Never
      # After TERM a checkpoint is written: that takes a step and a file.
      terminationGracePeriodSeconds: 60
      containers:
        - name: grokscope
          image: {image}
          # The number of the shard comes from JOB_COMPLETION_INDEX.
          command: ["grokscope", "sweep", "run", {plan}, "--out", {directory}{store}, "--shards", "{shards}", "--threads", "{cpus}", "--quiet"]
{secret}          resources:
            requests:
              cpu: "{cpus}"
              memory: 1Gi
          volumeMounts:
{volumes}"#,
        image = text(image)?,
        plan = text(&plan)?,
        directory = text(directory)?,
    ))
}

/// The plan, and the files that it names, for pods that share no volume.
fn config_map(name: &str, files: &[(String, Vec<u8>)]) -> Result<String> {
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    ensure!(
        bytes <= MOST_BYTES,
        "the plan and the files that it names have {bytes} bytes, and a ConfigMap may have {MOST_BYTES}: expected a volume that holds them, and no --store"
    );
    let (mut texts, mut others) = (String::new(), String::new());
    for (name, bytes) in files {
        let is_key = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        ensure!(
            is_key,
            "{name}: is no name in a ConfigMap: expected letters, digits, '-', '_' and '.', and no directory"
        );
        match std::str::from_utf8(bytes) {
            Ok(text) => texts += &format!("  {name}: {}\n", serde_json::to_string(text)?),
            Err(_) => others += &format!("  {name}: {}\n", base64::prelude::BASE64_STANDARD.encode(bytes)),
        }
    }
    let others = if others.is_empty() { others } else { format!("binaryData:\n{others}") };
    Ok(format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n{texts}{others}---\n"))
}
