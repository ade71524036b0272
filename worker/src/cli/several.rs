//! `worker --gpu 0,1`: a worker process for each GPU, and one that waits for them.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};

use anyhow::Context;
use quartet_shared::shutdown::Shutdown;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinSet;

use super::fail;
use super::serve::exit_with_parent;

const EXIT_WITH_PARENT: &str = "--exit-with-parent";

/// Starts this program once for each GPU, hands signals on, and waits for all. The exit status is the highest
/// of theirs; one that fails leaves the others alone.
pub(super) fn run(gpus: &[usize], name: Option<&str>, has_parent: bool) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let started = |shutdown| async move {
        let program = std::env::current_exe()?;
        let arguments = without(&["--gpu", "--name"], std::env::args_os().skip(1));
        let arguments: Vec<_> = arguments
            .filter(|argument| argument != EXIT_WITH_PARENT)
            .collect();
        start_and_wait(&program, &arguments, (gpus, name), shutdown).await
    };
    let done = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let shutdown = Shutdown::on_signals()?;
            if has_parent {
                exit_with_parent(shutdown.clone());
            }
            started(shutdown).await
        }),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => fail(&error, 1),
    }
}

/// A worker process, and the end of its input that tells it that we live.
struct Started {
    gpu: usize,
    child: Child,
    _lifeline: Option<ChildStdin>,
}

async fn start_and_wait(
    program: &Path,
    arguments: &[OsString],
    (gpus, name): (&[usize], Option<&str>),
    shutdown: Shutdown,
) -> anyhow::Result<u8> {
    let mut workers = JoinSet::new();
    for &gpu in gpus {
        let worker = start(program, arguments, gpu, name)?;
        workers.spawn(wait(worker, shutdown.clone()));
    }
    let mut highest = 0;
    while let Some(ended) = workers.join_next().await {
        highest = highest.max(ended?);
    }
    Ok(highest)
}

fn start(
    program: &Path,
    arguments: &[OsString],
    gpu: usize,
    name: Option<&str>,
) -> anyhow::Result<Started> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(format!("--gpu={gpu}"))
        .arg(EXIT_WITH_PARENT)
        .stdin(Stdio::piped())
        // A signal from the terminal goes to this process, which hands it on.
        .process_group(0);
    if let Some(name) = name {
        command.arg(format!("--name={name}-{gpu}"));
    }
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {} again", program.display()))?;
    // Taken out, because waiting for a child closes what is left in it.
    let lifeline = child.stdin.take();
    Ok(Started {
        gpu,
        child,
        _lifeline: lifeline,
    })
}

/// The exit status of a worker, which is asked to stop when this process is.
async fn wait(mut worker: Started, shutdown: Shutdown) -> u8 {
    let ended = tokio::select! {
        ended = worker.child.wait() => ended,
        () = shutdown.triggered() => {
            let id = worker.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
            if let Some(id) = id {
                // It may have ended just now.
                let _ = kill_process(id, Signal::TERM);
            }
            worker.child.wait().await
        }
    };
    let gpu = worker.gpu;
    match ended {
        Ok(ended) => {
            if !ended.success() {
                tracing::warn!(gpu, %ended, "the worker on this GPU ended; the others go on");
            }
            code(ended)
        }
        Err(error) => {
            tracing::error!(gpu, %error, "cannot wait for the worker on this GPU");
            1
        }
    }
}

/// An exit status as shells have it.
fn code(ended: ExitStatus) -> u8 {
    let by_signal = ended.signal().map(|signal| 128 + signal);
    let code = ended.code().or(by_signal).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// Arguments without these options and their values.
fn without(
    options: &[&str],
    arguments: impl Iterator<Item = OsString>,
) -> impl Iterator<Item = OsString> {
    let mut value_follows = false;
    arguments.filter(move |argument| {
        if std::mem::take(&mut value_follows) {
            return false;
        }
        value_follows = options.iter().any(|option| argument == OsStr::new(option));
        let joined = |option: &&str| {
            let text = argument.to_string_lossy();
            text.strip_prefix(*option)
                .is_some_and(|rest| rest.starts_with('='))
        };
        !value_follows && !options.iter().any(joined)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;

    #[test]
    fn options_are_left_out_in_both_forms() {
        let arguments = "--gpu 0,1 --threads 3 --name=a --gpu=2 --gpus x --name b --insecure";
        let arguments = arguments.split(' ').map(OsString::from);
        let left: Vec<_> = without(&["--gpu", "--name"], arguments).collect();
        assert_eq!(left, ["--threads", "3", "--gpus", "x", "--insecure"]);
    }

    /// A program that says that it is there, and ends with its GPU's number when it is told to stop.
    const PROGRAM: &str = "#!/bin/sh
for argument; do case $argument in --gpu=*) gpu=${argument#--gpu=};; esac; done
trap 'exit $gpu' TERM
echo \"$@\" >\"$1/$gpu.new\" && mv \"$1/$gpu.new\" \"$1/$gpu\"
read -r line
exit 99
";

    #[tokio::test]
    async fn all_are_told_to_stop_and_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("worker");
        std::fs::write(&program, PROGRAM).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let arguments = [folder.path().into(), "--insecure".into()];
        let shutdown = Shutdown::new();
        let stop = async {
            for gpu in ["3", "5"] {
                while !folder.path().join(gpu).exists() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            shutdown.trigger();
        };
        let gpus = (&[3, 5][..], Some("node"));
        let ended = start_and_wait(&program, &arguments, gpus, shutdown.clone());
        let (ended, ()) = tokio::join!(ended, stop);
        assert_eq!(ended.unwrap(), 5);
        let told = std::fs::read_to_string(folder.path().join("3")).unwrap();
        for argument in [
            "--insecure",
            "--gpu=3",
            "--exit-with-parent",
            "--name=node-3",
        ] {
            assert!(told.contains(argument), "{told}");
        }
        let nowhere = start_and_wait(Path::new("/nowhere"), &[], gpus, shutdown.clone());
        assert!(nowhere.await.unwrap_err().to_string().contains("/nowhere"));
    }

    #[test]
    fn the_exit_status_is_as_shells_have_it() {
        for (wait_status, expected) in [(0, 0), (2 << 8, 2), (9, 137), (15, 143)] {
            assert_eq!(code(ExitStatus::from_raw(wait_status)), expected);
        }
    }
}
