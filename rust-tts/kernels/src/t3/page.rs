//! Pages of keys and values, and the access of tasks to them.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use super::cache::CacheFormat;
use crate::memory::{Buffer, Pod};

/// Positions of a page.
pub(super) const PAGE: usize = 64;

/// The sizes of a model that its cache has too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub layers: usize,
    pub heads: usize,
    pub channels: usize,
    pub format: CacheFormat,
}

impl Shape {
    /// Elements of a head's keys of one layer in a page; as many of its values follow them.
    fn head_elements(self) -> usize {
        PAGE * self.channels
    }

    fn page(self) -> usize {
        2 * self.layers * self.heads * self.head_elements()
    }

    pub(super) fn page_bytes(self) -> usize {
        self.page() * self.format.bytes()
    }
}

/// All layers' keys and values of `PAGE` positions: by layer and head, first the keys `[channels, PAGE]`, then the values
/// `[PAGE, channels]`, so that both are used as the same kind of matrix.
pub(super) enum Page {
    F32(Buffer<f32>),
    Bf16(Buffer<u16>),
}

impl Clone for Page {
    fn clone(&self) -> Self {
        match self {
            Self::F32(elements) => Self::F32(copied(elements)),
            Self::Bf16(elements) => Self::Bf16(copied(elements)),
        }
    }
}

fn copied<T: Pod>(elements: &[T]) -> Buffer<T> {
    let mut copy = Buffer::zeroed(elements.len());
    copy.copy_from_slice(elements);
    copy
}

impl Page {
    pub(super) fn new(shape: Shape) -> Self {
        match shape.format {
            CacheFormat::F32 => Self::F32(Buffer::zeroed(shape.page())),
            CacheFormat::Bf16 => Self::Bf16(Buffer::zeroed(shape.page())),
        }
    }
}

/// Part of a page.
#[derive(Clone, Copy)]
pub(super) enum PageRef<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
}

impl PageRef<'_> {
    /// Where its bytes are.
    pub(super) fn bytes(self) -> Range<*const u8> {
        let Range { start, end } = match self {
            Self::F32(elements) => {
                elements.as_ptr_range().start.cast()..elements.as_ptr_range().end.cast()
            }
            Self::Bf16(elements) => {
                elements.as_ptr_range().start.cast()..elements.as_ptr_range().end.cast()
            }
        };
        start..end
    }
}

/// A head's keys and values in a page, to be written.
pub(super) enum PageMut<'a> {
    F32(&'a mut [f32], &'a mut [f32]),
    Bf16(&'a mut [u16], &'a mut [u16]),
}

enum PagePointer {
    F32(*mut f32),
    Bf16(*mut u16),
}

/// A row while positions are added to it, by tasks that share no head.
pub(super) struct OpenRow<'a> {
    shape: Shape,
    /// First page that may be written.
    writable: usize,
    pages: Vec<PagePointer>,
    row: PhantomData<&'a mut [Arc<Page>]>,
}

// SAFETY: the pages outlive it and are written by nobody else; `keys`' and the others' callers keep heads apart.
unsafe impl Sync for OpenRow<'_> {}

impl<'a> OpenRow<'a> {
    /// Of a row's pages, those from position `start` on may be written.
    pub(super) fn new(shape: Shape, start: usize, pages: &'a mut [Arc<Page>]) -> Self {
        let pages = pages.iter_mut().enumerate().map(|(number, page)| {
            if (number + 1) * PAGE > start {
                // Others may look at the page, too: they keep the old one.
                match Arc::make_mut(page) {
                    Page::F32(elements) => PagePointer::F32(elements.as_mut_ptr()),
                    Page::Bf16(elements) => PagePointer::Bf16(elements.as_mut_ptr()),
                }
            } else {
                match &**page {
                    Page::F32(elements) => PagePointer::F32(elements.as_ptr().cast_mut()),
                    Page::Bf16(elements) => PagePointer::Bf16(elements.as_ptr().cast_mut()),
                }
            }
        });
        Self {
            shape,
            writable: start / PAGE,
            pages: pages.collect(),
            row: PhantomData,
        }
    }
}

impl OpenRow<'_> {
    /// A head's keys `[channels, PAGE]` in page `page` of `layer`.
    ///
    /// # Safety
    ///
    /// While it is used nobody writes this head's part of the layer.
    pub(super) unsafe fn keys(&self, layer: usize, head: usize, page: usize) -> PageRef<'_> {
        // SAFETY: the caller's.
        unsafe { self.read(self.first(layer, head), page) }
    }

    /// A head's values `[PAGE, channels]`.
    ///
    /// # Safety
    ///
    /// As for `keys`.
    pub(super) unsafe fn values(&self, layer: usize, head: usize, page: usize) -> PageRef<'_> {
        // SAFETY: the caller's.
        unsafe { self.read(self.first(layer, head) + self.shape.head_elements(), page) }
    }

    /// A head's keys and values, to be written at positions from the row's start on.
    ///
    /// # Safety
    ///
    /// While they are used nobody else reads or writes this head's part of the layer.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn store(&self, layer: usize, head: usize, page: usize) -> PageMut<'_> {
        assert!(page >= self.writable);
        let (first, count) = (self.first(layer, head), self.shape.head_elements());
        // SAFETY: `first` and `count` are inside of every page, which was made writable; the caller keeps heads apart.
        unsafe {
            match self.pages[page] {
                PagePointer::F32(start) => {
                    let both = std::slice::from_raw_parts_mut(start.add(first), 2 * count);
                    let (keys, values) = both.split_at_mut(count);
                    PageMut::F32(keys, values)
                }
                PagePointer::Bf16(start) => {
                    let both = std::slice::from_raw_parts_mut(start.add(first), 2 * count);
                    let (keys, values) = both.split_at_mut(count);
                    PageMut::Bf16(keys, values)
                }
            }
        }
    }

    fn first(&self, layer: usize, head: usize) -> usize {
        assert!(layer < self.shape.layers && head < self.shape.heads);
        2 * (layer * self.shape.heads + head) * self.shape.head_elements()
    }

    unsafe fn read(&self, first: usize, page: usize) -> PageRef<'_> {
        let count = self.shape.head_elements();
        // SAFETY: `first` and `count` are inside of every page; the caller keeps writers away.
        unsafe {
            match self.pages[page] {
                PagePointer::F32(start) => {
                    PageRef::F32(std::slice::from_raw_parts(start.add(first), count))
                }
                PagePointer::Bf16(start) => {
                    PageRef::Bf16(std::slice::from_raw_parts(start.add(first), count))
                }
            }
        }
    }
}
