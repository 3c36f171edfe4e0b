//! Scripts for schedulers. Each task of an array does a shard; codes say whether to try again.

use anyhow::{Context, Result, ensure};

/// What a script is made from.
pub struct Job<'a> {
    /// The plan's path.
    pub plan: &'a str,
    /// The sweep's directory, on storage that all tasks see.
    pub directory: &'a str,
    /// Tasks of the array.
    pub shards: usize,
    /// Cores of a task.
    pub cpus: usize,
    /// The container's image, which has grokscope in its path.
    pub image: &'a str,
    /// The volume claim that holds plan and directory.
    pub claim: &'a str,
    /// Where it is mounted.
    pub mount: &'a str,
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
pub fn slurm(job: &Job) -> String {
    let Job { plan, directory, shards, cpus, .. } = job;
    let (name, last) = (name(plan), shards - 1);
    let (plan, directory) = (quoted(plan), quoted(directory));
    format!(
        r#"#!/bin/bash
# A sweep as an array of {shards} tasks:   sbatch sweep.sbatch
# Its table and page, now or at the end:   grokscope sweep merge {directory}
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={cpus}
#SBATCH --time=04:00:00
#SBATCH --output={name}-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
# A minute before the end of its time: a checkpoint, and code 75.
#SBATCH --signal=USR1@60

# Runs that are done are left alone, those that were begun go on. sbatch --array={last} does shard {last} once more.
srun --ntasks=1 grokscope sweep run {plan} --out {directory} --shard "${{SLURM_ARRAY_TASK_ID}}/{shards}" --threads {cpus} --quiet
code=$?
# 75: stopped, and can go on. Everything else is final: 0 done, 1 an error in what was asked for.
if [ "$code" -eq 75 ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
"#
    )
}

/// An indexed Job. Pods that were stopped in time (code 75), or evicted, are made again; an error in what was asked for ends the job.
pub fn kubernetes(job: &Job) -> Result<String> {
    let Job { plan, directory, shards, cpus, image, claim, mount } = job;
    for (flag, path) in [("--plan", plan), ("--out", directory)] {
        ensure!(
            std::path::Path::new(path).starts_with(mount),
            "{flag} {path}: lies outside of the volume at {mount}: expected a path in it, as the pods see it, or another --mount"
        );
    }
    let text = |text: &str| serde_json::to_string(text).context("a text");
    let name = name(plan);
    Ok(format!(
        r#"# A sweep as an indexed job of {shards} pods:   kubectl apply -f sweep.yaml
# Its table and page, from a machine that has the volume:   grokscope sweep merge DIR
apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
spec:
  completionMode: Indexed
  completions: {shards}
  parallelism: {shards}
  backoffLimitPerIndex: 20
  maxFailedIndexes: {shards}
  podFailurePolicy:
    rules:
      # Stopped with a checkpoint: try again, and do not count it.
      - action: Ignore
        onExitCodes:
          containerName: grokscope
          operator: In
          values: [75]
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
          command: ["grokscope", "sweep", "run", {plan}, "--out", {directory}, "--shards", "{shards}", "--threads", "{cpus}", "--quiet"]
          resources:
            requests:
              cpu: "{cpus}"
              memory: 1Gi
          volumeMounts:
            - name: sweep
              mountPath: {mount}
      volumes:
        - name: sweep
          persistentVolumeClaim:
            claimName: {claim}
"#,
        image = text(image)?,
        plan = text(plan)?,
        directory = text(directory)?,
        mount = text(mount)?,
        claim = text(claim)?,
    ))
}
