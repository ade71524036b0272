//! The arguments of the data.

use std::path::PathBuf;

use crate::data::{ClassNames, Dealing, Options, Shares, Size, Source, ValidFraction};
use quartet_shared::dataset::Channels;

/// What is trained on.
#[derive(Clone, Debug, clap::Args)]
pub struct DataArgs {
    /// FER2013-like CSV or FER+'s fer2013new.csv, folder with such files, folder of images
    /// (train|valid|test/CLASS/*; CLASS/* with --split), or "synthetic" [default: synthetic].
    #[arg(long, value_name = "PATH|synthetic")]
    data: Option<String>,
    /// Deal all images anew to training, validation and test, by these shares of each class.
    #[arg(
        long,
        value_name = "TRAIN,VALID,TEST",
        requires = "data",
        conflicts_with = "valid_fraction"
    )]
    split: Option<Shares>,
    /// Take this fraction of each class's training images for validation, where the data have no validation
    /// split.
    #[arg(long, value_name = "FRACTION", requires = "data")]
    valid_fraction: Option<ValidFraction>,
    /// Names of classes that have numbers, in the order of the numbers, where these are not those of FER2013
    /// (0 to 6) or RAF-DB (folders 1 to 7).
    #[arg(long, value_name = "NAME,NAME,...", requires = "data")]
    class_names: Option<ClassNames>,
    /// Whether the images of a folder become gray or keep their colours.
    #[arg(
        long,
        value_name = "gray|rgb",
        requires = "data",
        default_value_t = Channels::Gray
    )]
    channels: Channels,
    /// Size that the images of a folder are given, in pixels, at most 512x512 [default: 48x48].
    #[arg(long, value_name = "WIDTHxHEIGHT", requires = "data")]
    size: Option<Size>,
    /// Train on the distribution of FER+'s votes on an image, not on their majority alone.
    #[arg(long, requires = "data")]
    soft_labels: bool,
    /// Skip bad rows and images of the data, and count them, instead of stopping at the first.
    #[arg(long)]
    skip_bad_rows: bool,
}

impl DataArgs {
    /// Where the images come from.
    #[must_use]
    pub fn source(&self) -> Source {
        match self.data.as_deref() {
            None | Some("synthetic") => Source::Synthetic,
            Some(path) => Source::Path(PathBuf::from(path)),
        }
    }

    /// Whether the data were named.
    #[must_use]
    pub const fn is_explicit(&self) -> bool {
        self.data.is_some()
    }

    /// How to read them.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            skip_bad_rows: self.skip_bad_rows,
            dealing: match (self.split, self.valid_fraction) {
                (Some(shares), _) => Dealing::All(shares),
                (None, Some(fraction)) => Dealing::Valid(fraction),
                (None, None) => Dealing::Own,
            },
            class_names: self.class_names.clone(),
            size: self.size,
            channels: self.channels,
            soft_labels: self.soft_labels,
            ..Options::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Program {
        #[command(flatten)]
        data: DataArgs,
    }

    fn options(args: &[&str]) -> Result<Options, String> {
        let args = [&["program"], args].concat();
        let args = Program::try_parse_from(args).map_err(|error| error.to_string())?;
        Ok(args.data.options())
    }

    #[test]
    fn images_are_dealt_as_asked() {
        let faces = ["--data", "faces"];
        let with = |args: &[&str]| options(&[&faces[..], args].concat());
        assert_eq!(with(&[]), Ok(Options::default()));
        let split = with(&["--split", "0.7,0.2,0.1"]).unwrap();
        let shares = "0.7,0.2,0.1".parse().unwrap();
        assert_eq!(split.dealing, Dealing::All(shares));
        let valid = with(&["--valid-fraction", "0.1", "--skip-bad-rows"]).unwrap();
        let fraction = "0.1".parse().unwrap();
        assert_eq!(
            (valid.dealing, valid.skip_bad_rows),
            (Dealing::Valid(fraction), true)
        );
        let named = with(&["--class-names", "a,b"]).unwrap();
        assert_eq!(named.class_names, Some("a,b".parse().unwrap()));
        let colour = with(&["--channels", "rgb", "--size", "100x80", "--soft-labels"]).unwrap();
        assert_eq!(
            (colour.channels, colour.size, colour.soft_labels),
            (Channels::Rgb, Some("100x80".parse().unwrap()), true)
        );
        for (args, message) in [
            (&["--channels", "cmyk"][..], "use gray or rgb"),
            (&["--size", "1000"], "1 to 512 each, such as 100x100"),
            (&["--split", "0.7,0.2"], "three shares that add up to 1"),
            (
                &["--valid-fraction", "1.5"],
                "greater than 0 and less than 1",
            ),
            (&["--class-names", "a"], "2 to 256 names"),
            (
                &["--valid-fraction", "0.1", "--split", "0.7,0.2,0.1"],
                "cannot be used with",
            ),
        ] {
            let error = with(args).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
        for alone in [
            &["--split", "0.7,0.2,0.1"][..],
            &["--channels", "rgb"],
            &["--size", "100"],
            &["--soft-labels"],
        ] {
            let error = options(alone).unwrap_err();
            assert!(error.contains("--data"), "{error}");
        }
    }
}
