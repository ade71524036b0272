//! How large images are, and whether they have colours.

use std::fmt;
use std::str::FromStr;

/// What a pixel has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Channels {
    /// One gray value.
    #[default]
    Gray,
    /// Red, green and blue.
    Rgb,
}

/// A text that names no [`Channels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use gray or rgb")]
pub struct InvalidChannels;

impl Channels {
    /// Bytes of a pixel: 1 or 3.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
        }
    }

    /// The name that people use: `gray` or `rgb`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gray => "gray",
            Self::Rgb => "rgb",
        }
    }
}

impl fmt::Display for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Channels {
    type Err = InvalidChannels;

    fn from_str(text: &str) -> Result<Self, InvalidChannels> {
        let all = [Self::Gray, Self::Rgb];
        let found = all.into_iter().find(|channels| channels.name() == text);
        found.ok_or(InvalidChannels)
    }
}

/// The shape of an image, `[height, width, channels]`, row-major: the channels of a pixel are beside each
/// other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// What a pixel has.
    pub channels: Channels,
}

impl ImageShape {
    /// The shape of gray images of `[height, width]` pixels.
    #[must_use]
    pub const fn gray([height, width]: [usize; 2]) -> Self {
        Self {
            height,
            width,
            channels: Channels::Gray,
        }
    }

    /// Bytes of an image.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.height * self.width * self.channels.count()
    }
}

impl fmt::Display for ImageShape {
    /// Such as `48x48 gray`: width, height, channels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{} {}", self.width, self.height, self.channels)
    }
}
