//! Where a sentence that is longer than one utterance may be is cut.

use unicode_segmentation::UnicodeSegmentation as _;

use super::characters::{
    is_clause_mark, is_closer, is_dash, is_end, is_hard_clause_mark, is_hard_end,
};

/// The number of characters to take off the front of `chars`, in `1..=max`, where `chars` is longer
/// than `max`.
///
/// The cut falls after a clause mark, else at a space, else between two grapheme clusters, else
/// (one cluster longer than `max`) inside it. When the `whole` sentence is there and two utterances
/// can hold it, they are made about equally long; otherwise the first is as long as it may be.
pub fn cut_point(chars: &[char], max: usize, whole: bool) -> usize {
    let cut = Cut {
        chars,
        boundary: cluster_boundaries(chars),
    };
    let len = chars.len();
    let balanced = || {
        let (lo, hi, middle) = (len.saturating_sub(max).max(1), max, len / 2);
        let inner = (lo.max(len / 4), hi.min(len - len / 4));
        let spaceless = !chars.contains(&' ');
        cut.nearest(inner, middle, Cut::is_clause_end)
            .or_else(|| cut.nearest((lo, hi), middle, Cut::is_space))
            .or_else(|| {
                cut.nearest((lo, hi), middle, |cut, at| {
                    spaceless && !is_closer(cut.chars[at], true)
                })
            })
    };
    let longest = || {
        cut.nearest((max.div_ceil(3), max), max, Cut::is_clause_end)
            .or_else(|| cut.nearest((1, max), max, Cut::is_space))
            .or_else(|| cut.nearest((1, max), max, |_, _| true))
            .unwrap_or(max)
    };
    if whole && len.div_ceil(2) <= max {
        balanced().unwrap_or_else(longest)
    } else {
        longest()
    }
}

struct Cut<'a> {
    chars: &'a [char],
    /// Whether a grapheme cluster starts at each character.
    boundary: Vec<bool>,
}

impl Cut<'_> {
    /// The place in `lo..=hi` nearest to `target` that fits; of two, the later.
    fn nearest(
        &self,
        (lo, hi): (usize, usize),
        target: usize,
        fits: impl Fn(&Self, usize) -> bool,
    ) -> Option<usize> {
        (lo..=hi.min(self.chars.len() - 1))
            .rev()
            .filter(|&at| self.boundary[at] && fits(self, at))
            .min_by_key(|at| at.abs_diff(target))
    }

    fn is_space(&self, at: usize) -> bool {
        self.chars[at] == ' '
    }

    /// Whether a clause (or a quoted sentence) ends before `at`.
    fn is_clause_end(&self, at: usize) -> bool {
        let (before, next) = (&self.chars[..at], self.chars[at]);
        let last = before[at - 1];
        if next == ' ' {
            // A full stop that ended no sentence is an abbreviation's: no place to pause.
            let mark = before.iter().rev().find(|&&c| !is_closer(c, false));
            return mark.is_some_and(|&c| {
                is_clause_mark(c) || is_hard_clause_mark(c) || (is_end(c) && c != '.')
            });
        }
        let closes = is_closer(next, true) || is_end(next);
        !closes
            && (is_hard_clause_mark(last)
                || is_hard_end(last)
                || (is_dash(last) && !next.is_numeric()))
    }
}

fn cluster_boundaries(chars: &[char]) -> Vec<bool> {
    let text: String = chars.iter().collect();
    let mut boundary = vec![false; chars.len()];
    let mut at = 0;
    for cluster in text.graphemes(true) {
        boundary[at] = true;
        at += cluster.chars().count();
    }
    boundary
}
