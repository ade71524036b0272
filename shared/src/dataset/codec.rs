//! Reads the formats `QDS1` and `QDS2`, and says what makes a data set valid.

use super::{Channels, Dataset, DatasetError, ImageShape, Images, Index, Split, shape};

/// The formats: gray images with labels alone, and all others.
pub(super) const MAGICS: [&[u8; 4]; 2] = [b"QDS1", b"QDS2"];
/// A label is one byte.
const MAX_CLASSES: usize = 256;

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
        let (classes, is_soft) = (self.classes.len(), self.is_soft());
        for split in Split::ALL {
            let images = self.split(split);
            let votes = if is_soft { images.len() * classes } else { 0 };
            if images.votes.len() != votes {
                return Err(DatasetError::VotesLength {
                    split,
                    labels: images.len(),
                    classes,
                    votes: images.votes.len(),
                });
            }
            let bytes = match &images.stored {
                Some(stored) => stored.places.len() * self.image_len(),
                None => images.pixels.len(),
            };
            if images.len().checked_mul(self.image_len()) != Some(bytes) {
                let labels = images.len();
                return Err(DatasetError::Pixels {
                    split,
                    labels,
                    bytes,
                });
            }
            check_labels(split, &images.labels, classes)?;
            check_votes(split, images)?;
        }
        Ok(())
    }

    /// Reads a packed data set. Memory is taken only for what the bytes hold, whatever their header says.
    ///
    /// # Errors
    /// If the bytes are not exactly one valid data set.
    pub fn decode(bytes: &[u8]) -> Result<Self, DatasetError> {
        let mut reader = Reader { bytes, at: 0 };
        let header = Header::read(&mut reader)?;
        let expected = header.total_len(reader.at)?;
        let found = bytes.len() as u64;
        if expected != found {
            return Err(DatasetError::Length { expected, found });
        }
        let (image_len, votes_len) = (header.shape().bytes(), header.votes_len());
        let Header {
            width,
            height,
            channels,
            classes,
            counts,
            ..
        } = header;

        // From here on the counts are known to fit in `bytes`, and so in `usize`.
        let mut splits = <[Images; 3]>::default();
        for (split, count) in Split::ALL.into_iter().zip(counts) {
            splits[split as usize].labels = reader.take(count as usize)?.to_vec();
            check_labels(split, &splits[split as usize].labels, classes.len())?;
        }
        for (split, count) in Split::ALL.into_iter().zip(counts) {
            let images = &mut splits[split as usize];
            images.votes = reader.take(count as usize * votes_len)?.to_vec();
            check_votes(split, images)?;
        }
        for (images, count) in splits.iter_mut().zip(counts) {
            images.pixels = reader.take(count as usize * image_len)?.to_vec();
        }
        Ok(Self {
            width,
            height,
            channels,
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
        Self::read(&mut Reader { bytes, at: 0 }).map(|(index, _)| index)
    }

    /// The same with the votes of each split, which must be among the bytes, too.
    pub(super) fn with_votes(bytes: &[u8]) -> Result<(Self, [Vec<u8>; 3]), DatasetError> {
        let mut reader = Reader { bytes, at: 0 };
        let (index, votes_len) = Self::read(&mut reader)?;
        let mut votes = <[Vec<u8>; 3]>::default();
        for (split, labels) in Split::ALL.into_iter().zip(&index.labels) {
            let images = Images {
                labels: labels.clone(),
                votes: reader.take(labels.len() * votes_len)?.to_vec(),
                ..Images::default()
            };
            check_votes(split, &images)?;
            votes[split as usize] = images.votes;
        }
        Ok((index, votes))
    }

    /// The index, and how many bytes of votes an image has; the votes come next.
    fn read(reader: &mut Reader<'_>) -> Result<(Self, usize), DatasetError> {
        let header = Header::read(reader)?;
        let (pixels_at, votes_len) = (header.pixels_at(reader.at)?, header.votes_len());
        let Header {
            width,
            height,
            channels,
            classes,
            counts,
            ..
        } = header;
        let mut labels = <[Vec<u8>; 3]>::default();
        for (split, count) in Split::ALL.into_iter().zip(counts) {
            let count = usize::try_from(count)
                .map_err(|_| DatasetError::Header("more images than can be addressed"))?;
            let of_split = reader.take(count)?;
            check_labels(split, of_split, classes.len())?;
            labels[split as usize] = of_split.to_vec();
        }
        let index = Self {
            width,
            height,
            channels,
            classes,
            labels,
            pixels_at,
        };
        Ok((index, votes_len))
    }
}

/// What comes before the labels.
struct Header {
    width: u16,
    height: u16,
    channels: Channels,
    /// Whether the images have votes.
    is_soft: bool,
    classes: Vec<String>,
    counts: [u64; 3],
}

impl Header {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DatasetError> {
        let magic = reader
            .take(MAGICS[0].len())
            .map_err(|_| DatasetError::Magic)?;
        let format = MAGICS.iter().position(|known| known.as_slice() == magic);
        let is_plain = format.ok_or(DatasetError::Magic)? == 0;
        let (width, height) = (reader.u16()?, reader.u16()?);
        if width == 0 || height == 0 {
            return Err(DatasetError::Header("images without pixels"));
        }
        let count = usize::from(reader.u16()?);
        let (channels, is_soft) = match (is_plain, reader.array()?) {
            (true, [0, 0]) => (Channels::Gray, false),
            (true, _) => return Err(DatasetError::Header("reserved field is not 0")),
            (false, [1, 0]) => {
                return Err(DatasetError::Header(
                    "gray images with labels alone, whose format is `QDS1`",
                ));
            }
            (false, [1, 1]) => (Channels::Gray, true),
            (false, [3, votes @ 0..=1]) => (Channels::Rgb, votes == 1),
            (false, [1 | 3, _]) => return Err(DatasetError::Header("neither votes nor none")),
            (false, _) => return Err(DatasetError::Header("neither 1 nor 3 channels")),
        };
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
        let counts = [reader.u64()?, reader.u64()?, reader.u64()?];
        if is_soft && counts == [0; 3] {
            return Err(DatasetError::Header("votes on no image"));
        }
        Ok(Self {
            width,
            height,
            channels,
            is_soft,
            classes,
            counts,
        })
    }

    fn shape(&self) -> ImageShape {
        shape([self.height, self.width], self.channels)
    }

    /// Bytes of the votes on an image.
    fn votes_len(&self) -> usize {
        if self.is_soft { self.classes.len() } else { 0 }
    }

    /// Where the pixels begin, given where the labels do.
    fn pixels_at(&self, labels_at: usize) -> Result<u64, DatasetError> {
        self.after(labels_at, 1 + self.votes_len())
    }

    /// Bytes of the whole data set, given where the labels begin.
    fn total_len(&self, labels_at: usize) -> Result<u64, DatasetError> {
        self.after(labels_at, 1 + self.votes_len() + self.shape().bytes())
    }

    /// Where `each` bytes of every image end that begin at `at`.
    fn after(&self, at: usize, each: usize) -> Result<u64, DatasetError> {
        let counts = self.counts.iter();
        counts
            .copied()
            .try_fold(0_u64, u64::checked_add)
            .and_then(|images| images.checked_mul(each as u64))
            .and_then(|bytes| bytes.checked_add(at as u64))
            .ok_or(DatasetError::Header("more images than can be addressed"))
    }
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

/// Whether the label of each image is the first class of most votes, of which there are some. Without votes
/// there is nothing to check.
fn check_votes(split: Split, images: &Images) -> Result<(), DatasetError> {
    for (index, &label) in images.labels.iter().enumerate() {
        let Some(votes) = images.votes(index) else {
            return Ok(());
        };
        let most = votes.iter().copied().max().unwrap_or(0);
        let first = votes.iter().position(|&votes| votes == most);
        if most == 0 || first != Some(usize::from(label)) {
            return Err(DatasetError::Votes {
                split,
                index,
                label,
            });
        }
    }
    Ok(())
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
}
