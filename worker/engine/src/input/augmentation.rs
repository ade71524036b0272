//! Resize, shift, zoom and flip as one matrix per axis.
//!
//! The notebook resizes with nearest neighbour to `S x S`, resamples that image once with a bilinear affine
//! map, and mirrors it. Without rotation and shear each step treats rows and columns apart, so all of it is
//! `A_y * image * A_x^T` with two matrices of shape `[S, side]` that have at most two values other than 0 in
//! a row.

use quartet_shared::ids::Epoch;
use quartet_shared::spec::Augmentation;

use super::random::{Purpose, stream, uniform};

/// The random change of one training image, drawn in Keras' order
/// (`ImageDataGenerator.get_random_transform`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AugmentationParams {
    /// Shift along the rows, a fraction of the height: positive moves the content up.
    pub tx: f64,
    /// Shift along the columns, a fraction of the width: positive moves the content left.
    pub ty: f64,
    /// Zoom of the rows: above 1 shows more of the image.
    pub zx: f64,
    /// Zoom of the columns.
    pub zy: f64,
    /// Whether the result is mirrored left to right.
    pub flip: bool,
}

impl AugmentationParams {
    /// No change.
    pub const NONE: Self = Self {
        tx: 0.0,
        ty: 0.0,
        zx: 1.0,
        zy: 1.0,
        flip: false,
    };

    /// The change of training image `index`: a pure function of (seed, epoch, index). All five numbers are
    /// always drawn, so that none depends on which ranges are 0.
    #[must_use]
    pub fn new(augmentation: &Augmentation, seed: u64, epoch: Epoch, index: usize) -> Self {
        let mut rng = stream(Purpose::Augmentation, seed, epoch, index as u64);
        let mut within =
            |middle: f64, range: f64| uniform(&mut rng, middle - range, middle + range);
        Self {
            tx: within(0.0, augmentation.height_shift),
            ty: within(0.0, augmentation.width_shift),
            zx: within(1.0, augmentation.zoom),
            zy: within(1.0, augmentation.zoom),
            flip: within(0.5, 0.5) < 0.5 && augmentation.horizontal_flip,
        }
    }

    /// Adds `A_y`, row-major `[size, height]`, to the zeros in `matrix`.
    pub fn rows(&self, size: usize, height: usize, matrix: &mut [f32]) {
        axis(
            Axis {
                shift: self.tx,
                zoom: self.zx,
                flip: false,
                scale: 1.0,
            },
            size,
            height,
            matrix,
        );
    }

    /// Adds `A_x / 255`, row-major `[size, width]`, to the zeros in `matrix`: the pixels' scaling rides
    /// along.
    pub fn columns(&self, size: usize, width: usize, matrix: &mut [f32]) {
        axis(
            Axis {
                shift: self.ty,
                zoom: self.zy,
                flip: self.flip,
                scale: 1.0 / 255.0,
            },
            size,
            width,
            matrix,
        );
    }
}

struct Axis {
    shift: f64,
    zoom: f64,
    flip: bool,
    scale: f64,
}

/// One axis: output position `r` reads the resized image at `zoom * (r - o) + shift * size + o` with the
/// centre `o = size / 2 - 0.5`, interpolated between two neighbours, and beyond the edge the edge (scipy's
/// `affine_transform` with order 1 and mode `nearest`). Position `p` of the resized image is source pixel
/// `floor((p + 0.5) * side / size)`. [`quartet_kernels::images`] computes the same on the device.
fn axis(axis: Axis, size: usize, side: usize, matrix: &mut [f32]) {
    let centre = size as f64 / 2.0 - 0.5;
    let last = size as f64 - 1.0;
    let source = |position: usize| (2 * position + 1) * side / (2 * size);
    for (r, row) in matrix.chunks_exact_mut(side).enumerate() {
        let r = if axis.flip { size - 1 - r } else { r };
        let at =
            (axis.zoom * (r as f64 - centre) + axis.shift * size as f64 + centre).clamp(0.0, last);
        let (low, part) = (at.floor() as usize, at.fract());
        row[source(low)] += (axis.scale * (1.0 - part)) as f32;
        if part > 0.0 {
            row[source(low + 1)] += (axis.scale * part) as f32;
        }
    }
}
