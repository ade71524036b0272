//! Training steps are Keras' in float32, as far as float32 allows.
//!
//! Adam's first updates are about `learning_rate * sign(gradient)`: rounding decides the sign of the smallest gradients, and
//! a network with random weights amplifies that. At the notebook's 5e-4 Keras in float32 and Keras in float64 have losses
//! of 2.22 and 2.94 after one step (InceptionV3, 75x75, batch 8); at 1e-6 they differ by up to 1.4e-2 within ten steps. The
//! tolerances are a little above what Keras shows against itself; what they cannot tell, the float64 test does.

#![expect(
    clippy::print_stdout,
    reason = "the measured differences are what these tests are run for"
)]

use quartet_shared::spec::Backbone;
use quartet_tests::parity;
use quartet_tests::parity::training::{BACKBONES, Fault, Width, compare};

#[test]
fn ten_steps_are_keras() {
    for device in parity::devices() {
        for backbone in BACKBONES {
            let found = compare(backbone, Width::Single, 10, Fault::None, &device);
            println!("{backbone} on {device:?}: {found}");
            // The first loss has seen no update. Seen for ResNet50: 7e-5 for Keras against itself in float64, 8e-5 on flex, 2.3e-4 on
            // LibTorch. What LibTorch's larger share is due to has not been isolated: float64 is not computed channels-last there.
            assert!(found.losses[0] < 5e-4);
            let tolerance = match backbone {
                Backbone::InceptionV3 => 3e-2,
                _ => 5e-3,
            };
            assert!(found.losses.iter().all(|&loss| loss < tolerance));
            assert!(found.learning_rates < 1e-6);
            assert!(found.statistics < 2e-2 && found.weights < 1e-3);
        }
    }
}
