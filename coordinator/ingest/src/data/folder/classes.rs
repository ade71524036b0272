//! Which class a folder's name means.

use std::collections::{BTreeMap, BTreeSet};

use quartet_shared::dataset::{EMOTIONS, Split};
use quartet_shared::expression;

use super::entries::shown;

/// The classes of RAF-DB in the order of their numbers, from 1.
const RAF_DB: [&str; 7] = [
    "surprise", "fear", "disgust", "happy", "sad", "angry", "neutral",
];

/// Most classes: a label is one byte.
const MAX_CLASSES: usize = 256;

/// The classes of an image folder.
#[derive(Debug)]
pub(super) struct Classes {
    /// The names in the order of their numbers.
    pub(super) names: Vec<String>,
    /// The number of each folder's name.
    numbers: BTreeMap<String, u8>,
    /// What is to be said about them.
    pub(super) warning: Option<String>,
}

impl Classes {
    /// Finds the classes from the class folders of all splits. `named` are the names of folders with numbers,
    /// in their order. The error says what is wrong and what to do.
    pub(super) fn new(folders: &[(Split, &str)], named: Option<&[String]>) -> Result<Self, String> {
        let names: BTreeSet<&str> = folders.iter().map(|&(_, name)| name).collect();
        let (numbers, words): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| number(name).is_some());
        match names.len() {
            0 => return Err("no class folders; at least 2 are needed".to_owned()),
            1 => {
                return Err(format!(
                    "one class folder ({}); at least 2 are needed",
                    shown(names.into_iter())
                ));
            }
            2..=MAX_CLASSES => {}
            count => return Err(format!("{count} class folders; at most 256 are possible")),
        }
        let classes = match (numbers.is_empty(), words.is_empty(), named) {
            (true, _, None) => Self::of_words(folders, &words)?,
            (_, false, Some(_)) => {
                return Err(format!(
                    "--class-names is for class folders with numbers, and these have names: {}; leave it out",
                    shown(words.into_iter())
                ));
            }
            (_, true, Some(named)) => Self::of_named(numbers, named)?,
            (false, true, None) => Self::of_numbers(numbers)?,
            (false, false, None) => Self::of_fer2013s(&names)?,
        };
        classes.check_twins(folders)?;
        Ok(classes)
    }

    /// Names alone: expressions in FER2013's order, others behind them, sorted.
    fn of_words(folders: &[(Split, &str)], words: &[&str]) -> Result<Self, String> {
        let (known, other): (Vec<&str>, Vec<&str>) = words
            .iter()
            .partition(|word| expression::number(word).is_some());
        let mut warning = None;
        if !known.is_empty() {
            check_strange(folders, &other)?;
            let found: BTreeSet<u8> = known.iter().filter_map(|w| expression::number(w)).collect();
            let absent: Vec<&str> = (0..)
                .zip(EMOTIONS)
                .filter_map(|(number, name)| (!found.contains(&number)).then_some(name))
                .collect();
            if !other.is_empty() {
                warning = Some(format!(
                    "class folders beside those of emotions, each a class of its own: {}",
                    shown(other.iter().copied())
                ));
            } else if !absent.is_empty() {
                warning = Some(format!("no class folder for {}", absent.join(", ")));
            }
        }
        let key = |word: &str| match expression::number(word) {
            Some(number) => (u16::from(number), expression::standard_name(word)),
            None => (u16::MAX, None),
        };
        let mut classes: Vec<(u16, &str)> = words
            .iter()
            .map(|word| {
                let (order, standard) = key(word);
                (order, standard.unwrap_or(word))
            })
            .collect();
        classes.sort_unstable();
        classes.dedup();
        let names: Vec<String> = classes.iter().map(|(_, name)| (*name).to_owned()).collect();
        if names.len() < 2 {
            return Err(format!(
                "all class folders are of {}; at least 2 classes are needed",
                names.join(", ")
            ));
        }
        let name = |word: &str| key(word).1.unwrap_or(word).to_owned();
        let folders = words.iter().map(|word| ((*word).to_owned(), name(word)));
        Ok(Self::of(names, folders.collect(), warning))
    }

    /// Numbers alone: those of FER2013 or of RAF-DB.
    fn of_numbers(mut numbers: Vec<&str>) -> Result<Self, String> {
        numbers.sort_by_key(|name| number(name));
        let all = |from: u32| (from..from + 7).eq(numbers.iter().filter_map(|name| number(name)));
        let (data_set, names) = match (all(0), all(1)) {
            (true, _) => ("FER2013", EMOTIONS),
            (_, true) => ("RAF-DB", RAF_DB),
            _ => {
                return Err(format!(
                    "the numbers of the class folders ({}) are neither FER2013's 0 to 6 nor RAF-DB's 1 to 7; \
                     name them with --class-names, in the order of the numbers, or rename the folders",
                    shown(numbers.into_iter())
                ));
            }
        };
        let meant: Vec<String> = numbers
            .iter()
            .zip(names)
            .map(|(number, name)| format!("{number} {name}"))
            .collect();
        let warning = format!(
            "class folders with the numbers of {data_set} ({}); --class-names says otherwise",
            meant.join(", ")
        );
        let pairs = numbers.iter().zip(names);
        let folders = pairs.map(|(number, name)| ((*number).to_owned(), name.to_owned()));
        let names = EMOTIONS.map(str::to_owned).to_vec();
        Ok(Self::of(names, folders.collect(), Some(warning)))
    }

    /// Numbers that the options name.
    fn of_named(mut numbers: Vec<&str>, named: &[String]) -> Result<Self, String> {
        numbers.sort_by_key(|name| number(name));
        if numbers.len() != named.len() {
            return Err(format!(
                "{} class folders ({}) and {} names in --class-names",
                numbers.len(),
                shown(numbers.into_iter()),
                named.len()
            ));
        }
        let pairs = numbers.into_iter().zip(named);
        let folders = pairs.map(|(number, name)| (number.to_owned(), name.clone()));
        Ok(Self::of(named.to_vec(), folders.collect(), None))
    }

    /// Names and numbers: all of them FER2013's.
    fn of_fer2013s(names: &BTreeSet<&str>) -> Result<Self, String> {
        let class = |name: &str| match number(name) {
            Some(number) => EMOTIONS.get(usize::try_from(number).ok()?).copied(),
            None => expression::standard_name(name).filter(|name| EMOTIONS.contains(name)),
        };
        let mut folders = BTreeMap::new();
        for name in names {
            let Some(class) = class(name) else {
                return Err(format!(
                    "class folder `{name}` is neither an emotion ({}) nor a number from 0 to 6, as others \
                     are; rename or remove it",
                    EMOTIONS.join(", ")
                ));
            };
            folders.insert((*name).to_owned(), class.to_owned());
        }
        let names = EMOTIONS.map(str::to_owned).to_vec();
        Ok(Self::of(names, folders, None))
    }

    fn of(names: Vec<String>, folders: BTreeMap<String, String>, warning: Option<String>) -> Self {
        // At most 256 names, and each folder's class is one of them.
        let position = |class: &String| names.iter().position(|name| name == class);
        let numbers = folders
            .into_iter()
            .map(|(folder, class)| (folder, position(&class).unwrap_or_default() as u8))
            .collect();
        Self {
            names,
            numbers,
            warning,
        }
    }

    /// Refuses two folders of a split that have different names for one class: they may be meant as two.
    fn check_twins(&self, folders: &[(Split, &str)]) -> Result<(), String> {
        let mut seen = BTreeMap::new();
        let words = folders.iter().filter(|(_, name)| number(name).is_none());
        for &(split, name) in words {
            let label = self.label(name);
            let first = *seen.entry((split, label)).or_insert(name);
            if !first.eq_ignore_ascii_case(name) {
                return Err(format!(
                    "class folders `{first}` and `{name}` are both of class {}; \
                     move the images of one to the other",
                    self.names[usize::from(label)]
                ));
            }
        }
        Ok(())
    }

    /// The number of a folder whose name was among those given to [`Classes::new`].
    pub(super) fn label(&self, name: &str) -> u8 {
        self.numbers.get(name).copied().unwrap_or_default()
    }
}

/// A folder that is of no emotion may be a class of its own, or misspelt: all splits have what is a class.
fn check_strange(folders: &[(Split, &str)], other: &[&str]) -> Result<(), String> {
    let splits: BTreeSet<Split> = folders.iter().map(|&(split, _)| split).collect();
    for name in other {
        let lacks = |split: &&Split| !folders.contains(&(**split, name));
        if let Some(split) = splits.iter().find(lacks) {
            return Err(format!(
                "class folder `{name}` is neither an emotion ({}, contempt), as others are, nor in the \
                 {split} split, as a class of its own would be; rename or remove it",
                EMOTIONS.join(", ")
            ));
        }
    }
    Ok(())
}

/// A name that is a number.
fn number(name: &str) -> Option<u32> {
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    name.parse().ok().filter(|_| digits)
}
