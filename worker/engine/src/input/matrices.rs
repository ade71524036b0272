//! Images out of bytes by two products of matrices, on devices that do not make them by themselves.

use burn::tensor::{Device, Int, Tensor, TensorData};
use quartet_kernels::upload;
use quartet_shared::dataset::ImageShape;

use super::augmentation::AugmentationParams;

/// What makes the images of one shape.
#[derive(Clone, Debug)]
pub(super) struct Matrices {
    shape: ImageShape,
    size: usize,
    /// `[1, S, height]` and `[1, width, S]`: resize and scaling alone.
    unchanged: (Tensor<3>, Tensor<3>),
}

impl Matrices {
    pub(super) fn new(shape: ImageShape, size: usize, device: &Device) -> Self {
        let [rows, columns] = matrices(&[AugmentationParams::NONE], size, shape)
            .map(|matrix| upload::<3>(matrix, device));
        Self {
            shape,
            size,
            unchanged: (rows, columns.swap_dims(1, 2)),
        }
    }

    /// `A_y` as `[N, S, height]` and `A_x / 255` as `[N, S, width]`.
    pub(super) fn of(&self, params: &[AugmentationParams]) -> [TensorData; 2] {
        matrices(params, self.size, self.shape)
    }

    /// Images `[N, 3, S, S]` of bytes `[N, height, width * channels]`, changed by what [`of`](Self::of) has
    /// made, or only resized.
    pub(super) fn images(
        &self,
        pixels: Tensor<3, Int>,
        change: Option<(Tensor<3>, Tensor<3>)>,
    ) -> Tensor<4> {
        let (rows, columns) = match change {
            Some((rows, columns)) => (rows, columns.swap_dims(1, 2)),
            None => self.unchanged.clone(),
        };
        let (n, size) = (pixels.dims()[0], self.size);
        let (width, channels) = (self.shape.width, self.shape.channels.count());
        // [N, S, height] x [N, height, width * channels]
        let mut resized = rows.matmul(pixels.float());
        if channels > 1 {
            resized = resized
                .reshape([n, size, width, channels])
                .permute([0, 3, 1, 2])
                .reshape([n, channels * size, width]);
        }
        // [N, channels * S, width] x [N, width, S]
        let resized = resized.matmul(columns);
        let resized = resized.reshape([n, channels, size, size]);
        resized.expand([n, 3, size, size])
    }
}

fn matrices(
    params: &[AugmentationParams],
    size: usize,
    ImageShape { height, width, .. }: ImageShape,
) -> [TensorData; 2] {
    let mut rows = vec![0.0; params.len() * size * height];
    let mut columns = vec![0.0; params.len() * size * width];
    let parts = rows
        .chunks_exact_mut(size * height)
        .zip(columns.chunks_exact_mut(size * width));
    for (change, (rows, columns)) in params.iter().zip(parts) {
        change.rows(size, height, rows);
        change.columns(size, width, columns);
    }
    [
        TensorData::new(rows, [params.len(), size, height]),
        TensorData::new(columns, [params.len(), size, width]),
    ]
}
