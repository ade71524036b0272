//! Faces that we draw ourselves, in FER2013's seven classes: for the demo, for tests, for a first look.
//!
//! A face is a function of the seed, its split and its index alone: the counts change none of them. Only
//! basic arithmetic is used (no sine, no exponential), so that all machines draw the same bytes.

mod canvas;
mod expression;
mod face;
mod random;
#[cfg(test)]
mod tests;

use quartet_shared::dataset::{EMOTIONS, Split};

use self::random::Random;
use super::deal::Key;
use super::gather::Gather;
use super::{DataError, Loaded, Options};

/// Side of the drawn faces.
pub const SIDE: u16 = 48;

/// What errors call the data.
const ORIGIN: &str = "synthetic faces";

const IMAGE_LEN: usize = SIDE as usize * SIDE as usize;

/// What to draw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntheticSpec {
    /// Of everything random in the faces.
    pub seed: u64,
    /// Training images.
    pub train: usize,
    /// Validation images.
    pub valid: usize,
    /// Test images.
    pub test: usize,
}

impl Default for SyntheticSpec {
    /// About 4,000 faces: ready in a fraction of a second.
    fn default() -> Self {
        Self {
            seed: 0,
            train: 2800,
            valid: 560,
            test: 560,
        }
    }
}

/// Draws the data set, on all cores.
pub(super) fn load(options: &Options) -> Result<Loaded, DataError> {
    options.refuse_for_image_files(ORIGIN)?;
    options.refuse_soft_labels(ORIGIN)?;
    let spec = &options.synthetic;
    let mut gather = Gather::new(options)?;
    for (split, count) in Split::ALL
        .into_iter()
        .zip([spec.train, spec.valid, spec.test])
    {
        let pixels = draw_split(spec.seed, split, count);
        for (index, image) in pixels.chunks_exact(IMAGE_LEN).enumerate() {
            let label = label(spec.seed, split, index);
            gather.push(split, label, Key::Row(index as u64), image)?;
        }
    }
    gather.finish(
        ORIGIN,
        [SIDE; 2],
        EMOTIONS.map(str::to_owned).to_vec(),
        true,
    )
}

fn draw_split(seed: u64, split: Split, count: usize) -> Vec<u8> {
    let mut pixels = vec![0; count * IMAGE_LEN];
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let per_thread = count.div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for (part, images) in pixels.chunks_mut(per_thread * IMAGE_LEN).enumerate() {
            scope.spawn(move || {
                for (index, image) in (part * per_thread..).zip(images.chunks_exact_mut(IMAGE_LEN))
                {
                    let emotion = label(seed, split, index);
                    face::draw(emotion, &mut Random::of_image(seed, split, index), image);
                }
            });
        }
    });
    pixels
}

/// The class of an image. Each seven images in a row are the seven classes in a random order, so that any
/// number of images is balanced.
fn label(seed: u64, split: Split, index: usize) -> u8 {
    let classes = EMOTIONS.len();
    let mut order = [0, 1, 2, 3, 4, 5, 6];
    let mut random = Random::of_labels(seed, split, index / classes);
    for end in (1..classes).rev() {
        order.swap(end, random.below(end + 1));
    }
    order[index % classes]
}
