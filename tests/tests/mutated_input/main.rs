//! Damaged input of every kind but weights: data, images, experiments, stores, messages. Files of weights are
//! damaged where they are read, in `worker/engine`.

mod data;
mod messages;
mod store;

use quartet_mutation::{Format, Kind, survives};
use quartet_shared::dataset::{Channels, Dataset, Images, Index, Split};
use quartet_shared::spec::{Preset, from_toml, to_toml};

#[test]
fn experiments() {
    let format = Format {
        name: "toml",
        test: "experiments",
        kind: Kind::Text,
        cases: 1000,
    };
    let valid = || {
        let mut own = Preset::Demo.spec();
        own.runs[0].weights = "hub:timm/vgg16.tv_in1k".parse().unwrap();
        own.runs[0].width = 1.0;
        let short = "name = \"x\"\nepochs = 3\n[augmentation]\nzoom = 0.2\n\
            [[run]]\nbackbone = \"vgg16\"\n[[run]]\nname = \"b\"\nbackbone = \"resnet50\"\nseed = 4\n";
        let whole = [own, Preset::Fer2013.spec(), Preset::Demo.spec()];
        let texts = whole.iter().map(to_toml).chain([short.to_owned()]);
        texts.map(String::into_bytes).collect()
    };
    survives(&format, valid, |bytes| {
        match from_toml(&String::from_utf8_lossy(bytes), "my.toml") {
            Ok(spec) => {
                assert_eq!(from_toml(&to_toml(&spec), "again").as_ref(), Ok(&spec));
                Ok(())
            }
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("my.toml") && error.len() < 4096, "{error}");
                Err(error)
            }
        }
    });
}

#[test]
fn packed_data_sets() {
    let format = Format {
        name: "qds",
        test: "packed_data_sets",
        kind: Kind::Binary,
        cases: 1000,
    };
    let valid = || {
        let images = |count: u8| Images {
            labels: (0..count).map(|label| label % 3).collect(),
            pixels: (0..count).flat_map(|image| [image; 6]).collect(),
            ..Images::default()
        };
        let dataset = Dataset {
            width: 3,
            height: 2,
            channels: Channels::Gray,
            classes: ["angry", "happy", "sad"].map(str::to_owned).to_vec(),
            splits: [images(9), images(3), images(0)],
        };
        let mut soft = dataset.clone();
        for images in &mut soft.splits {
            let votes = images.labels.iter().map(|&label| {
                let mut votes = [2, 1, 0];
                votes[usize::from(label)] += 7;
                votes
            });
            images.votes = votes.flatten().collect();
        }
        let mut colour = soft.clone();
        colour.channels = Channels::Rgb;
        for images in &mut colour.splits {
            images.pixels = images.pixels.repeat(3);
        }
        let mut colour_alone = colour.clone();
        for images in &mut colour_alone.splits {
            images.votes.clear();
        }
        [dataset, soft, colour, colour_alone]
            .map(|dataset| dataset.encode())
            .to_vec()
    };
    let folder = tempfile::tempdir().unwrap();
    survives(&format, valid, |bytes| {
        let index = Index::of_prefix(bytes);
        let path = folder.path().join("images.qds");
        std::fs::write(&path, bytes).unwrap();
        let opened = Dataset::open(&path).map_err(|error| error.to_string());
        assert_eq!(opened.is_ok(), Dataset::decode(bytes).is_ok());
        let dataset = Dataset::decode(bytes).map_err(|error| error.to_string())?;
        let index = index.map_err(|error| format!("no index: {error}"))?;
        assert_eq!(index.shape(), dataset.shape());
        for split in Split::ALL {
            assert_eq!(index.labels(split), dataset.split(split).labels);
        }
        assert_eq!(dataset.encode(), bytes);
        assert_eq!(opened?.encode(), bytes);
        Ok(())
    });
}
