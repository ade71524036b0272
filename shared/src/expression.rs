//! The names that data sets give to facial expressions.

use crate::dataset::EMOTIONS;

/// The expression of CK+, AffectNet and FER+ that FER2013 lacks.
pub const CONTEMPT: &str = "contempt";

/// Words for each expression, the standard name first, in the order of [`EMOTIONS`]; then contempt.
const WORDS: [&[&str]; 8] = [
    &["angry", "anger"],
    &["disgust", "disgusted"],
    &["fear", "fearful", "afraid"],
    &["happy", "happiness", "joy"],
    &["sad", "sadness"],
    &["surprise", "surprised"],
    &["neutral"],
    &[CONTEMPT, "contemptuous"],
];

/// The number of the expression that a word means, without regard to case: 0 to 6 as in [`EMOTIONS`], 7 is
/// [`CONTEMPT`].
#[must_use]
pub fn number(word: &str) -> Option<u8> {
    let means = |words: &&[&str]| words.iter().any(|known| word.eq_ignore_ascii_case(known));
    WORDS
        .iter()
        .zip(0..)
        .find_map(|(words, number)| means(words).then_some(number))
}

/// The standard name of the expression that a word means: one of [`EMOTIONS`], or [`CONTEMPT`].
#[must_use]
pub fn standard_name(word: &str) -> Option<&'static str> {
    let number = usize::from(number(word)?);
    Some(EMOTIONS.get(number).copied().unwrap_or(CONTEMPT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_means_one_expression() {
        for (expected, words) in WORDS.iter().enumerate() {
            for word in *words {
                let upper = word.to_uppercase();
                let found = [*word, upper.as_str()].map(|word| number(word).map(usize::from));
                assert_eq!(found, [Some(expected); 2], "{word}");
                assert_eq!(standard_name(word), Some(words[0]));
            }
        }
        let standard = WORDS.map(|words| words[0]);
        assert_eq!(standard[..7], EMOTIONS);
        for other in ["", "0", "happ", "unknown", "NF"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
