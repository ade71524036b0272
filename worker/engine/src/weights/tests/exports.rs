//! Whole networks for PyTorch and Keras: their backbones come back. `tests/parity` has them computed.

use burn::tensor::{Device, Tensor};
use quartet_shared::spec::Backbone;

use super::{NETWORKS, config, load, network, values};
use crate::models::Variant;
use crate::models::parameters::with_values;
use crate::weights::{Exported, WeightsError, export_keras, export_torch};

#[test]
fn for_pytorch() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a.safetensors", "b.safetensors"].map(|name| folder.path().join(name));
    for (backbone, variant) in NETWORKS {
        let original = network(&config(backbone, variant), 7);
        for path in &paths {
            export_torch(&original, path).unwrap();
        }
        let [a, b] = [0, 1].map(|index| std::fs::read(&paths[index]).unwrap());
        assert_eq!(a, b, "the same bytes each time");
        if variant == Variant::Keras2018
            || (backbone, variant) == (Backbone::Resnet50, Variant::Keras)
        {
            // A state dict in timm's names is of timm's variant, which these are not.
            continue;
        }
        let loaded = load(&paths[0], original.config()).unwrap();
        assert_eq!(
            values(&loaded, false),
            values(&original, false),
            "{backbone} {variant}"
        );
    }
}

#[test]
fn for_keras() {
    let folder = tempfile::tempdir().unwrap();
    for (index, (backbone, variant)) in NETWORKS.into_iter().enumerate() {
        let path = folder.path().join(format!("{index}.weights.h5"));
        let original = network(&config(backbone, variant), 7);
        let is_resnet = matches!(backbone, Backbone::Resnet50 | Backbone::Resnet50V1_5);
        let found = export_keras(&original, &path);
        if is_resnet && variant != Variant::Keras {
            assert!(matches!(found, Err(WeightsError::NotExpressible { .. })));
            assert!(!path.exists());
            continue;
        }
        let other_borders = (backbone, variant) == (Backbone::InceptionV3, Variant::Torch);
        assert_eq!(found.unwrap() == Exported::OtherBorders, other_borders);
        let loaded = load(&path, original.config()).unwrap();
        assert_eq!(loaded.config().variant, Variant::Keras);
        if variant == Variant::Keras {
            assert_eq!(
                values(&loaded, false),
                values(&original, false),
                "{backbone}"
            );
        }
        let again = export_keras(&original, &path).unwrap_err();
        assert!(
            matches!(again, WeightsError::Write { .. }),
            "it is there already"
        );
    }
}

/// A gamma that Keras does not have is in the kernel before it.
#[test]
fn for_keras_without_gamma() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.weights.h5");
    let config = config(Backbone::InceptionResnetV2, Variant::Torch);
    let network = with_values(config.init(&Device::flex(), 5), |name, shape| {
        let gamma = (0..shape[0]).map(|i| 0.8 + (i % 7) as f32 * 0.1);
        name.ends_with(".gamma").then(|| gamma.collect())
    });
    export_keras(&network, &path).unwrap();
    let loaded = load(&path, &config).unwrap();
    let x = Tensor::<4>::ones([1, 3, 75, 75], &Device::flex());
    let [a, b] = [&network, &loaded].map(|network| {
        let features = network.features(x.clone()).into_data_as::<f32>();
        features.try_to_vec::<f32>().unwrap()
    });
    let largest = a.iter().copied().fold(0.0, f32::max);
    assert!(largest > 1e-3, "{largest}");
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() < 1e-4 * largest, "{a} {b}");
    }
}
