//! Memory that the tasks of a pool write at the same time, each in a place of its own.

use std::marker::PhantomData;

/// A slice that tasks write, each an own part of it.
pub(crate) struct SharedSlice<'a, T> {
    start: *mut T,
    length: usize,
    whole: PhantomData<&'a mut [T]>,
}

// SAFETY: it hands out what a `&mut [T]` does, and `slice`'s callers keep the parts apart.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            length: slice.len(),
            whole: PhantomData,
        }
    }

    /// The `count` elements from `first` on, which must be inside of the slice.
    ///
    /// # Safety
    ///
    /// Parts that exist at the same time must not overlap.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice(&self, first: usize, count: usize) -> &mut [T] {
        assert!(first <= self.length && count <= self.length - first);
        // SAFETY: inside of the slice, which is borrowed for `'a`; the caller keeps parts apart.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), count) }
    }

    /// The address of the element at `index`, which must be inside of the slice.
    pub(crate) fn pointer(&self, index: usize) -> *mut T {
        assert!(index < self.length);
        self.start.wrapping_add(index)
    }
}
