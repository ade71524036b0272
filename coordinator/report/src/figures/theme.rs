//! The colours of the figures, and what becomes of them on dark paper.

use plotters::style::RGBColor;

/// Text and axes.
pub(crate) const INK: RGBColor = RGBColor(0x1b, 0x1b, 0x1b);
/// Secondary text and lines.
pub(crate) const MUTED: RGBColor = RGBColor(0x66, 0x66, 0x66);
/// Axes.
pub(crate) const AXIS: RGBColor = RGBColor(0xa8, 0xa8, 0xa8);
/// Lines of the grid.
pub(crate) const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
/// Lines in the background of others.
pub(crate) const FAINT: RGBColor = RGBColor(0xb9, 0xb9, 0xbc);
/// The inside of hollow marks.
pub(crate) const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);
/// Text on a cell of a low level.
pub(crate) const ON_LOW: RGBColor = RGBColor(0x1b, 0x1b, 0x1c);
/// Text on a cell of a high level.
pub(crate) const ON_HIGH: RGBColor = RGBColor(0xff, 0xff, 0xfe);

/// Series, after M. Okabe and K. Ito's colours, which people with every kind of colour vision tell apart
/// (<https://jfly.uni-koeln.de/color/>); darker, so that thin lines and text can be read on white.
pub(crate) const SERIES: [RGBColor; 6] = [
    RGBColor(0x00, 0x5f, 0xa6),
    RGBColor(0xc0, 0x4a, 0x00),
    RGBColor(0x00, 0x7d, 0x5c),
    RGBColor(0xa3, 0x3f, 0x7c),
    RGBColor(0x8a, 0x66, 0x00),
    RGBColor(0x2b, 0x88, 0xb8),
];

/// From none to all, for heat maps: one hue, of steadily falling lightness.
pub(crate) const LEVELS: [RGBColor; 11] = [
    RGBColor(0xf6, 0xf9, 0xfc),
    RGBColor(0xe4, 0xee, 0xf7),
    RGBColor(0xd1, 0xe2, 0xf1),
    RGBColor(0xbc, 0xd5, 0xea),
    RGBColor(0xa2, 0xc4, 0xe1),
    RGBColor(0x86, 0xb1, 0xd6),
    RGBColor(0x5a, 0x8f, 0xbf),
    RGBColor(0x45, 0x7f, 0xb3),
    RGBColor(0x31, 0x6d, 0xa5),
    RGBColor(0x1b, 0x55, 0x90),
    RGBColor(0x0b, 0x3d, 0x73),
];

/// The lowest level whose text is [`ON_HIGH`].
pub(crate) const FIRST_HIGH: usize = 6;

const DARK: [(RGBColor, &str); 25] = [
    (INK, "#e8e8e6"),
    (MUTED, "#a3a3a0"),
    (AXIS, "#6a6a6a"),
    (GRID, "#2f3133"),
    (FAINT, "#5b5d60"),
    (PAPER, "#16181a"),
    (ON_LOW, "#e8e8e7"),
    (ON_HIGH, "#0d1012"),
    (SERIES[0], "#6db3f2"),
    (SERIES[1], "#f08c4b"),
    (SERIES[2], "#3fc39b"),
    (SERIES[3], "#dd86bb"),
    (SERIES[4], "#d9b13b"),
    (SERIES[5], "#8fd3f0"),
    (LEVELS[0], "#1c2024"),
    (LEVELS[1], "#1e2a36"),
    (LEVELS[2], "#203448"),
    (LEVELS[3], "#223f5a"),
    (LEVELS[4], "#264b6e"),
    (LEVELS[5], "#2c5a86"),
    (LEVELS[6], "#5190c8"),
    (LEVELS[7], "#67a2d5"),
    (LEVELS[8], "#7fb4e1"),
    (LEVELS[9], "#9ac7ec"),
    (LEVELS[10], "#b8daf5"),
];

/// Each colour as it stands in the attributes of an SVG, with its counterpart on dark paper: style sheets
/// select by the one and set the other.
pub(crate) fn dark() -> impl Iterator<Item = (String, &'static str)> {
    DARK.iter().map(|&(light, dark)| (hex(light), dark))
}

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}
