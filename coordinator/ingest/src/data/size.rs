//! How large packed images are (`--size`).

use std::fmt;
use std::str::FromStr;

/// Largest side in pixels: more than networks see of a face.
const MAX_SIDE: u16 = 512;

/// Size of packed images: 1 to 512 pixels on each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    width: u16,
    height: u16,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// A text that is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "use width and height in pixels, 1 to {MAX_SIDE} each, such as 100x100, or one number for both"
)]
pub struct InvalidSize;

impl Size {
    /// FER2013's, 48x48.
    pub const DEFAULT: Self = Self {
        width: 48,
        height: 48,
    };

    /// Width in pixels.
    #[must_use]
    pub const fn width(self) -> u16 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub const fn height(self) -> u16 {
        self.height
    }
}

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let (width, height) = text.split_once('x').unwrap_or((text, text));
        let side = |text: &str| {
            let side = text.parse().ok();
            side.filter(|side| (1..=MAX_SIDE).contains(side))
                .ok_or(InvalidSize)
        };
        Ok(Self {
            width: side(width)?,
            height: side(height)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_width_and_height() {
        let size = |text: &str| text.parse::<Size>().map(|size| (size.width, size.height));
        assert_eq!(size("100x80"), Ok((100, 80)));
        assert_eq!(size("224"), Ok((224, 224)));
        assert_eq!(size("1x512"), Ok((1, 512)));
        for bad in [
            "", "0", "513", "10x", "x10", "10x0", "10x10x3", "-1", "48 px", "1e2",
        ] {
            assert_eq!(size(bad), Err(InvalidSize), "{bad}");
        }
    }
}
