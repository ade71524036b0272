//! Bytes of the format `QDS1`, and what makes them valid.

use std::io::{self, Write};

use super::{Dataset, Images, Index, Split};

const MAGIC: &[u8; 4] = b"QDS1";
/// A label is one byte.
const MAX_CLASSES: usize = 256;

/// Why bytes are not a data set, or a data set cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatasetError {
    /// The magic is missing.
    #[error("not a packed data set: it does not begin with `QDS1`")]
    Magic,
    /// The bytes end inside the header.
    #[error("packed data set is truncated in its header, at byte {at}")]
    TruncatedHeader {
        /// Where the bytes end.
        at: usize,
    },
    /// The bytes are fewer or more than the header says.
    #[error("packed data set has {found} bytes where its header says {expected}")]
    Length {
        /// What the header says.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// A number in the header is impossible.
    #[error("packed data set has a bad header: {0}")]
    Header(&'static str),
    /// A class's name is empty, not UTF-8, too long or used twice.
    #[error("packed data set has a bad name for class {class}: {problem}")]
    ClassName {
        /// Number of the class.
        class: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// A label names no class.
    #[error("label {label} of {split} image {index} is not one of {classes} classes")]
    Label {
        /// Its split.
        split: Split,
        /// Its place in the split.
        index: usize,
        /// The label.
        label: u8,
        /// How many classes there are.
        classes: usize,
    },
    /// The labels and the pixels of a split disagree (in memory only).
    #[error("{split} has {labels} labels but {bytes} bytes of pixels")]
    Pixels {
        /// The split.
        split: Split,
        /// Its labels.
        labels: usize,
        /// Its bytes of pixels.
        bytes: usize,
    },
}

impl Dataset {
    /// Checks all that [`Dataset::decode`] checks: use it on a data set that was put together by hand.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate(&self) -> Result<(), DatasetError> {
        if self.width == 0 || self.height == 0 {
            return Err(DatasetError::Header("images without pixels"));
        }
        check_classes(&self.classes)?;
        for split in Split::ALL {
            let images = self.split(split);
            if images.len().checked_mul(self.image_len()) != Some(images.pixels.len()) {
                let (labels, bytes) = (images.len(), images.pixels.len());
                return Err(DatasetError::Pixels {
                    split,
                    labels,
                    bytes,
                });
            }
            check_labels(split, &images.labels, self.classes.len())?;
        }
        Ok(())
    }

    /// Bytes that [`Dataset::write_to`] writes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let names: usize = self.classes.iter().map(|name| 2 + name.len()).sum();
        let images: usize = self
            .splits
            .iter()
            .map(|i| i.labels.len() + i.pixels.len())
            .sum();
        MAGIC.len() + 8 + names + 8 * Split::ALL.len() + images
    }

    /// Writes the format `QDS1`, in large pieces (no buffering needed).
    ///
    /// # Errors
    /// `InvalidInput` with a [`DatasetError`] when [`Dataset::validate`] fails; else what the writer says.
    pub fn write_to(&self, mut out: impl Write) -> io::Result<()> {
        self.validate()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let mut header = Vec::new();
        header.extend_from_slice(MAGIC);
        for number in [self.width, self.height, narrow(self.classes.len())?, 0] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        for name in &self.classes {
            header.extend_from_slice(&narrow(name.len())?.to_le_bytes());
            header.extend_from_slice(name.as_bytes());
        }
        for images in &self.splits {
            header.extend_from_slice(&(images.len() as u64).to_le_bytes());
        }
        out.write_all(&header)?;
        for images in &self.splits {
            out.write_all(&images.labels)?;
        }
        for images in &self.splits {
            out.write_all(&images.pixels)?;
        }
        Ok(())
    }

    /// The format `QDS1` in memory.
    ///
    /// # Panics
    /// If the data set is not valid ([`Dataset::validate`]); what was decoded or loaded always is.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        self.write_to(&mut bytes)
            .expect("only valid data sets are encoded");
        bytes
    }

    /// Reads the format `QDS1`. Memory is taken only for what the bytes hold, whatever their header says.
    ///
    /// # Errors
    /// If the bytes are not exactly one valid data set.
    pub fn decode(bytes: &[u8]) -> Result<Self, DatasetError> {
        let mut reader = Reader { bytes, at: 0 };
        let Header {
            width,
            height,
            classes,
            counts,
        } = Header::read(&mut reader)?;
        let image_len = usize::from(width) * usize::from(height);
        reader.check_rest(counts, image_len)?;

        // From here on the counts are known to fit in `bytes`, and so in `usize`.
        let mut splits = <[Images; 3]>::default();
        for (split, count) in Split::ALL.into_iter().zip(counts) {
            splits[split as usize].labels = reader.take(count as usize)?.to_vec();
            check_labels(split, &splits[split as usize].labels, classes.len())?;
        }
        for (images, count) in splits.iter_mut().zip(counts) {
            images.pixels = reader.take(count as usize * image_len)?.to_vec();
        }
        Ok(Self {
            width,
            height,
            classes,
            splits,
        })
    }
}

impl Index {
    /// The index of the data set that begins with these bytes. Its pixels need not be among them.
    ///
    /// # Errors
    /// [`DatasetError::TruncatedHeader`] if more bytes are needed; else what is wrong with them.
    pub fn of_prefix(bytes: &[u8]) -> Result<Self, DatasetError> {
        let mut reader = Reader { bytes, at: 0 };
        let Header {
            width,
            height,
            classes,
            counts,
        } = Header::read(&mut reader)?;
        let mut labels = <[Vec<u8>; 3]>::default();
        for (split, count) in Split::ALL.into_iter().zip(counts) {
            let count = usize::try_from(count)
                .map_err(|_| DatasetError::Header("more images than can be addressed"))?;
            let of_split = reader.take(count)?;
            check_labels(split, of_split, classes.len())?;
            labels[split as usize] = of_split.to_vec();
        }
        Ok(Self {
            width,
            height,
            classes,
            labels,
            pixels_at: reader.at as u64,
        })
    }
}

/// What comes before the labels.
struct Header {
    width: u16,
    height: u16,
    classes: Vec<String>,
    counts: [u64; 3],
}

impl Header {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DatasetError> {
        if reader.take(MAGIC.len()).ok() != Some(MAGIC.as_slice()) {
            return Err(DatasetError::Magic);
        }
        let (width, height) = (reader.u16()?, reader.u16()?);
        if width == 0 || height == 0 {
            return Err(DatasetError::Header("images without pixels"));
        }
        let count = usize::from(reader.u16()?);
        if reader.u16()? != 0 {
            return Err(DatasetError::Header("reserved field is not 0"));
        }
        if count > MAX_CLASSES {
            return Err(DatasetError::Header("more than 256 classes"));
        }
        let mut classes = Vec::new();
        for class in 0..count {
            let len = usize::from(reader.u16()?);
            let name =
                std::str::from_utf8(reader.take(len)?).map_err(|_| DatasetError::ClassName {
                    class,
                    problem: "it is not UTF-8",
                })?;
            classes.push(name.to_owned());
        }
        check_classes(&classes)?;
        Ok(Self {
            width,
            height,
            classes,
            counts: [reader.u64()?, reader.u64()?, reader.u64()?],
        })
    }
}

fn narrow(number: usize) -> io::Result<u16> {
    u16::try_from(number).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

fn check_classes(classes: &[String]) -> Result<(), DatasetError> {
    if classes.is_empty() {
        return Err(DatasetError::Header("no classes"));
    }
    if classes.len() > MAX_CLASSES {
        return Err(DatasetError::Header("more than 256 classes"));
    }
    for (class, name) in classes.iter().enumerate() {
        let problem = if name.is_empty() {
            "it is empty"
        } else if name.len() > usize::from(u16::MAX) {
            "it is longer than 65535 bytes"
        } else if classes[..class].contains(name) {
            "another class has it"
        } else {
            continue;
        };
        return Err(DatasetError::ClassName { class, problem });
    }
    Ok(())
}

fn check_labels(split: Split, labels: &[u8], classes: usize) -> Result<(), DatasetError> {
    match labels
        .iter()
        .position(|&label| usize::from(label) >= classes)
    {
        Some(index) => Err(DatasetError::Label {
            split,
            index,
            label: labels[index],
            classes,
        }),
        None => Ok(()),
    }
}

/// A cursor that never reads past the end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DatasetError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..len).ok_or(DatasetError::TruncatedHeader {
            at: self.bytes.len(),
        })?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DatasetError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u16(&mut self) -> Result<u16, DatasetError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DatasetError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Whether exactly `counts` images follow.
    fn check_rest(&self, counts: [u64; 3], image_len: usize) -> Result<(), DatasetError> {
        let expected = counts
            .iter()
            .try_fold(0_u64, |sum, &count| sum.checked_add(count))
            .and_then(|images| images.checked_mul(image_len as u64 + 1))
            .and_then(|images| images.checked_add(self.at as u64))
            .ok_or(DatasetError::Header("more images than can be addressed"))?;
        let found = self.bytes.len() as u64;
        if expected == found {
            Ok(())
        } else {
            Err(DatasetError::Length { expected, found })
        }
    }
}
