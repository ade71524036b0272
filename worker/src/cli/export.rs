//! `worker export`.

use std::io::Write;

use super::args::{ExportArgs, ExportFormat};
use crate::checkpoint::load_network;
use crate::device::{self, BackendChoice};
use crate::weights::{Exported, export_timm};

pub(super) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let device = device::select(BackendChoice::Auto, None, None)?.device;
    let network = load_network(&args.weights, &device)?;
    let exported = match args.format {
        ExportFormat::Timm => export_timm(&network, &args.out)?,
    };
    if exported == Exported::OtherBorders {
        let _ = writeln!(
            std::io::stderr(),
            "note: timm's network counts the padding in its means, this one does not: features differ at the borders"
        );
    }
    Ok(())
}
