//! The known name that is most like an unknown one: what a typing error probably meant.

/// No known name is longer; longer words are not compared, which also bounds the work.
const LONGEST: usize = 48;

/// The candidate with the fewest typing errors, if they are few enough for the length of the word: up to one in four
/// characters, and three at most.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(LONGEST + 1).collect();
    if word.len() > LONGEST {
        return None;
    }
    let allowed = (word.len() / 4).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase().chars().collect::<Vec<_>>()), candidate))
        .filter(|(errors, _)| *errors <= allowed)
        .min_by_key(|(errors, _)| *errors)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one word into the other (optimal string alignment;
/// a swap is the most frequent typing error, and Levenshtein's distance would count it twice).
fn distance(a: &[char], b: &[char]) -> usize {
    // Rows of the usual table: the one before the last, and the last.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut errors = (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                errors = errors.min(at(&before, j - 1) + 1);
            }
            row.push(errors);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_typing_errors() {
        for (a, b, errors) in
            [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("inof", "info", 1)]
        {
            let chars = |word: &str| word.chars().collect::<Vec<_>>();
            assert_eq!(distance(&chars(a), &chars(b)), errors, "{a} {b}");
        }
    }

    #[test]
    fn a_typing_error_finds_its_name_and_a_strange_word_finds_none() {
        let names = ["REMORA_INTERNAL", "REMORA_RESYNC", "REMORA_TAGS"];
        assert_eq!(nearest("REMORA_INTRENAL", names), Some("REMORA_INTERNAL"));
        assert_eq!(nearest("remora_resync", names), Some("REMORA_RESYNC"));
        assert_eq!(nearest("REMORA_RSYNC", names), Some("REMORA_RESYNC"));
        assert_eq!(nearest("REMORA_WEBHOOK_URL", names), None);
        assert_eq!(nearest(&"REMORA_TAGS".repeat(1000), names), None);
    }
}
