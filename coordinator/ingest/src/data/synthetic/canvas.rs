//! An anti-aliased gray canvas: shapes are signed distances in the face's own coordinates.

use super::SIDE;
use super::random::Random;

const WIDTH: usize = SIDE as usize;

/// From the face's coordinates (origin at its middle, unit one pixel of a face of usual size) to the canvas.
#[derive(Clone, Copy)]
pub(super) struct Pose {
    /// The face's middle on the canvas.
    pub(super) centre: (f32, f32),
    /// Size of the face.
    pub(super) scale: f32,
    /// Rotation in radians, small.
    pub(super) angle: f32,
}

/// A rectangle in the face's coordinates that a shape does not leave.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) centre: (f32, f32),
    pub(super) half: (f32, f32),
}

/// A gray image in the making, 0 black to 1 white.
pub(super) struct Canvas {
    pixels: [f32; WIDTH * WIDTH],
    pose: Pose,
    sin: f32,
    cos: f32,
}

impl Canvas {
    /// A background that goes from one tone at the left to another at the right.
    pub(super) fn new(pose: Pose, left: f32, right: f32) -> Self {
        let angle = pose.angle;
        let (sin, cos) = (
            angle - angle * angle * angle / 6.0,
            1.0 - angle * angle / 2.0,
        );
        let mut pixels = [0.0; WIDTH * WIDTH];
        for row in pixels.chunks_exact_mut(WIDTH) {
            for (x, pixel) in row.iter_mut().enumerate() {
                *pixel = left + (right - left) * (x as f32 / (WIDTH - 1) as f32);
            }
        }
        Self {
            pixels,
            pose,
            sin,
            cos,
        }
    }

    /// Paints where `distance` is negative, with soft edges one pixel wide.
    pub(super) fn paint(
        &mut self,
        bounds: Bounds,
        tone: f32,
        opacity: f32,
        distance: impl Fn(f32, f32) -> f32,
    ) {
        let Pose { centre, scale, .. } = self.pose;
        let (sin, cos) = (self.sin, self.cos);
        let (x, y) = bounds.centre;
        let middle = (
            centre.0 + scale * (cos * x - sin * y),
            centre.1 + scale * (sin * x + cos * y),
        );
        let (w, h) = bounds.half;
        let half_x = scale * (w * cos + h * sin.abs()) + 1.0;
        let half_y = scale * (h * cos + w * sin.abs()) + 1.0;
        let inverse = 1.0 / scale;
        for row in range(middle.1, half_y) {
            for column in range(middle.0, half_x) {
                let (dx, dy) = (column as f32 - centre.0, row as f32 - centre.1);
                let (u, v) = (
                    inverse * (cos * dx + sin * dy),
                    inverse * (cos * dy - sin * dx),
                );
                let cover = (0.5 - scale * distance(u, v)).clamp(0.0, 1.0) * opacity;
                let pixel = &mut self.pixels[row * WIDTH + column];
                *pixel += (tone - *pixel) * cover;
            }
        }
    }

    /// Adds light that grows along a direction, blurs with the kernel `[blur, 1 - 2 blur, blur]` both ways,
    /// adds noise of about this standard deviation, and rounds to bytes.
    pub(super) fn finish(
        mut self,
        light: (f32, f32),
        blur: f32,
        noise: f32,
        random: &mut Random,
        image: &mut [u8],
    ) {
        let middle = (WIDTH - 1) as f32 / 2.0;
        for (y, row) in self.pixels.chunks_exact_mut(WIDTH).enumerate() {
            for (x, pixel) in row.iter_mut().enumerate() {
                *pixel += light.0 * (x as f32 - middle) + light.1 * (y as f32 - middle);
            }
        }
        self.blur(blur);
        // Four bytes' sum has a standard deviation of 147.8; two pixels share eight bytes.
        let factor = noise / 147.8;
        for (pixel, byte) in self.pixels.iter().zip(image) {
            let sum: i32 = random.bits().to_le_bytes().map(i32::from).iter().sum();
            let value = pixel + factor * (sum - 510) as f32;
            *byte = (value * 255.0 + 0.5).clamp(0.0, 255.0) as u8;
        }
    }

    fn blur(&mut self, blur: f32) {
        let keep = 1.0 - 2.0 * blur;
        for row in self.pixels.chunks_exact_mut(WIDTH) {
            let mut before = row[0];
            for x in 0..WIDTH - 1 {
                let here = row[x];
                row[x] = keep * here + blur * (before + row[x + 1]);
                before = here;
            }
        }
        let mut before = [0.0; WIDTH];
        before.copy_from_slice(&self.pixels[..WIDTH]);
        for y in 0..WIDTH - 1 {
            let (row, next) = self.pixels[y * WIDTH..][..2 * WIDTH].split_at_mut(WIDTH);
            for x in 0..WIDTH {
                let here = row[x];
                row[x] = keep * here + blur * (before[x] + next[x]);
                before[x] = here;
            }
        }
    }
}

/// The pixels within `half` of `middle`.
fn range(middle: f32, half: f32) -> std::ops::Range<usize> {
    let low = (middle - half).clamp(0.0, WIDTH as f32) as usize;
    let high = (middle + half + 1.0).clamp(0.0, WIDTH as f32) as usize;
    low..high
}
