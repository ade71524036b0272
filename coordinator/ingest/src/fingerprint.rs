//! What a source of images looks like from outside: one that nobody has touched need not be read again.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use quartet_shared::blob::Checksum;

use crate::data::{Options, Source};

/// Folders within folders that are looked into: data have fewer, and a link may lead back.
const DEEPEST: usize = 8;

/// A checksum over the options, and of each file its path, its size in bytes and the nanosecond of its last
/// change: of all files of a folder, and of a table also those of the tables beside it. Where two are equal,
/// the same would be packed, unless a file was replaced by one of the same size, and of the same time, as
/// some programs that copy keep it. Blocks, but reads no file.
///
/// # Errors
/// A file or folder cannot be looked at.
pub fn fingerprint(source: &Source, options: &Options) -> io::Result<Checksum> {
    let mut seen = format!("{options:?}\n").into_bytes();
    if let Source::Path(path) = source {
        let found = path.canonicalize()?;
        let metadata = fs::metadata(&found)?;
        push(&mut seen, &found, &metadata);
        // Where it was named, not where a link leads.
        match std::path::absolute(path)?.parent() {
            _ if metadata.is_dir() => folder(&mut seen, &found, DEEPEST)?,
            Some(parent) => tables(&mut seen, &parent.canonicalize()?)?,
            None => {}
        }
    }
    Ok(Checksum::of(&seen))
}

fn folder(seen: &mut Vec<u8>, path: &Path, deeper: usize) -> io::Result<()> {
    let Some(deeper) = deeper.checked_sub(1) else {
        return Err(io::Error::other("too many folders within folders"));
    };
    for entry in sorted(path)? {
        let metadata = fs::metadata(&entry)?;
        push(seen, &entry, &metadata);
        if metadata.is_dir() {
            folder(seen, &entry, deeper)?;
        }
    }
    Ok(())
}

/// A table of labels may have its images in another one.
fn tables(seen: &mut Vec<u8>, folder: &Path) -> io::Result<()> {
    for entry in sorted(folder)? {
        if entry
            .extension()
            .is_some_and(|extension| extension == "csv")
        {
            push(seen, &entry, &fs::metadata(&entry)?);
        }
    }
    Ok(())
}

fn sorted(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    paths.sort_unstable();
    Ok(paths)
}

fn push(seen: &mut Vec<u8>, path: &Path, metadata: &Metadata) {
    // No path has a byte of 0.
    seen.extend_from_slice(path.as_os_str().as_encoded_bytes());
    seen.push(0);
    // A folder's own size and time also change with entries that are left out.
    let [size, seconds, nanoseconds] = match metadata.is_dir() {
        true => [0; 3],
        false => [
            metadata.len().cast_signed(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        ],
    };
    let kind = u8::from(metadata.is_dir());
    seen.extend(format!("{kind} {size} {seconds} {nanoseconds}\n").bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::File;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    use super::*;

    fn of(path: &Path) -> Checksum {
        let source = Source::Path(path.to_owned());
        fingerprint(&source, &Options::default()).unwrap()
    }

    fn set_time(path: &Path, time: SystemTime) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    }

    #[test]
    fn every_change_of_a_folder_shows() {
        let dir = tempfile::tempdir().unwrap();
        let images = dir.path().join("images/happy");
        fs::create_dir_all(&images).unwrap();
        let write = |name: &str, bytes: &[u8]| -> PathBuf {
            let path = images.join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let begin = SystemTime::now() - Duration::from_secs(60);
        let first = write("1.png", b"one");
        set_time(&first, begin);
        let all = dir.path().join("images");
        let mut seen = BTreeSet::from([of(&all)]);
        assert!(
            !seen.insert(of(&all)),
            "it stays as long as nothing changes"
        );
        let mut expect_another = |what: &str| assert!(seen.insert(of(&all)), "{what}");
        set_time(&first, begin + Duration::from_nanos(1000));
        expect_another("another time");
        write("1.png", b"longer");
        set_time(&first, begin);
        expect_another("another size");
        write("2.png", b"two");
        expect_another("another file");
        fs::rename(images.join("2.png"), images.join("3.png")).unwrap();
        expect_another("another name");
        fs::create_dir(all.join("sad")).unwrap();
        expect_another("another folder");
        fs::rename(&all, dir.path().join("moved")).unwrap();
        fs::create_dir(&all).unwrap();
        expect_another("nothing");
    }

    #[test]
    fn options_and_tables_beside_count() {
        let dir = tempfile::tempdir().unwrap();
        let labels = dir.path().join("fer2013new.csv");
        fs::write(&labels, "labels").unwrap();
        let alone = of(&labels);
        fs::write(dir.path().join("notes.txt"), "notes").unwrap();
        assert_eq!(of(&labels), alone);
        fs::write(dir.path().join("fer2013.csv"), "images").unwrap();
        assert_ne!(of(&labels), alone);
        let other = Options {
            skip_bad_rows: true,
            ..Options::default()
        };
        let source = Source::Path(labels.clone());
        assert_ne!(fingerprint(&source, &other).unwrap(), of(&labels));
        let absent = Source::Path(dir.path().join("absent.csv"));
        assert!(fingerprint(&absent, &other).is_err());
    }
}
