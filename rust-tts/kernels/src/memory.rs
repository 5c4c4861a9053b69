//! Buffers for weights: aligned to cache lines, large ones on large pages.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Alignment with which no vector register of 64 bytes straddles two cache lines.
const CACHE_LINE: usize = 64;
/// Buffers from this size on are of large pages, where the system has them: a product streams through its weights, and the TLB
/// misses of small pages cost time.
const LARGE_PAGE: usize = 2 << 20;
/// Bytes of an arena.
const ARENA: usize = 32 << 20;

/// Plain numbers.
///
/// # Safety
/// All bits zero, and any other bits, make a value.
pub(crate) unsafe trait Pod: Copy + Send + Sync {}
// SAFETY: numbers.
unsafe impl Pod for f32 {}
// SAFETY: numbers.
unsafe impl Pod for i32 {}
// SAFETY: numbers.
unsafe impl Pod for u32 {}
// SAFETY: numbers.
unsafe impl Pod for u16 {}
// SAFETY: numbers.
unsafe impl Pod for i8 {}
// SAFETY: numbers.
unsafe impl Pod for u8 {}

/// A slice of a fixed length, zeros at first.
pub(crate) struct Buffer<T: Pod> {
    start: NonNull<T>,
    length: usize,
    /// Where it was allocated; `None` if its memory is its own.
    arena: Option<Arc<Arena>>,
}

// SAFETY: it owns its elements, which are `Send` and `Sync`.
unsafe impl<T: Pod> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Pod> Sync for Buffer<T> {}

impl<T: Pod> Buffer<T> {
    /// Aborts if there is not that much memory.
    pub(crate) fn zeroed(length: usize) -> Self {
        let start = match Layout::array::<T>(length) {
            Ok(layout) if layout.size() == 0 => NonNull::dangling(),
            Ok(layout) if layout.size() >= LARGE_PAGE => pages::map(layout).cast(),
            Ok(layout) => {
                let layout = cache_aligned(layout);
                // SAFETY: the layout's size is not zero.
                let start = unsafe { alloc_zeroed(layout) };
                NonNull::new(start.cast()).unwrap_or_else(|| handle_alloc_error(layout))
            }
            Err(_) => handle_alloc_error(Layout::new::<T>()),
        };
        Self {
            start,
            length,
            arena: None,
        }
    }

    /// As `zeroed`, from an arena, for buffers that live together, as a model's weights do: small ones are on large pages too.
    /// The memory is freed with the last of them.
    pub(crate) fn in_arena(length: usize) -> Self {
        match Layout::array::<T>(length) {
            Ok(layout) if layout.size() > 0 => {
                let (start, arena) = Arena::allocate(layout.size());
                Self {
                    start: start.cast(),
                    length,
                    arena: Some(arena),
                }
            }
            _ => Self::zeroed(length),
        }
    }
}

/// A bump allocator: no part is used twice.
struct Arena {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns its memory and never reads it.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// `size` zero bytes, aligned to a cache line, and their arena.
    fn allocate(size: usize) -> (NonNull<u8>, Arc<Self>) {
        /// The arena that may have room left, and how much of it is used.
        static CURRENT: Mutex<(Weak<Arena>, usize)> = Mutex::new((Weak::new(), 0));
        let size = size.next_multiple_of(CACHE_LINE);
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        let (arena, used) = match current.0.upgrade() {
            Some(arena) if size <= arena.layout.size() - current.1 => (arena, current.1),
            _ => (Arc::new(Self::new(size)), 0),
        };
        // SAFETY: so much is left of the arena.
        let start = unsafe { arena.start.add(used) };
        *current = (Arc::downgrade(&arena), used + size);
        (start, arena)
    }

    fn new(least: usize) -> Self {
        let size = least.max(ARENA).next_multiple_of(LARGE_PAGE);
        let layout = Layout::from_size_align(size, CACHE_LINE)
            .unwrap_or_else(|_| handle_alloc_error(Layout::new::<u8>()));
        Self {
            start: pages::map(layout),
            layout,
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: as mapped in `new`, and no buffer has a part of it any more.
        unsafe { pages::unmap(self.start, self.layout) };
    }
}

/// `layout`, aligned to a cache line.
fn cache_aligned(layout: Layout) -> Layout {
    layout.align_to(CACHE_LINE).unwrap_or(layout)
}

/// Large buffers.
#[cfg(target_os = "linux")]
mod pages {
    use std::alloc::{Layout, handle_alloc_error};
    use std::ptr::{NonNull, null_mut};

    use super::LARGE_PAGE;

    /// The largest page size of systems without large pages: what is unmapped begins at a multiple of it.
    const SMALL_PAGE: usize = 64 << 10;

    /// Maps zeroed memory, aligned to large pages. The system provides each page when it is first written, by the thread that
    /// packs it.
    pub(super) fn map(layout: Layout) -> NonNull<u8> {
        // SAFETY: maps new memory, and unmaps the parts of it before the first large page and behind the layout; the hint is
        // for what remains.
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
    /// `start` must come from `map` with the same layout.
    pub(super) unsafe fn unmap(start: NonNull<u8>, layout: Layout) {
        let size = layout.size().next_multiple_of(SMALL_PAGE);
        // SAFETY: mapped with this size, and no longer in use.
        unsafe { libc::munmap(start.as_ptr().cast(), size) };
    }
}

/// Large buffers.
#[cfg(not(target_os = "linux"))]
mod pages {
    use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
    use std::ptr::NonNull;

    pub(super) fn map(layout: Layout) -> NonNull<u8> {
        let layout = super::cache_aligned(layout);
        // SAFETY: large, so not empty.
        let start = unsafe { alloc_zeroed(layout) };
        NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout))
    }

    /// # Safety
    /// `start` must come from `map` with the same layout.
    pub(super) unsafe fn unmap(start: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { dealloc(start.as_ptr(), super::cache_aligned(layout)) };
    }
}

impl<T: Pod> Default for Buffer<T> {
    fn default() -> Self {
        Self::zeroed(0)
    }
}

impl<T: Pod> Drop for Buffer<T> {
    fn drop(&mut self) {
        if self.arena.is_some() {
            return;
        }
        let layout = Layout::for_value(&**self);
        // SAFETY: as allocated in `zeroed`.
        unsafe {
            if layout.size() >= LARGE_PAGE {
                pages::unmap(self.start.cast(), layout);
            } else if layout.size() > 0 {
                dealloc(self.start.as_ptr().cast(), cache_aligned(layout));
            }
        }
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `length` elements that were written (with zeros) when they were allocated.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_buffers_are_aligned_and_zeroed() {
        for length in [0, 1, 1000, LARGE_PAGE, LARGE_PAGE + 3] {
            let mut buffer = Buffer::<u16>::zeroed(length);
            assert!(buffer.len() == length && buffer.iter().all(|&x| x == 0));
            assert!(length == 0 || buffer.as_ptr().addr().is_multiple_of(CACHE_LINE));
            buffer.fill(7);
            assert!(buffer.iter().all(|&x| x == 7));
        }
    }

    #[test]
    fn test_arena_buffers_are_disjoint_and_outlive_each_other() {
        let mut buffers: Vec<_> = [3, ARENA / 8, 0, ARENA, 2 * ARENA + 1, 5]
            .into_iter()
            .map(Buffer::<u16>::in_arena)
            .collect();
        for (number, buffer) in (1..).zip(&mut buffers) {
            assert!(buffer.iter().all(|&x| x == 0));
            assert!(buffer.is_empty() || buffer.as_ptr().addr().is_multiple_of(CACHE_LINE));
            buffer.fill(number);
        }
        while let Some(last) = buffers.pop() {
            let number = buffers.len() as u16 + 1;
            assert!(last.iter().all(|&x| x == number));
        }
        assert!(Buffer::<u16>::in_arena(9).iter().all(|&x| x == 0));
    }
}
