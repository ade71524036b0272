//! Predictions as a table for other programs.

use std::fmt::Write as _;

use quartet_shared::blob::BlobHasher;
use quartet_shared::csv::field;
use quartet_shared::report::argmax;

use super::{Block, PredictionsError, PredictionsReader};

/// Writes the predictions to the store as a table: for each image its split, its index in that, its label,
/// the class that the ensemble predicts, and the probabilities of each class, first by each member, then by
/// the ensemble. An object of that key that is there already stays.
///
/// # Errors
/// The predictions cannot be read, or the store fails.
pub async fn write_table(reader: &PredictionsReader, key: &str) -> Result<(), PredictionsError> {
    let store = &reader.store;
    if store.exists(key).await? {
        return Ok(());
    }
    let mut upload = store.upload(key);
    let mut hasher = BlobHasher::default();
    let mut text = titles(reader);
    for block in reader.blocks() {
        let block = match reader.block(block).await {
            Ok(block) => block,
            Err(error) => {
                upload.abort().await;
                return Err(error);
            }
        };
        rows(reader, &block, &mut text);
        let chunk = std::mem::take(&mut text).into_bytes();
        hasher.update(&chunk);
        if let Err(error) = upload.write(chunk.into()).await {
            upload.abort().await;
            return Err(error.into());
        }
    }
    // What was written is what was hashed.
    let _ = upload.finish(hasher.finish()).await?;
    Ok(())
}

fn titles(reader: &PredictionsReader) -> String {
    let mut line = "split,image,label,predicted".to_owned();
    let members = reader.members().map(|run| run.as_str());
    for speaker in members.chain(["ensemble"]) {
        for class in reader.classes() {
            line.push(',');
            line += &field(&format!("{speaker}:{class}"));
        }
    }
    line + "\n"
}

fn rows(reader: &PredictionsReader, block: &Block<'_>, text: &mut String) {
    let classes = reader.classes();
    for (row, (label, ensemble)) in block.rows().enumerate() {
        let class = field(&classes[usize::from(label)]);
        let predicted = field(&classes[argmax(ensemble)]);
        let image = block.first + row as u64;
        let _ = write!(text, "{},{image},{class},{predicted}", block.split);
        for member in &block.members {
            for p in &member[row * classes.len()..][..classes.len()] {
                probability(*p, text);
            }
        }
        for p in ensemble {
            probability(*p as f32, text);
        }
        text.push('\n');
    }
}

/// The shortest text that is read back as the same number.
fn probability(p: f32, text: &mut String) {
    let _ = match p {
        0.0 | 1e-4.. => write!(text, ",{p}"),
        _ => write!(text, ",{p:e}"),
    };
}
