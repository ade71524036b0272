//! Which images make up the training steps of an epoch.

use quartet_shared::ids::Epoch;

use super::random::{Purpose, below, stream};

/// The steps of one epoch, a pure function of (seed, epoch).
///
/// As in the notebook there are `n / batch + 1` (rounded down) steps. If `batch` does not divide `n`, that is
/// one pass with a last short batch, which is used. If it does, the last step goes on into another pass: its
/// images are the first batch of a new permutation, as Keras' iterator reshuffles after its last batch.
/// (Keras would begin the next epoch with the second batch of that permutation; here every epoch begins with
/// a permutation of its own, so that it depends on nothing but its number.)
#[derive(Clone, Debug)]
pub struct Sampler {
    order: Vec<usize>,
    batch: usize,
}

impl Sampler {
    /// The steps for `images` images in batches of `batch`, both at least 1.
    #[must_use]
    pub fn new(images: usize, batch: usize, seed: u64, epoch: Epoch) -> Self {
        let mut order = permutation(images, seed, epoch, 0);
        if images.is_multiple_of(batch) {
            order.extend(permutation(images, seed, epoch, 1).iter().take(batch));
        }
        Self { order, batch }
    }

    /// The steps: indices of training images.
    pub fn steps(&self) -> std::slice::Chunks<'_, usize> {
        self.order.chunks(self.batch)
    }

    /// Images in all steps together.
    #[must_use]
    pub fn images(&self) -> usize {
        self.order.len()
    }
}

/// `0..n` shuffled (Fisher and Yates, from the end, as Durstenfeld has it).
fn permutation(n: usize, seed: u64, epoch: Epoch, pass: u64) -> Vec<usize> {
    let mut rng = stream(Purpose::Order, seed, epoch, pass);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, below(&mut rng, i + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(images: usize, batch: usize) -> Vec<usize> {
        Sampler::new(images, batch, 7, Epoch(1))
            .steps()
            .map(<[usize]>::len)
            .collect()
    }

    #[test]
    fn there_are_n_div_batch_plus_one_steps() {
        assert_eq!(sizes(10, 4), [4, 4, 2]);
        assert_eq!(sizes(8, 4), [4, 4, 4]);
        assert_eq!(sizes(9, 4), [4, 4, 1]);
        assert_eq!(sizes(3, 4), [3]);
        assert_eq!(Sampler::new(28_709, 32, 1, Epoch(1)).steps().len(), 898);
    }

    #[test]
    fn a_pass_has_every_image_once_and_the_extra_batch_no_image_twice() {
        let sampler = Sampler::new(64, 32, 7, Epoch(3));
        let mut pass = sampler.order[..64].to_vec();
        pass.sort_unstable();
        assert_eq!(pass, (0..64).collect::<Vec<_>>());
        let mut extra = sampler.order[64..].to_vec();
        extra.sort_unstable();
        extra.dedup();
        assert_eq!(extra.len(), 32);
    }

    #[test]
    fn the_order_depends_on_seed_and_epoch_alone() {
        let order = |seed, epoch| Sampler::new(100, 32, seed, Epoch(epoch)).order;
        assert_eq!(order(1, 1), order(1, 1));
        assert_ne!(order(1, 1), order(1, 2));
        assert_ne!(order(1, 1), order(2, 1));
    }
}
