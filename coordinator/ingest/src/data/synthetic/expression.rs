//! What tells the seven classes apart: brows, eyes and mouth.

use super::random::Random;

/// The parts of a face that move. All 0 is a neutral face; the unit is a face's pixel unless said otherwise.
#[derive(Clone, Copy, Default)]
pub(super) struct Expression {
    /// How far the brows are raised.
    pub(super) brow_raise: f32,
    /// How far their inner ends are above the outer: sorrow; below: anger.
    pub(super) brow_slant: f32,
    /// Growth of the eyes' opening, as a part of it.
    pub(super) eye_open: f32,
    /// How far the mouth's corners are above its middle.
    pub(super) smile: f32,
    /// Height of the opening.
    pub(super) mouth_open: f32,
    /// Growth of the mouth's width, as a part of it.
    pub(super) mouth_width: f32,
    /// How far one corner is above the other.
    pub(super) sneer: f32,
    /// Darkness of the nose's wrinkles, 0 to 1.
    pub(super) wrinkle: f32,
    /// Whether the open mouth shows teeth, 0 or 1.
    pub(super) teeth: f32,
}

impl Expression {
    /// A random expression of an emotion, by FER2013's number: of varying strength, and never quite pure.
    pub(super) fn random(emotion: u8, random: &mut Random) -> Self {
        let side = if random.chance(0.5) { 1.0 } else { -1.0 };
        let open = random.chance(0.5);
        let full = Self::full(emotion, side, open);
        let strength = random.uniform(0.6, 1.15);
        Self {
            brow_raise: full.brow_raise * strength + random.bell(0.4),
            brow_slant: full.brow_slant * strength + random.bell(0.4),
            eye_open: full.eye_open * strength + random.bell(0.08),
            smile: full.smile * strength + random.bell(0.4),
            mouth_open: (full.mouth_open * strength + random.bell(0.25)).max(0.0),
            mouth_width: full.mouth_width * strength + random.bell(0.07),
            sneer: full.sneer * strength + random.bell(0.3),
            wrinkle: full.wrinkle * strength,
            teeth: full.teeth,
        }
    }

    /// An emotion at full strength. `side` is the raised corner's, `open` chooses between two kinds of mouth.
    fn full(emotion: u8, side: f32, open: bool) -> Self {
        let none = Self::default();
        let opening = |height| if open { height } else { 0.0 };
        match emotion {
            0 => Self {
                brow_raise: -1.3,
                brow_slant: -3.4,
                eye_open: -0.25,
                smile: -1.6,
                mouth_open: opening(3.0),
                mouth_width: -0.1,
                teeth: 1.0,
                ..none
            },
            1 => Self {
                brow_raise: -0.9,
                brow_slant: -1.2,
                eye_open: -0.55,
                smile: -1.4,
                mouth_open: opening(1.6),
                sneer: 3.0 * side,
                wrinkle: 0.9,
                teeth: 1.0,
                ..none
            },
            2 => Self {
                brow_raise: 1.9,
                brow_slant: 2.2,
                eye_open: 0.55,
                smile: -1.0,
                mouth_open: 3.2,
                mouth_width: 0.15,
                teeth: 1.0,
                ..none
            },
            3 => Self {
                brow_raise: 0.4,
                eye_open: -0.3,
                smile: 3.6,
                mouth_open: opening(3.4),
                mouth_width: 0.2,
                teeth: 1.0,
                ..none
            },
            4 => Self {
                brow_raise: -0.2,
                brow_slant: 3.2,
                eye_open: -0.4,
                smile: -3.0,
                mouth_width: -0.15,
                ..none
            },
            5 => Self {
                brow_raise: 3.0,
                eye_open: 0.7,
                mouth_open: 7.0,
                mouth_width: -0.4,
                ..none
            },
            _ => none,
        }
    }
}
