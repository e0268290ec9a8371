//! Allocation of the global pools' pages.

/// No page is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {total} pages of the KV pool are in use; end a conversation or load with a larger context")]
pub struct PagesExhausted {
    /// Pages there are.
    pub total: usize,
}

/// Pages, each counted by its holders: slots and checkpoints.
///
/// A holder sees the rows of a page up to its own position and never changes those. Whoever comes first writes on in a
/// page behind the rows that are filled; whoever comes later, or has gone back, copies the page first
/// ([`may_write`](Self::may_write)). So a page never changes under a holder, and a sequence that nobody shares copies nothing.
#[derive(Clone, Debug)]
pub struct PageAllocator {
    pages: Vec<Page>,
    free: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Page {
    holders: u32,
    /// Rows written by any holder.
    filled: usize,
}

impl PageAllocator {
    /// `pages` free pages.
    pub fn new(pages: usize) -> Self {
        Self { pages: vec![Page::default(); pages], free: (0..pages as u32).rev().collect() }
    }

    /// Takes a free page.
    pub fn take(&mut self) -> Result<u32, PagesExhausted> {
        let page = self.free.pop().ok_or_else(|| self.exhausted())?;
        self.pages[page as usize] = Page { holders: 1, filled: 0 };
        Ok(page)
    }

    /// One more holder of the page.
    pub fn share(&mut self, page: u32) {
        debug_assert!(self.pages[page as usize].holders > 0, "page {page} is free");
        self.pages[page as usize].holders += 1;
    }

    /// One holder of the page fewer.
    pub fn release(&mut self, page: u32) {
        let holders = &mut self.pages[page as usize].holders;
        debug_assert!(*holders > 0, "page {page} is free already");
        *holders -= 1;
        if *holders == 0 {
            self.free.push(page);
        }
    }

    /// Whether a holder may write the rows from `from` on; false where it must copy the page first.
    pub fn may_write(&self, page: u32, from: usize) -> bool {
        let page = &self.pages[page as usize];
        page.holders == 1 || page.filled <= from
    }

    /// Notes that rows up to `to` are written.
    pub fn fill(&mut self, page: u32, to: usize) {
        self.pages[page as usize].filled = to;
    }

    /// The error of having too few.
    pub fn exhausted(&self) -> PagesExhausted {
        PagesExhausted { total: self.pages.len() }
    }

    /// Count of free pages.
    pub fn available(&self) -> usize {
        self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_page_is_free_only_after_its_last_holder() {
        let mut pages = PageAllocator::new(2);
        let first = pages.take().expect("a free page");
        pages.share(first);
        pages.release(first);
        assert_eq!(pages.available(), 1);
        pages.release(first);
        assert_eq!(pages.available(), 2);
        pages.take().expect("a free page");
        pages.take().expect("a free page");
        assert_eq!(pages.take(), Err(PagesExhausted { total: 2 }));
    }

    #[test]
    fn who_comes_first_writes_on_in_a_shared_page() {
        let mut pages = PageAllocator::new(1);
        let page = pages.take().expect("a free page");
        pages.fill(page, 10);
        assert!(pages.may_write(page, 4), "alone, it may go back");
        pages.share(page);
        assert!(pages.may_write(page, 10) && !pages.may_write(page, 9));
        pages.fill(page, 12);
        assert!(!pages.may_write(page, 10), "another one was first");
        pages.release(page);
        assert!(pages.may_write(page, 10));
    }
}
