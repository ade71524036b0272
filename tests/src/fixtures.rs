//! Small data sets and experiments, made by the tests.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use quartet_ingest::data::{self, Options, Source, SyntheticSpec};
use quartet_shared::dataset::Split;

/// Images of each split of [`csv`].
pub const IMAGES: [u32; 3] = [84, 42, 42];

/// Writes drawn faces as a CSV file in FER2013's format.
pub fn csv(folder: &Path) -> PathBuf {
    let [train, valid, test] = IMAGES.map(|n| n as usize);
    let synthetic = SyntheticSpec {
        train,
        valid,
        test,
        ..SyntheticSpec::default()
    };
    let options = Options {
        synthetic,
        ..Options::default()
    };
    let faces = data::load(&Source::Synthetic, &options)
        .expect("faces are drawn")
        .dataset;
    let image = usize::from(faces.width) * usize::from(faces.height);
    let mut text = String::from("emotion,pixels,Usage\n");
    for (split, usage) in Split::ALL
        .into_iter()
        .zip(["Training", "PublicTest", "PrivateTest"])
    {
        let images = faces.split(split);
        for (label, pixels) in images.labels.iter().zip(images.pixels.chunks(image)) {
            let pixels: Vec<String> = pixels.iter().map(u8::to_string).collect();
            writeln!(text, "{label},{},{usage}", pixels.join(" ")).expect("strings take text");
        }
    }
    let path = folder.join("faces.csv");
    fs::write(&path, text).expect("the folder is writable");
    path
}

/// Writes an experiment of two very small runs.
pub fn experiment(folder: &Path, epochs: u32) -> PathBuf {
    experiment_of(folder, epochs, 16)
}

/// The same with batches of another size: the smaller, the more steps an epoch has, and the longer it takes.
pub fn experiment_of(folder: &Path, epochs: u32, batch_size: u32) -> PathBuf {
    let text = format!(
        r#"
name = "small"
seed = 7
image_size = 48
batch_size = {batch_size}
epochs = {epochs}
patience = {epochs}
batch_norm_momentum = 0.9

[[run]]
backbone = "vgg16"
width = 0.05
learning_rate = 1e-3

[[run]]
name = "residual"
backbone = "resnet50"
width = 0.05
learning_rate = 1e-3
image_size = 32
"#
    );
    let path = folder.join("small.toml");
    fs::write(&path, text).expect("the folder is writable");
    path
}
