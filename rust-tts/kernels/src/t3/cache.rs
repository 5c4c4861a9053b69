//! Keys and values of past positions, in pages that rows may share.

use std::sync::Arc;

use super::page::{OpenRow, PAGE, Page, Shape};
use crate::Error;

/// The format of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheFormat {
    F32,
    /// The upper half of an f32: half of the memory and of the time to read it, three significant digits.
    Bf16,
}

impl CacheFormat {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// A growing number of rows, each the keys and values of one sequence.
///
/// A row's space grows by pages as positions are added to it. A row that begins as another one shares its pages until it
/// writes into them.
pub struct Cache {
    shape: Shape,
    rows: Vec<Row>,
}

#[derive(Clone, Default)]
struct Row {
    pages: Vec<Arc<Page>>,
    length: usize,
}

impl Cache {
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            shape,
            rows: Vec::new(),
        }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Positions that `row` holds; 0 for one that is not there.
    pub fn length(&self, row: usize) -> usize {
        self.rows.get(row).map_or(0, |row| row.length)
    }

    /// Bytes of keys and values. Pages that rows share count once for each of them.
    pub fn bytes(&self) -> usize {
        let pages: usize = self.rows.iter().map(|row| row.pages.len()).sum();
        pages * self.shape.page_bytes()
    }

    /// Adds a row at the end that holds nothing yet.
    pub fn append(&mut self) {
        self.rows.push(Row::default());
    }

    /// Makes `row` begin as `other`'s row `from` is, in place of what it held. The space is shared.
    pub fn paste(&mut self, row: usize, other: &Self, from: usize) -> Result<(), Error> {
        if other.shape != self.shape {
            return Err(Error("the other cache is another model's".to_owned()));
        }
        match (self.rows.get_mut(row), other.rows.get(from)) {
            (Some(row), Some(source)) => *row = source.clone(),
            _ => return Err(Error("there is no such row in the cache".to_owned())),
        }
        Ok(())
    }

    /// Drops `row`; the last one takes its number.
    pub fn remove(&mut self, row: usize) -> Result<(), Error> {
        if row >= self.rows.len() {
            return Err(Error(format!("there is no row {row} in the cache")));
        }
        self.rows.swap_remove(row);
        Ok(())
    }

    /// Makes room for `new` positions from `starts[i]` on in each of the rows from `first` on, and gives access to them.
    ///
    /// The rows' later positions are discarded.
    pub(super) fn open(
        &mut self,
        first: usize,
        starts: &[usize],
        new: usize,
    ) -> Result<Vec<OpenRow<'_>>, Error> {
        let shape = self.shape;
        let rows = self
            .rows
            .get_mut(first..)
            .and_then(|rows| rows.get_mut(..starts.len()))
            .ok_or_else(|| Error("there are no such rows in the cache".to_owned()))?;
        if rows
            .iter()
            .zip(starts)
            .any(|(row, start)| *start > row.length)
        {
            return Err(Error("positions would be left out of the cache".to_owned()));
        }
        let open_rows = rows
            .iter_mut()
            .zip(starts)
            .map(|(row, start)| row.open(shape, *start, start + new))
            .collect();
        Ok(open_rows)
    }
}

impl Row {
    fn open(&mut self, shape: Shape, start: usize, end: usize) -> OpenRow<'_> {
        self.pages.truncate(end.div_ceil(PAGE));
        while self.pages.len() < end.div_ceil(PAGE) {
            self.pages.push(Arc::new(Page::new(shape)));
        }
        self.length = end;
        OpenRow::new(shape, start, &mut self.pages)
    }
}
