//! Memory for weights: aligned to cache lines.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Registers and cache lines of 64 bytes never straddle two lines.
const LINE: usize = 64;
/// From here on a buffer is made of large pages, where the system has them: a product streams through its weights, and
/// looking up small pages takes its share of the time.
const LARGE_PAGE: usize = 2 << 20;
/// Memory that is taken at a time for buffers of weights.
const CHUNK: usize = 32 << 20;

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
    /// What it was cut from; otherwise its memory is its own.
    chunk: Option<Arc<Chunk>>,
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
        Self {
            start,
            length,
            chunk: None,
        }
    }

    /// As `zeroed`, for what is kept together, as a model's weights are: small ones have large pages, too, because they are
    /// cut from the same memory. It goes when the last of them does.
    pub(crate) fn together(length: usize) -> Self {
        match Layout::array::<T>(length) {
            Ok(layout) if layout.size() > 0 => {
                let (start, chunk) = Chunk::cut(layout.size());
                Self {
                    start: start.cast(),
                    length,
                    chunk: Some(chunk),
                }
            }
            _ => Self::zeroed(length),
        }
    }
}

/// Memory that is cut into buffers, one behind the other. None is used twice.
struct Chunk {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory, and itself looks at none of it.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// `size` zero bytes from the beginning of a cache line on, and what they are part of.
    fn cut(size: usize) -> (NonNull<u8>, Arc<Self>) {
        /// The chunk that may have room left, and how much of it is taken.
        static LATEST: Mutex<(Weak<Chunk>, usize)> = Mutex::new((Weak::new(), 0));
        let size = size.next_multiple_of(LINE);
        let mut latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
        let (chunk, taken) = match latest.0.upgrade() {
            Some(chunk) if size <= chunk.layout.size() - latest.1 => (chunk, latest.1),
            _ => (Arc::new(Self::new(size)), 0),
        };
        // SAFETY: so much is left of the chunk.
        let start = unsafe { chunk.start.add(taken) };
        *latest = (Arc::downgrade(&chunk), taken + size);
        (start, chunk)
    }

    fn new(least: usize) -> Self {
        let size = least.max(CHUNK).next_multiple_of(LARGE_PAGE);
        let layout = Layout::from_size_align(size, LINE)
            .unwrap_or_else(|_| handle_alloc_error(Layout::new::<u8>()));
        Self {
            start: pages::take(layout),
            layout,
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: as taken in `new`, and no buffer has a part of it any more.
        unsafe { pages::give_back(self.start, self.layout) };
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

    use super::LARGE_PAGE;

    /// The largest of what systems call a page: what is given back begins at one.
    const SMALL_PAGE: usize = 64 << 10;

    /// From the system, which gives zeros, and no page before it is written: by whichever thread packs it, and large ones,
    /// from the beginning of one on.
    pub(super) fn take(layout: Layout) -> NonNull<u8> {
        // SAFETY: asks for memory of its own, of which it gives back what stands before the first large page and behind the
        // layout; a hint for just what is left.
        let start = unsafe {
            let size = layout.size().next_multiple_of(SMALL_PAGE);
            let start = libc::mmap(
                null_mut(),
                size + LARGE_PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if start == libc::MAP_FAILED {
                handle_alloc_error(layout);
            }
            let before = start.addr().next_multiple_of(LARGE_PAGE) - start.addr();
            let (first, end) = (start.byte_add(before), start.byte_add(before + size));
            if before > 0 {
                libc::munmap(start, before);
            }
            if before < LARGE_PAGE {
                libc::munmap(end, LARGE_PAGE - before);
            }
            libc::madvise(first, size, libc::MADV_HUGEPAGE);
            first
        };
        NonNull::new(start.cast()).unwrap_or_else(|| handle_alloc_error(layout))
    }

    /// # Safety
    /// `start` must come from `take` with the same layout.
    pub(super) unsafe fn give_back(start: NonNull<u8>, layout: Layout) {
        let size = layout.size().next_multiple_of(SMALL_PAGE);
        // SAFETY: mapped with this size, and nobody has it any more.
        unsafe { libc::munmap(start.as_ptr().cast(), size) };
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
        if self.chunk.is_some() {
            return;
        }
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

    #[test]
    fn buffers_that_are_kept_together_share_nothing_and_outlive_each_other() {
        let mut buffers: Vec<_> = [3, CHUNK / 8, 0, CHUNK, 2 * CHUNK + 1, 5]
            .into_iter()
            .map(Buffer::<u16>::together)
            .collect();
        for (number, buffer) in (1..).zip(&mut buffers) {
            assert!(buffer.iter().all(|&x| x == 0));
            assert!(buffer.is_empty() || buffer.as_ptr().addr().is_multiple_of(LINE));
            buffer.fill(number);
        }
        while let Some(last) = buffers.pop() {
            let number = buffers.len() as u16 + 1;
            assert!(last.iter().all(|&x| x == number));
        }
        assert!(Buffer::<u16>::together(9).iter().all(|&x| x == 0));
    }
}
