//! FER+'s labels for FER2013's images: `fer2013new.csv` beside `fer2013.csv`, row by row.
//!
//! Ten people have voted on each image. The class is the one with most votes, by the rules of FER+'s own
//! program for majority votes: single votes do not count, and the class has more than half of those that do.
//! An image without such a class is left out, and so is one whose majority says `unknown` or that there is no
//! face (`NF`, or no image name).
//!
//! Soft labels are the votes on the classes that are not single, of the same images.

use std::path::Path;

use quartet_shared::dataset::{EMOTIONS, Split};
use quartet_shared::expression;

use super::lines::Line;
use super::row;
use super::table::{Shape, Table};
use crate::data::deal::Key;
use crate::data::gather::Gather;
use crate::data::{DataError, Loaded, Options, RowProblem};

/// The images.
const IMAGES: &str = "fer2013.csv";

/// What people voted for: the expressions in the order of their numbers, and what is no class.
const BALLOT: [&str; 10] = [
    "anger",
    "disgust",
    "fear",
    "happiness",
    "sadness",
    "surprise",
    "neutral",
    "contempt",
    "unknown",
    "NF",
];

/// How many of the ballot are classes.
const CLASSES: usize = 8;

/// What the votes on an image say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vote {
    /// A class has the majority.
    Class(u8),
    /// None has, or `unknown`.
    Unknown,
    /// It shows no face.
    NoFace,
}

/// Where a row of labels has what is needed.
struct Columns {
    usage: usize,
    name: usize,
    votes: [usize; 10],
}

/// Whether a table has FER+'s labels.
pub(super) fn is_labels(table: &Table) -> bool {
    table.column("pixels").is_none() && columns(table).is_ok()
}

/// Loads the images beside the labels.
pub(super) fn load(mut labels: Table, options: &Options) -> Result<Loaded, DataError> {
    let layout = |problem: String| DataError::Layout {
        path: labels.file.clone(),
        problem,
    };
    if options.class_names.is_some() {
        return Err(layout(
            "--class-names is for classes with numbers, and these labels have names; leave it out"
                .to_owned(),
        ));
    }
    let file = labels.file.parent().unwrap_or(Path::new("")).join(IMAGES);
    if !file.is_file() {
        return Err(layout(format!(
            "these are FER+'s labels, whose images are in {IMAGES}; put that file beside them"
        )));
    }
    let columns = columns(&labels)?;
    let mut images = Table::open(&file)?;
    let pixels = images.required("pixels")?;
    let wanted = [pixels, images.required("usage")?].map(Some);
    let (shape, images_shape) = (labels.shape(), images.shape());
    let path = labels.file.clone();

    let mut gather = Gather::new(options)?;
    let (mut left_out, mut image_len, mut image) = ([0_usize; 2], None, Vec::new());
    for row in 0.. {
        let (label_line, image_line) = match (labels.next_line()?, images.next_line()?) {
            (None, None) => break,
            (Some(label_line), Some(image_line)) => (label_line, image_line),
            (found, _) => {
                let longer = if found.is_some() { &path } else { &file };
                return Err(DataError::Layout {
                    path: longer.clone(),
                    problem: format!(
                        "more rows than the other of {IMAGES} and FER+'s labels, which has {row}; both need \
                         one row for each image of FER2013"
                    ),
                });
            }
        };
        let bad = |path: &Path, line: &Line<'_>, problem| DataError::Row {
            file: path.to_owned(),
            line: line.number,
            problem,
        };
        let (usage, vote, votes) = match columns.parse(shape, &label_line, options.soft_labels) {
            Ok(parsed) => parsed,
            Err(problem) => {
                gather.bad(bad(&path, &label_line, problem))?;
                continue;
            }
        };
        let read = images_shape.pick(&image_line, wanted).and_then(|fields| {
            let split = row::usage(fields[1])?;
            if split != usage {
                return Err(RowProblem::OtherUsage);
            }
            row::pixels(fields[0], &mut image)?;
            row::check_len(image.len(), image_len)?;
            Ok(split)
        });
        match (read, vote) {
            // Labels that are not of these images make no sense, whatever rows are left out.
            (Err(problem @ RowProblem::OtherUsage), _) => {
                return Err(bad(&file, &image_line, problem));
            }
            (Err(problem), _) => gather.bad(bad(&file, &image_line, problem))?,
            (Ok(split), Vote::Class(label)) => {
                image_len = Some(image.len());
                gather.push_soft(split, label, &votes, Key::Row(row), &image)?;
            }
            (Ok(_), Vote::Unknown) => left_out[0] += 1,
            (Ok(_), Vote::NoFace) => left_out[1] += 1,
        }
    }
    let [unknown, no_face] = left_out;
    let soft = match options.soft_labels {
        true => ", and the votes of all classes as soft labels",
        false => "",
    };
    gather.warn(format!(
        "{}: majority votes as labels{soft}; left out {unknown} images without a majority for one class, and \
         {no_face} without a face",
        path.display()
    ));
    let side = image_len.and_then(row::side).unwrap_or(1);
    let classes = EMOTIONS.into_iter().chain([expression::CONTEMPT]);
    let classes = classes.map(str::to_owned).collect();
    let has_test = gather.skipped() > 0;
    gather.finish(&path.display().to_string(), [side; 2], classes, has_test)
}

fn columns(table: &Table) -> Result<Columns, DataError> {
    let mut votes = [0; 10];
    for (place, name) in votes.iter_mut().zip(BALLOT) {
        *place = table.required(name)?;
    }
    Ok(Columns {
        usage: table.required("usage")?,
        name: table.required("image name")?,
        votes,
    })
}

impl Columns {
    /// The split and the vote of a row, and its soft label if that is wanted and there is one.
    fn parse(
        &self,
        shape: Shape,
        line: &Line<'_>,
        soft_label: bool,
    ) -> Result<(Split, Vote, Vec<u8>), RowProblem> {
        let mut wanted = [None; 12];
        wanted[0] = Some(self.usage);
        wanted[1] = Some(self.name);
        for (wanted, &place) in wanted[2..].iter_mut().zip(&self.votes) {
            *wanted = Some(place);
        }
        let [usage, name, fields @ ..] = shape.pick(line, wanted)?;
        let mut votes = [0; 10];
        for ((votes, field), name) in votes.iter_mut().zip(fields).zip(BALLOT) {
            let text = row::text(field, "votes")?;
            *votes = row::whole_number(text).ok_or_else(|| RowProblem::Votes {
                text: row::excerpt(text.as_bytes()),
                column: name,
            })?;
        }
        let vote = match name.trim_ascii().is_empty() {
            true => Vote::NoFace,
            false => majority(votes),
        };
        let soft_label = match vote {
            Vote::Class(_) if soft_label => soft(votes)?,
            _ => Vec::new(),
        };
        Ok((row::usage(usage)?, vote, soft_label))
    }
}

/// Votes without the single ones.
fn counted(votes: [usize; 10]) -> [usize; 10] {
    votes.map(|votes| if votes > 1 { votes } else { 0 })
}

/// The votes on each class, without the single ones. That of the majority has the most.
fn soft(votes: [usize; 10]) -> Result<Vec<u8>, RowProblem> {
    let of_classes = counted(votes).into_iter().zip(BALLOT).take(CLASSES);
    of_classes
        .map(|(votes, column)| {
            u8::try_from(votes).map_err(|_| RowProblem::TooManyVotes { votes, column })
        })
        .collect()
}

/// What has more than half of the votes that are not single.
pub(super) fn majority(votes: [usize; 10]) -> Vote {
    let counted = counted(votes).map(|votes| votes as u128);
    let all: u128 = counted.iter().sum();
    match counted.iter().position(|&votes| votes > all - votes) {
        Some(class) if class < CLASSES => Vote::Class(class as u8),
        Some(9) => Vote::NoFace,
        _ => Vote::Unknown,
    }
}
