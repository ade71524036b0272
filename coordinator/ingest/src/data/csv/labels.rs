//! Which class the emotion of a row means.

use quartet_shared::dataset::EMOTIONS;
use quartet_shared::expression;

use super::row::{self, excerpt};
use crate::data::{Options, RowProblem};

/// How many classes a message shows.
const SHOWN: usize = 10;

/// The classes of CSV files.
pub(super) struct Labels {
    /// The classes with numbers, in the order of these: FER2013's unless the options name others.
    names: Vec<String>,
    /// Whether contempt, which has no number in FER2013, may be the last class.
    takes_contempt: bool,
    /// Whether a row has it.
    has_contempt: bool,
}

impl Labels {
    pub(super) fn new(options: &Options) -> Self {
        let names = options.class_names.as_ref();
        Self {
            names: names.map_or_else(
                || EMOTIONS.map(str::to_owned).to_vec(),
                |names| names.as_slice().to_vec(),
            ),
            takes_contempt: names.is_none(),
            has_contempt: false,
        }
    }

    /// The class of a row: its number, also as `3.0`, or its name.
    pub(super) fn label(&self, field: &[u8]) -> Result<u8, RowProblem> {
        let text = row::text(field, "emotion")?;
        let count = self.names.len();
        let by_number = row::whole_number(text).filter(|&number| number < count);
        let by_name = || {
            let name = expression::standard_name(text).unwrap_or(text);
            let is_contempt = self.takes_contempt && name == expression::CONTEMPT;
            let mut names = self.names.iter();
            let known = names.position(|known| known.eq_ignore_ascii_case(name));
            known.or(is_contempt.then_some(count))
        };
        let found = by_number.or_else(by_name);
        found
            .and_then(|label| u8::try_from(label).ok())
            .ok_or_else(|| RowProblem::Emotion {
                text: excerpt(text.as_bytes()),
                last: count - 1,
                names: self.shown(),
            })
    }

    /// Notes the class of a good row.
    pub(super) fn seen(&mut self, label: u8) {
        self.has_contempt |= usize::from(label) == self.names.len();
    }

    /// The names in the order of their numbers.
    pub(super) fn into_names(mut self) -> Vec<String> {
        if self.has_contempt {
            self.names.push(expression::CONTEMPT.to_owned());
        }
        self.names
    }

    fn shown(&self) -> String {
        let shown: Vec<_> = self.names.iter().take(SHOWN).map(String::as_str).collect();
        let more = if self.names.len() > SHOWN {
            ", …"
        } else {
            ""
        };
        shown.join(", ") + more
    }
}
