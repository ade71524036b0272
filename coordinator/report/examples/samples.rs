//! Writes reports and figures of made-up experiments into a folder, to look at:
//! `cargo run -p quartet-report --example samples -- FOLDER`. It says how long each took and how large it is.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;
use std::{env, fs, io};

use quartet_report::{accuracies, curves, figures, html, titled_png};

#[path = "../tests/samples/mod.rs"]
mod samples;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::args().nth(1).ok_or("name a folder to write into")?);
    fs::create_dir_all(folder.join("figures"))?;
    let (finished, predictions) = samples::finished();
    let (many, of_many) = samples::trained(40, 100);
    let reports = [
        ("finished", &finished, &predictions[..]),
        ("many", &many, &of_many[..]),
        ("many-without-predictions", &many, &[]),
        ("failed", &samples::failed(), &[]),
        ("begun", &samples::begun(4, 30), &[]),
    ];
    let mut out = io::stdout();
    for (name, record, predictions) in reports {
        let start = Instant::now();
        let page = html(record, predictions, samples::NOW);
        writeln!(
            out,
            "{name}: {:.0?}, {} kB",
            start.elapsed(),
            page.len() / 1000
        )?;
        fs::write(folder.join(name).with_extension("html"), page)?;
    }
    let start = Instant::now();
    let (all, name) = (accuracies(&many.runs), &many.runs[0].spec.name);
    let took = start.elapsed();
    let one = curves(&many.runs, name).unwrap_or_default();
    let (of_one, size) = (start.elapsed() - took, (all.len() + one.len()) / 1000);
    writeln!(
        out,
        "accuracies: {took:.0?}, curves: {of_one:.0?}, {size} kB"
    )?;
    for figure in figures(&finished, &predictions) {
        let start = Instant::now();
        let picture = titled_png(&figure, 2.0)?;
        writeln!(
            out,
            "{}: {:.0?}, PNG {} kB",
            figure.name,
            start.elapsed(),
            picture.len() / 1000
        )?;
        let file = folder.join("figures").join(&figure.name);
        fs::write(file.with_extension("svg"), &figure.svg)?;
        fs::write(file.with_extension("png"), picture)?;
    }
    Ok(())
}
