//! Folders of labelled images: `<class>/*`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use quartet_shared::dataset::{ImageShape, Images};
use quartet_shared::expression::standard_name;
use quartet_shared::label::one_line;
use quartet_shared::picture::{has_image_name, is_clutter};

use super::super::{picture, shown};

/// The class folders of a folder, not yet read.
#[derive(Debug)]
pub(super) struct ClassFolders {
    root: PathBuf,
    /// Sorted by name.
    folders: Vec<Entry>,
    /// Files beside the class folders.
    files: Vec<PathBuf>,
}

/// What the class folders have.
#[derive(Debug)]
pub(super) struct Labelled {
    /// The images with their classes.
    pub(super) images: Images,
    /// Other files than images of a class, without the hidden ones and what file managers leave.
    pub(super) passed_over: Vec<PathBuf>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    path: PathBuf,
}

/// Finds the class folders of `root`, whatever classes they are of.
///
/// # Errors
/// `root` cannot be read, or has none.
pub(super) fn class_folders(root: &Path) -> anyhow::Result<ClassFolders> {
    let (folders, files) = list(root)?;
    ensure!(
        !folders.is_empty(),
        "{} has no class folders; --labels takes a folder with a folder of images for each class",
        shown(root)
    );
    Ok(ClassFolders {
        root: root.to_owned(),
        folders,
        files: files.into_iter().map(|entry| entry.path).collect(),
    })
}

impl ClassFolders {
    /// Reads the images, each given this shape. A folder is named as its class, without
    /// regard to case, or by another word for its expression.
    ///
    /// # Errors
    /// A folder is of none of the classes or has folders, an image file cannot be read, or there is
    /// none.
    pub(super) fn read(self, classes: &[String], shape: ImageShape) -> anyhow::Result<Labelled> {
        let labels: Vec<u8> = self
            .folders
            .iter()
            .map(|folder| {
                label(&folder.name, classes).with_context(|| {
                    let known: Vec<_> = classes.iter().map(|class| one_line(class)).collect();
                    format!(
                        "class folder {} is of no class of the experiment, which has {}; \
                         rename or remove it",
                        shown(&folder.path),
                        known.join(", ")
                    )
                })
            })
            .collect::<anyhow::Result<_>>()?;
        let (mut images, mut passed_over) = (Images::default(), self.files);
        for (Entry { path, .. }, label) in self.folders.iter().zip(labels) {
            let (folders, files) = list(path)?;
            if let Some(inner) = folders.first() {
                bail!(
                    "{} is a folder inside a class folder; move its images up, or remove it",
                    shown(&inner.path)
                );
            }
            for Entry { path, .. } in files {
                if has_image_name(&path) {
                    let picture = picture(&path, shape.channels)?;
                    let picture = picture.resized(shape.height, shape.width);
                    images.labels.push(label);
                    images.pixels.extend_from_slice(picture.pixels());
                } else {
                    passed_over.push(path);
                }
            }
        }
        ensure!(
            !images.is_empty(),
            "the class folders of {} have no image files",
            shown(&self.root)
        );
        Ok(Labelled {
            images,
            passed_over,
        })
    }
}

/// The number of the class that a folder's name means: its very name, or else the only one that differs from
/// it in case alone, or else the only one that is a word for the same expression.
fn label(name: &str, classes: &[String]) -> Option<u8> {
    let same = |class: &String| class.to_lowercase() == name.to_lowercase();
    let exact = classes.iter().position(|class| class == name);
    let index = exact.or_else(|| {
        let first = classes.iter().position(same)?;
        (!classes[first + 1..].iter().any(same)).then_some(first)
    });
    let index = index.or_else(|| {
        let expression = standard_name(name)?;
        let means = |class: &String| standard_name(class) == Some(expression);
        let first = classes.iter().position(means)?;
        (!classes[first + 1..].iter().any(means)).then_some(first)
    })?;
    u8::try_from(index).ok()
}

/// The folders and the files of a folder, sorted by name, without hidden ones and what file managers leave.
fn list(folder: &Path) -> anyhow::Result<(Vec<Entry>, Vec<Entry>)> {
    let failed = || format!("cannot read the folder {}", shown(folder));
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_clutter(&name) {
            let path = entry.path();
            entries.push(Entry { name, path });
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    // Follows links, which a directory entry's own type does not.
    Ok(entries.into_iter().partition(|entry| entry.path.is_dir()))
}

#[cfg(test)]
mod tests;
