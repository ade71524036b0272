//! Draws one face.

use super::canvas::{Bounds, Canvas, Pose};
use super::expression::Expression;
use super::random::Random;

/// A line `y = height + slope u - bend (1 - u^2)` over `u = (x - middle) / half_width` from -1 to 1.
#[derive(Clone, Copy)]
struct Arc {
    middle: f32,
    height: f32,
    half_width: f32,
    slope: f32,
    bend: f32,
}

/// Tones and sizes that are a person's own.
struct Person {
    skin: f32,
    hair: f32,
    ink: f32,
    stroke: f32,
    eye_distance: f32,
    eye_height: f32,
    mouth_height: f32,
    mouth_half_width: f32,
}

/// Draws a random face of an emotion, by FER2013's number, into the bytes of an image.
pub(super) fn draw(emotion: u8, random: &mut Random, image: &mut [u8]) {
    let expression = Expression::random(emotion, random);
    let skin = random.uniform(0.55, 0.88);
    let person = Person {
        skin,
        hair: random.uniform(0.03, 0.7),
        ink: skin * random.uniform(0.1, 0.35),
        stroke: random.uniform(0.55, 0.95),
        eye_distance: random.uniform(5.6, 7.2),
        eye_height: random.uniform(-4.2, -2.4),
        mouth_height: random.uniform(8.6, 10.6),
        mouth_half_width: random.uniform(4.8, 6.2),
    };
    let pose = Pose {
        centre: (
            23.5 + random.uniform(-1.8, 1.8),
            24.0 + random.uniform(-1.8, 1.8),
        ),
        scale: random.uniform(0.9, 1.12),
        angle: random.uniform(-0.16, 0.16),
    };
    let background = random.uniform(0.2, 0.7);
    let mut canvas = Canvas::new(pose, background, background + random.uniform(-0.2, 0.2));
    head(&mut canvas, &person, random);
    for side in [-1.0, 1.0] {
        eye(&mut canvas, &person, &expression, side);
    }
    if random.chance(0.15) {
        glasses(&mut canvas, &person);
    }
    nose(&mut canvas, &person, &expression);
    mouth(&mut canvas, &person, &expression);
    if random.chance(0.12) {
        moustache(&mut canvas, &person);
    }
    let light = (random.uniform(-0.004, 0.004), random.uniform(-0.004, 0.004));
    let (blur, noise) = (random.uniform(0.0, 0.2), random.uniform(0.01, 0.05));
    canvas.finish(light, blur, noise, random, image);
}

fn head(canvas: &mut Canvas, person: &Person, random: &mut Random) {
    let (width, height) = (random.uniform(13.5, 16.0), random.uniform(17.5, 19.5));
    let (hair_width, hair_top) = (width + random.uniform(0.5, 2.5), random.uniform(1.0, 4.5));
    let hairline = random.uniform(-15.0, -11.0);
    let fringe = random.uniform(-0.03, 0.03);
    ellipse(
        canvas,
        (0.0, -hair_top),
        (hair_width, height),
        person.hair,
        1.0,
    );
    ellipse(canvas, (0.0, 0.0), (width, height), person.skin, 1.0);
    // Hair over the forehead: the head above a bent line.
    let bounds = Bounds {
        centre: (0.0, -15.0),
        half: (width, 6.0),
    };
    canvas.paint(bounds, person.hair, 1.0, |x, y| {
        let line = y - hairline - fringe * x * x;
        line.max(ellipse_distance(x, y, (width, height)))
    });
}

fn eye(canvas: &mut Canvas, person: &Person, expression: &Expression, side: f32) {
    let centre = (side * person.eye_distance, person.eye_height);
    let open = (2.0 * (1.0 + expression.eye_open)).max(0.45);
    let white = (person.skin + 0.25).clamp(0.75, 1.0);
    ellipse(canvas, centre, (3.3, open), white, 1.0);
    let (width, height) = (1.5_f32, open.min(1.7));
    ellipse(canvas, centre, (width, height), person.ink * 0.5, 1.0);
    let lid = Arc {
        middle: centre.0,
        height: centre.1,
        half_width: 3.5,
        slope: 0.0,
        bend: open,
    };
    arc(canvas, lid, person.stroke * 0.7, person.ink, 0.9);
    let brow = Arc {
        middle: side * (person.eye_distance + 0.3),
        height: person.eye_height - 4.4 - expression.brow_raise,
        half_width: 4.0,
        slope: side * expression.brow_slant * 0.5,
        bend: 0.7,
    };
    arc(canvas, brow, person.stroke * 1.1, person.ink, 1.0);
}

fn nose(canvas: &mut Canvas, person: &Person, expression: &Expression) {
    let tip = person.mouth_height - 4.6;
    let base = Arc {
        middle: 0.0,
        height: tip,
        half_width: 2.0,
        slope: 0.0,
        bend: -0.8,
    };
    arc(canvas, base, person.stroke * 0.6, person.ink, 0.6);
    if expression.wrinkle > 0.0 {
        for side in [-1.0, 1.0] {
            let wrinkle = Arc {
                middle: side * 3.6,
                height: tip - 0.6,
                half_width: 1.8,
                slope: side * 1.8,
                bend: 0.4,
            };
            arc(
                canvas,
                wrinkle,
                person.stroke * 0.6,
                person.ink,
                expression.wrinkle.min(1.0) * 0.8,
            );
        }
    }
}

fn mouth(canvas: &mut Canvas, person: &Person, expression: &Expression) {
    let line = Arc {
        middle: 0.0,
        height: person.mouth_height - expression.smile * 0.6,
        half_width: (person.mouth_half_width * (1.0 + expression.mouth_width)).max(2.0),
        slope: -expression.sneer * 0.5,
        bend: -expression.smile,
    };
    arc(canvas, line, person.stroke, person.ink, 1.0);
    let open = expression.mouth_open;
    if open < 0.6 {
        return;
    }
    let half = open / 2.0;
    opening(canvas, line, half + person.stroke, person.ink);
    opening(canvas, line, half, person.ink * 0.3);
    if expression.teeth > 0.0 {
        opening(
            canvas,
            Arc {
                height: line.height - half * 0.35,
                ..line
            },
            half * 0.5,
            0.95,
        );
    }
}

fn glasses(canvas: &mut Canvas, person: &Person) {
    for side in [-1.0, 1.0] {
        let centre = (side * person.eye_distance, person.eye_height);
        canvas.paint(
            Bounds {
                centre,
                half: (6.0, 5.5),
            },
            person.ink,
            0.85,
            |x, y| ellipse_distance(x - centre.0, y - centre.1, (4.9, 4.2)).abs() - 0.4,
        );
    }
    let (height, half_width) = (person.eye_height, person.eye_distance - 4.9);
    let bridge = Arc {
        middle: 0.0,
        height,
        half_width,
        slope: 0.0,
        bend: 0.5,
    };
    arc(canvas, bridge, 0.4, person.ink, 0.85);
}

fn moustache(canvas: &mut Canvas, person: &Person) {
    let height = person.mouth_height - 2.4;
    let hair = Arc {
        middle: 0.0,
        height,
        half_width: 4.2,
        slope: 0.0,
        bend: 0.6,
    };
    arc(canvas, hair, 0.9, person.hair * 0.6, 0.9);
}

fn ellipse(canvas: &mut Canvas, centre: (f32, f32), half: (f32, f32), tone: f32, opacity: f32) {
    canvas.paint(Bounds { centre, half }, tone, opacity, |x, y| {
        ellipse_distance(x - centre.0, y - centre.1, half)
    });
}

/// Distance to an ellipse, exact to first order at its edge.
fn ellipse_distance(x: f32, y: f32, (a, b): (f32, f32)) -> f32 {
    let (u, v) = (x / a, y / b);
    let level = (u * u + v * v).sqrt();
    let (p, q) = (u / a, v / b);
    let slope = (p * p + q * q).sqrt();
    if slope < 1e-6 {
        -a.min(b)
    } else {
        level * (level - 1.0) / slope
    }
}

impl Arc {
    fn bounds(self, half: f32) -> Bounds {
        let height = self.slope.abs() + self.bend.abs() + half;
        Bounds {
            centre: (self.middle, self.height),
            half: (self.half_width + half, height),
        }
    }

    /// The line's height over `u`, and how steep it is there.
    fn at(self, u: f32) -> (f32, f32) {
        let height = self.height + self.slope * u - self.bend * (1.0 - u * u);
        (height, (self.slope + 2.0 * self.bend * u) / self.half_width)
    }
}

/// A stroke along an arc, with round ends.
fn arc(canvas: &mut Canvas, arc: Arc, half: f32, tone: f32, opacity: f32) {
    canvas.paint(arc.bounds(half), tone, opacity, |x, y| {
        let u = (x - arc.middle) / arc.half_width;
        let near = u.clamp(-1.0, 1.0);
        let (height, steep) = arc.at(near);
        let (dx, dy) = ((u - near) * arc.half_width, y - height);
        let across = dy * dy / (1.0 + steep * steep);
        (dx * dx + if dx == 0.0 { across } else { dy * dy }).sqrt() - half
    });
}

/// A lens around an arc, `half` high at its middle on each side.
fn opening(canvas: &mut Canvas, arc: Arc, half: f32, tone: f32) {
    canvas.paint(arc.bounds(half), tone, 1.0, |x, y| {
        let u = (x - arc.middle) / arc.half_width;
        let (height, steep) = arc.at(u.clamp(-1.0, 1.0));
        let round = (1.0 - u * u).max(0.0);
        let lens = half * round.sqrt();
        let distance = ((y - height).abs() - lens) / (1.0 + steep * steep).sqrt();
        distance.max(x.abs() - arc.half_width)
    });
}
