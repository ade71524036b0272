//! `worker export`.

use std::io::Write;
use std::path::Path;

use anyhow::ensure;

use super::args::{ExportArgs, ExportFormat};
use crate::device::{self, BackendChoice};
use quartet_engine::checkpoint::load_network;
use quartet_engine::weights::{Exported, export_timm};

pub(super) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let out = args.out.display();
    let folder = args
        .out
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    ensure!(
        folder.is_none_or(Path::is_dir),
        "cannot write {out}: its folder does not exist"
    );
    ensure!(
        args.out.symlink_metadata().is_err(),
        "{out} is there already: remove it, or choose another name"
    );
    let device = device::select(BackendChoice::Auto, None, None)?.device;
    let network = load_network(&args.weights, &device)?;
    let exported = match args.format {
        ExportFormat::Timm => export_timm(&network, &args.out)?,
    };
    let name = network.config().backbone;
    let _ = writeln!(
        std::io::stderr(),
        "wrote {out}: the backbone of {name} for timm's forward_features; the classifier is not in it"
    );
    if exported == Exported::OtherBorders {
        let _ = writeln!(
            std::io::stderr(),
            "warning: timm's {name} counts the padding in its means, this network does not: \
             there its features are others, \
             the more so the smaller the image"
        );
    }
    Ok(())
}
