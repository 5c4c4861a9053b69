//! Memory for weights: aligned to cache lines.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Registers and cache lines of 64 bytes never straddle two lines.
const LINE: usize = 64;
/// From here on a buffer is made of large pages, where the system has them: a product streams through its weights, and
/// looking up small pages takes its share of the time.
const LARGE_PAGE: usize = 2 << 20;

/// Numbers that are valid whatever their bits are.
///
/// # Safety
/// All bits zero, and any other bits, make a value.
pub(crate) unsafe trait Plain: Copy + Send + Sync {}
// SAFETY: numbers.
unsafe impl Plain for f32 {}
// SAFETY: numbers.
unsafe impl Plain for i32 {}
// SAFETY: numbers.
unsafe impl Plain for u32 {}
// SAFETY: numbers.
unsafe impl Plain for u16 {}
// SAFETY: numbers.
unsafe impl Plain for i8 {}
// SAFETY: numbers.
unsafe impl Plain for u8 {}

/// A slice of a fixed length, zeros at first.
pub(crate) struct Buffer<T: Plain> {
    start: NonNull<T>,
    length: usize,
}

// SAFETY: it owns its elements, which are `Send` and `Sync`.
unsafe impl<T: Plain> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Plain> Sync for Buffer<T> {}

impl<T: Plain> Buffer<T> {
    /// Aborts if there is not that much memory.
    pub(crate) fn zeroed(length: usize) -> Self {
        let start = match Layout::array::<T>(length) {
            Ok(layout) if layout.size() == 0 => NonNull::dangling(),
            Ok(layout) if layout.size() >= LARGE_PAGE => pages::take(layout).cast(),
            Ok(layout) => {
                let layout = lines(layout);
                // SAFETY: the layout's size is not zero.
                let start = unsafe { alloc_zeroed(layout) };
                NonNull::new(start.cast()).unwrap_or_else(|| handle_alloc_error(layout))
            }
            Err(_) => handle_alloc_error(Layout::new::<T>()),
        };
        Self { start, length }
    }
}

/// `layout` in whole cache lines.
fn lines(layout: Layout) -> Layout {
    layout.align_to(LINE).unwrap_or(layout)
}

/// Large buffers.
#[cfg(target_os = "linux")]
mod pages {
    use std::alloc::{Layout, handle_alloc_error};
    use std::ptr::{NonNull, null_mut};

    /// From the system, which gives zeros, and no page before it is written: by whichever thread packs it, and large ones.
    pub(super) fn take(layout: Layout) -> NonNull<u8> {
        // SAFETY: asks for memory of its own; a hint for just that memory.
        let start = unsafe {
            let start = libc::mmap(
                null_mut(),
                layout.size(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if start == libc::MAP_FAILED {
                handle_alloc_error(layout);
            }
            libc::madvise(start, layout.size(), libc::MADV_HUGEPAGE);
            start
        };
        NonNull::new(start.cast()).unwrap_or_else(|| handle_alloc_error(layout))
    }

    /// # Safety
    /// `start` must come from `take` with the same layout.
    pub(super) unsafe fn give_back(start: NonNull<u8>, layout: Layout) {
        // SAFETY: mapped with this size, and nobody has it any more.
        unsafe { libc::munmap(start.as_ptr().cast(), layout.size()) };
    }
}

/// Large buffers.
#[cfg(not(target_os = "linux"))]
mod pages {
    use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
    use std::ptr::NonNull;

    pub(super) fn take(layout: Layout) -> NonNull<u8> {
        let layout = super::lines(layout);
        // SAFETY: large, so not empty.
        let start = unsafe { alloc_zeroed(layout) };
        NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout))
    }

    /// # Safety
    /// `start` must come from `take` with the same layout.
    pub(super) unsafe fn give_back(start: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { dealloc(start.as_ptr(), super::lines(layout)) };
    }
}

impl<T: Plain> Default for Buffer<T> {
    fn default() -> Self {
        Self::zeroed(0)
    }
}

impl<T: Plain> Drop for Buffer<T> {
    fn drop(&mut self) {
        let layout = Layout::for_value(&**self);
        // SAFETY: as allocated in `zeroed`.
        unsafe {
            if layout.size() >= LARGE_PAGE {
                pages::give_back(self.start.cast(), layout);
            } else if layout.size() > 0 {
                dealloc(self.start.as_ptr().cast(), lines(layout));
            }
        }
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `length` elements that were written (with zeros) when they were allocated.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_zeros_to_write() {
        for length in [0, 1, 1000, LARGE_PAGE, LARGE_PAGE + 3] {
            let mut buffer = Buffer::<u16>::zeroed(length);
            assert!(buffer.len() == length && buffer.iter().all(|&x| x == 0));
            assert!(length == 0 || buffer.as_ptr().addr().is_multiple_of(LINE));
            buffer.fill(7);
            assert!(buffer.iter().all(|&x| x == 7));
        }
    }
}
