//! How the folders of a data set are laid out.

use std::path::{Path, PathBuf};

use quartet_shared::dataset::Split;

use super::entries::{Entry, list, shown};
use crate::data::deal::Dealing;
use crate::data::{DataError, KNOWN_CSV};

/// Names of the split folders, without regard to case.
const SPLIT_NAMES: [&[&str]; 3] = [
    &["train", "training"],
    &["valid", "validation", "val", "publictest"],
    &["test", "testing", "privatetest"],
];

/// How the images of a test folder begin that has both splits of FER2013, and whose they are.
const FER2013_NAMES: [(&str, Split); 2] =
    [("publictest", Split::Valid), ("privatetest", Split::Test)];

/// What a directory is.
#[derive(Debug)]
pub(in crate::data) enum Found {
    /// It has folders of images.
    Images(Layout),
    /// It has one folder and no image: an archive's own folder.
    Wrapper(PathBuf),
}

/// Where the class folders are.
#[derive(Debug)]
pub(in crate::data) struct Layout {
    /// The directory that was looked at.
    pub(super) root: PathBuf,
    /// Folders whose entries are class folders, and the split that they are of.
    pub(super) splits: Vec<(Split, PathBuf)>,
    /// Whether the test folder has FER2013's validation and test images, told apart by their names.
    pub(super) is_kaggles: bool,
}

/// Finds out what a directory is.
pub(in crate::data) fn find(root: &Path, dealing: Dealing) -> Result<Found, DataError> {
    let failed = |problem| DataError::Layout {
        path: root.to_owned(),
        problem,
    };
    let entries = list(root)?;
    let folders: Vec<&Entry> = entries.iter().filter(|entry| entry.is_dir).collect();
    let found = split_folders(&folders).map_err(failed)?;
    if found.iter().any(Option::is_some) {
        return splits(root, found, dealing).map(Found::Images);
    }
    if classes_are_here(&folders)? {
        let Dealing::All(_) = dealing else {
            let names = shown(folders.iter().map(|folder| folder.name.as_str()));
            return Err(failed(format!(
                "class folders ({names}) but no folders train, valid and test; \
                 --split 0.8,0.1,0.1 deals the images to three splits"
            )));
        };
        return Ok(Found::Images(Layout {
            root: root.to_owned(),
            splits: vec![(Split::Train, root.to_owned())],
            is_kaggles: false,
        }));
    }
    if let ([folder], false) = (&folders[..], entries.iter().any(Entry::is_image)) {
        return Ok(Found::Wrapper(folder.path.clone()));
    }
    Err(failed(unknown(&entries)))
}

/// The message for a directory that is none of the known ones.
pub(in crate::data) fn unknown_layout(root: &Path) -> DataError {
    let problem = match list(root) {
        Ok(entries) => unknown(&entries),
        Err(error) => return error,
    };
    DataError::Layout {
        path: root.to_owned(),
        problem,
    }
}

fn unknown(entries: &[Entry]) -> String {
    let found = match entries {
        [] => "nothing".to_owned(),
        entries => shown(entries.iter().map(|entry| entry.name.as_str())),
    };
    format!(
        "neither a known CSV file ({}) nor folders train, valid and test in this directory, nor a folder of \
         images for each class (for --split); it has {found}",
        KNOWN_CSV.join(", ")
    )
}

/// The folders of the splits, in their order.
fn split_folders(folders: &[&Entry]) -> Result<[Option<PathBuf>; 3], String> {
    let mut found = [const { None }; 3];
    for entry in folders {
        let name = entry.name.to_lowercase();
        let Some(split) = SPLIT_NAMES
            .iter()
            .position(|names| names.contains(&name.as_str()))
        else {
            continue;
        };
        if found[split].replace(entry.path.clone()).is_some() {
            let split = Split::ALL[split];
            return Err(format!(
                "more than one folder for the {split} split; keep one"
            ));
        }
    }
    Ok(found)
}

/// The splits, if they are enough.
fn splits(root: &Path, found: [Option<PathBuf>; 3], dealing: Dealing) -> Result<Layout, DataError> {
    let missing = |split: Split, advice: &str| DataError::Layout {
        path: root.to_owned(),
        problem: format!(
            "no folder for the {split} split ({}); {advice}",
            SPLIT_NAMES[split as usize].join(", ")
        ),
    };
    let mut is_kaggles = false;
    match (&found, dealing) {
        (_, Dealing::All(_)) => {}
        ([None, ..], _) => {
            let advice = "training needs it; --split 0.8,0.1,0.1 deals all images anew";
            return Err(missing(Split::Train, advice));
        }
        ([_, None, Some(test)], Dealing::Own) if has_fer2013s_names(test)? => is_kaggles = true,
        ([_, None, _], Dealing::Own) => {
            let advice = "the best epoch is chosen on it; --valid-fraction 0.1 takes a part of the training \
                          images, --split 0.8,0.1,0.1 deals all images anew";
            return Err(missing(Split::Valid, advice));
        }
        _ => {}
    }
    let folders = Split::ALL.into_iter().zip(found);
    Ok(Layout {
        root: root.to_owned(),
        splits: folders
            .filter_map(|(split, folder)| Some((split, folder?)))
            .collect(),
        is_kaggles,
    })
}

/// Whether a directory has folders of images.
fn classes_are_here(folders: &[&Entry]) -> Result<bool, DataError> {
    for folder in folders {
        if list(&folder.path)?.iter().any(Entry::is_image) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the names of all images in the class folders of `test` say which of FER2013's splits they are of,
/// and there are some of both.
fn has_fer2013s_names(test: &Path) -> Result<bool, DataError> {
    let mut seen = [false; 2];
    for class in list(test)?.iter().filter(|entry| entry.is_dir) {
        for image in list(&class.path)?.iter().filter(|entry| entry.is_image()) {
            match fer2013_split(&image.name) {
                Some(Split::Valid) => seen[0] = true,
                Some(_) => seen[1] = true,
                None => return Ok(false),
            }
        }
    }
    Ok(seen == [true; 2])
}

/// FER2013's split of an image, as the beginning of its file's name tells it.
pub(super) fn fer2013_split(name: &str) -> Option<Split> {
    let name = name.to_lowercase();
    FER2013_NAMES
        .into_iter()
        .find_map(|(start, split)| name.starts_with(start).then_some(split))
}
