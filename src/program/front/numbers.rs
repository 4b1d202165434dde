//! A set of job numbers that takes a bit for each: there may be millions.

/// The set.
#[derive(Debug, Default, Clone)]
pub struct Numbers {
    words: Vec<u64>,
}

impl Numbers {
    fn place(number: u64) -> (usize, u64) {
        (usize::try_from(number / 64).unwrap_or(usize::MAX), 1 << (number % 64))
    }

    /// Adds a number. False: it was in it.
    pub fn insert(&mut self, number: u64) -> bool {
        let (word, bit) = Numbers::place(number);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    /// Whether a number is in it.
    pub fn contains(&self, number: u64) -> bool {
        let (word, bit) = Numbers::place(number);
        self.words.get(word).is_some_and(|bits| bits & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_counts_once() {
        let mut numbers = Numbers::default();
        assert!(!numbers.contains(7));
        assert!(numbers.insert(7) && !numbers.insert(7) && numbers.insert(1_000_000));
        assert!(numbers.contains(7) && numbers.contains(1_000_000) && !numbers.contains(8));
    }
}
