//! Which places of a grid are worked on: those near a matte's soft band, a few per cent of most pictures.

use std::ops::Range;

use crate::frame::Size;

/// Columns that are marked together. A power of two of lanes, and more than any window reaches.
pub(super) const CHUNK: usize = 16;

/// Marks of chunks of columns, row by row.
#[derive(Debug)]
pub(super) struct Near {
    rows: usize,
    chunks: usize,
    marks: Vec<bool>,
}

impl Near {
    pub(super) fn new(grid: Size) -> Self {
        let (rows, chunks) = (grid.height, chunks_of(grid));
        Self { rows, chunks, marks: vec![false; rows * chunks] }
    }

    pub(super) fn clear(&mut self) {
        self.marks.fill(false);
    }

    pub(super) fn mark(&mut self, row: usize, chunk: usize) {
        self.marks[row * self.chunks + chunk] = true;
    }

    pub(super) fn is_marked(&self, row: usize, chunk: usize) -> bool {
        self.marks[row * self.chunks + chunk]
    }

    /// Marks what is at most so many rows and one chunk from a mark of `other`.
    pub(super) fn spread(&mut self, other: &Self, reach: usize) {
        self.clear();
        for row in 0..self.rows {
            let marks = &mut self.marks[row * self.chunks..][..self.chunks];
            let (first, last) = (row.saturating_sub(reach), (row + reach).min(self.rows - 1));
            for near in other.marks[first * other.chunks..(last + 1) * other.chunks].chunks_exact(other.chunks) {
                for (chunk, _) in near.iter().enumerate().filter(|(_, mark)| **mark) {
                    marks[chunk.saturating_sub(1)..(chunk + 2).min(self.chunks)].fill(true);
                }
            }
        }
    }

    /// Runs of marked chunks of a row.
    pub(super) fn runs(&self, row: usize) -> impl Iterator<Item = Range<usize>> + '_ {
        let marks = &self.marks[row * self.chunks..][..self.chunks];
        let mut next = 0;
        std::iter::from_fn(move || {
            let first = next + marks[next..].iter().position(|mark| *mark)?;
            next = marks[first..].iter().position(|mark| !mark).map_or(marks.len(), |length| first + length);
            Some(first..next)
        })
    }
}

/// Chunks in a row of a grid, the last one perhaps beyond its end.
pub(super) fn chunks_of(grid: Size) -> usize {
    grid.width.div_ceil(CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_spread_by_rows_and_one_chunk_and_no_further() {
        let grid = Size { width: 140, height: 9 };
        let (mut marked, mut spread) = (Near::new(grid), Near::new(grid));
        marked.mark(4, 3);
        marked.mark(4, 7);
        spread.spread(&marked, 2);
        let runs = |row| spread.runs(row).collect::<Vec<_>>();
        assert!(runs(1).is_empty() && runs(7).is_empty());
        for row in 2..=6 {
            assert_eq!(runs(row), [2..5, 6..9]);
        }
        assert_eq!(marked.runs(4).collect::<Vec<_>>(), [3..4, 7..8]);
        marked.clear();
        assert_eq!(marked.runs(4).count(), 0);
    }
}
