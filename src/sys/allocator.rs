//! The system's allocator, with a count of what it was asked for.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts each thread's allocations, at the price of an increment. A program makes it its own:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: pushv::sys::allocator::Counting = pushv::sys::allocator::Counting;
///
/// let before = pushv::sys::allocator::allocations();
/// let _boxed = Box::new(7);
/// assert_eq!(pushv::sys::allocator::allocations(), before + 1);
/// ```
#[derive(Debug)]
pub struct Counting;

thread_local! {
    // It needs no initialisation and no destructor, so counting never allocates itself.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Blocks of memory that the calling thread has asked for since it began, growing ones included; 0
/// if the program has another allocator.
pub fn allocations() -> u64 {
    ALLOCATIONS.try_with(Cell::get).unwrap_or(0)
}

fn count() {
    // A thread that is ending has none any more.
    let _counted = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every method hands its arguments to the system's allocator and adds nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}
