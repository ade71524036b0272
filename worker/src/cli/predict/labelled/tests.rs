use image::{GrayImage, Luma};
use tempfile::TempDir;

use super::*;

const CLASSES: [&str; 3] = ["angry", "Very happy", "neutral"];

fn put(root: &TempDir, path: &str, gray: Option<u8>) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match gray {
        Some(gray) => GrayImage::from_pixel(6, 6, Luma([gray]))
            .save(path)
            .unwrap(),
        None => fs::write(path, "no image").unwrap(),
    }
}

fn read(root: &TempDir) -> anyhow::Result<Labelled> {
    class_folders(root.path())?.read(&CLASSES.map(str::to_owned), ImageShape::gray([2, 3]))
}

fn error(root: &TempDir) -> String {
    let error = format!("{:#}", read(root).unwrap_err());
    error.replace(root.path().to_str().unwrap(), "ROOT")
}

#[test]
fn images_have_the_class_of_their_folder_whatever_its_case() {
    let root = tempfile::tempdir().unwrap();
    put(&root, "neutral/b.PNG", Some(3));
    put(&root, "neutral/a.png", Some(2));
    put(&root, "VERY HAPPY/a.jpeg.png", Some(1));
    for other in [
        "Thumbs.db",
        ".DS_Store",
        "neutral/.a.png",
        "neutral/desktop.ini",
        "__MACOSX/._a.png",
        "labels.csv",
        "neutral/notes.txt",
        ".cache/a.png",
    ] {
        put(&root, other, None);
    }
    fs::create_dir(root.path().join("Angry")).unwrap();
    let found = read(&root).unwrap();
    assert_eq!(found.images.labels, [1, 2, 2]);
    let grays: Vec<u8> = [1, 2, 3].into_iter().flat_map(|gray| [gray; 6]).collect();
    assert_eq!(found.images.pixels, grays);
    assert_eq!(
        found.passed_over,
        ["labels.csv", "neutral/notes.txt"].map(|name| root.path().join(name))
    );
}

#[test]
fn a_class_that_differs_in_case_only_is_named_exactly() {
    let classes = ["a", "B", "b"].map(str::to_owned);
    let found = ["A", "a", "b", "B", "c", ""].map(|name| label(name, &classes));
    assert_eq!(found, [Some(0), Some(0), Some(2), Some(1), None, None]);
    let classes = ["É", "e"].map(str::to_owned);
    assert_eq!(
        ["é", "E"].map(|name| label(name, &classes)),
        [Some(0), Some(1)]
    );
    let classes = ["ab", "aB"].map(str::to_owned);
    assert_eq!(label("AB", &classes), None, "it could be either");
}

#[test]
fn another_word_for_an_expression_names_its_class() {
    let classes = ["angry", "happiness", "Anger2"].map(str::to_owned);
    let found = ["anger", "Happy", "joy", "sad"].map(|name| label(name, &classes));
    assert_eq!(found, [Some(0), Some(1), Some(1), None]);
    let classes = ["joy", "happiness"].map(str::to_owned);
    assert_eq!(label("happy", &classes), None, "it could be either");
    assert_eq!(label("happiness", &classes), Some(1));
}

#[test]
fn errors_name_the_folder_or_the_file() {
    let root = tempfile::tempdir().unwrap();
    put(&root, "a.png", Some(1));
    assert_eq!(
        error(&root),
        "ROOT has no class folders; --labels takes a folder with a folder of images for each class"
    );
    put(&root, "angry/notes.txt", None);
    assert_eq!(
        error(&root),
        "the class folders of ROOT have no image files"
    );
    put(&root, "angry/bad\x1b[2J.png", None);
    assert_eq!(
        error(&root),
        "ROOT/angry/bad [2J.png: not a PNG, JPEG, WebP, BMP or GIF image"
    );
    put(&root, "angry/a/b.png", Some(1));
    assert_eq!(
        error(&root),
        "ROOT/angry/a is a folder inside a class folder; move its images up, or remove it"
    );
    put(&root, "test/angry/a.png", Some(1));
    assert_eq!(
        error(&root),
        "class folder ROOT/test is of no class of the experiment, which has angry, Very happy, neutral; \
         rename or remove it"
    );
    let file = root.path().join("a.png");
    let error = format!("{:#}", class_folders(&file).unwrap_err());
    assert!(error.starts_with("cannot read the folder "), "{error}");
}
