//! A disk that is soon full: a file system in memory, in a mount namespace of its own.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::processes::Process;

/// A mounted disk, which lasts until this is dropped and no process that was launched on it is left.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Process,
    rootless: bool,
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts a disk of so many bytes on a folder; says why where this machine does not permit it.
    pub fn mount(folder: &Path, size: u64) -> Result<Self, String> {
        fs::create_dir_all(folder).map_err(|e| e.to_string())?;
        // As root without a user namespace, else with one.
        let mounted = Self::try_mount(folder, size, false);
        mounted.or_else(|_| Self::try_mount(folder, size, true))
    }

    fn try_mount(folder: &Path, size: u64, rootless: bool) -> Result<Self, String> {
        let mut unshare = Command::new("unshare");
        if rootless {
            unshare.arg("--map-root-user");
        }
        let script =
            r#"mount -t tmpfs -o "size=$1" tmpfs "$2" && echo mounted && exec sleep infinity"#;
        unshare.args(["--mount", "sh", "-c", script, "sh", &size.to_string()]);
        let mut child = unshare
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("unshare: {e}"))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let holder = Process::from(child);
        let mut line = String::new();
        let stdout = stdout.expect("stdout is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(|e| e.to_string())?;
        if line.trim() != "mounted" {
            let mut reason = String::new();
            let read = stderr.expect("stderr is piped").read_to_string(&mut reason);
            read.map_err(|e| e.to_string())?;
            return Err(reason.trim().to_owned());
        }
        Ok(Self {
            holder,
            rootless,
            folder: folder.to_owned(),
        })
    }

    /// The command that has another program see the disk.
    #[must_use]
    pub fn launcher(&self) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &self.holder.id().to_string(), "--mount"]);
        if self.rootless {
            nsenter.args(["--user", "--preserve-credentials"]);
        }
        nsenter.arg("--");
        nsenter
    }

    /// The disk as this process sees it.
    #[must_use]
    pub fn outside(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.folder.strip_prefix("/").unwrap_or(&self.folder))
    }

    fn ballast(&self) -> PathBuf {
        self.outside().join(".ballast")
    }

    /// Leaves no space at all, until something on it is deleted.
    ///
    /// # Panics
    /// If the disk takes no more for another reason than its size.
    pub fn fill(&self) {
        let mut options = File::options();
        let ballast = options.append(true).create(true).open(self.ballast());
        let mut ballast = ballast.expect("the disk is there");
        let error = loop {
            if let Err(error) = ballast.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }

    /// Gives the space back.
    ///
    /// # Panics
    /// If the disk was not filled.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).expect("the disk was filled");
    }
}
