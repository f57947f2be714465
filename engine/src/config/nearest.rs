//! What somebody may have meant by a name that does not exist.
//!
//! **Invariant:** a suggestion is one of the known names, and near enough to be a slip of the hand.

/// The known name nearest to `name`, when it is near.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let far = (name.chars().count() / 3).max(2);
    let distances = known
        .into_iter()
        .map(|known| (distance(name, known), known));
    let (distance, known) = distances.min()?;
    (distance <= far).then_some(known)
}

/// How many characters must be put in, taken out or changed (Levenshtein), one row of the table at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in b.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        for (a, b, expected) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
            ("flaw", "lawn", 2),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        let known = ["flush.max_bytes", "flush.max_rows", "log.level"];
        assert_eq!(nearest("flush.max_byte", known), Some("flush.max_bytes"));
        assert_eq!(nearest("log.lvl", known), Some("log.level"));
        assert_eq!(nearest("entirely.else", known), None);
    }
}
