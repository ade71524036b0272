//! `worker embed`.

use anyhow::{Context, ensure};
use burn::tensor::Tensor;
use quartet_shared::dataset::{EMOTIONS, Images};
use quartet_shared::spec::Weights;
use serde::Serialize;

use super::args::EmbedArgs;
use super::{pictures, print, select};
use quartet_engine::input::Input;
use quartet_engine::models::{NetworkConfig, Variant};
use quartet_engine::weights::WeightsFile;

/// A line of the output.
#[derive(Debug, Serialize)]
struct Embedding {
    image: String,
    size: u32,
    variant: Variant,
    features: Vec<f32>,
}

pub(super) fn run(args: &EmbedArgs) -> anyhow::Result<()> {
    let minimum = args.backbone.minimum_image_size();
    ensure!(
        args.size >= minimum,
        "--size must be at least {minimum} for {}, not {}",
        args.backbone,
        args.size
    );
    let path = args.weights.to_str().unwrap_or_default();
    ensure!(
        args.weights.exists() || !matches!(path.parse(), Ok(Weights::Imagenet | Weights::Hub(_))),
        "--weights takes a file; coordinators fetch {path} into Hugging Face's cache, \
         where the file can be found"
    );
    let pictures = pictures(&args.images, args.channels)?;
    let weights = WeightsFile::open(&args.weights)?;
    let variant = weights.variant(args.backbone)?;
    let device = select(&args.device)?.device;
    let config = NetworkConfig {
        backbone: args.backbone,
        variant,
        width: weights.config().map_or(1.0, |config| config.width),
        image_size: args.size as usize,
        dropout: 0.0,
        batch_norm_momentum: 0.99,
        classes: EMOTIONS.map(str::to_owned).to_vec(),
    };
    let network = weights.load(config.blank(&device))?;
    for (path, picture) in args.images.iter().zip(&pictures) {
        let input = Input::of_shape(picture.shape(), args.size, &device);
        let images = Images {
            labels: vec![0],
            pixels: picture.pixels().to_vec(),
            ..Images::default()
        };
        let map = network.features(input.evaluation_batch(&images, 0..1)?.images);
        let pooled: Tensor<1> = map.mean_dims(&[2, 3]).flatten(0, 3);
        let features = pooled.into_data_as::<f32>();
        let embedding = Embedding {
            image: path.display().to_string(),
            size: args.size,
            variant,
            features: features
                .try_to_vec()
                .ok()
                .context("features are numbers of 32 bits")?,
        };
        print(&format!("{}\n", serde_json::to_string(&embedding)?));
    }
    Ok(())
}
