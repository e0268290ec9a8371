//! Allocation of the global pools' pages.

/// No page is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {total} pages of the KV pool are in use; end a conversation or load with a larger context")]
pub struct PagesExhausted {
    /// Pages there are.
    pub total: usize,
}

/// Reference-counted pages. A full page never changes, so several slots may hold it.
#[derive(Clone, Debug)]
pub struct PageAllocator {
    holders: Vec<u32>,
    free: Vec<u32>,
}

impl PageAllocator {
    /// `pages` free pages.
    pub fn new(pages: usize) -> Self {
        Self { holders: vec![0; pages], free: (0..pages as u32).rev().collect() }
    }

    /// Takes a free page.
    pub fn take(&mut self) -> Result<u32, PagesExhausted> {
        let page = self.free.pop().ok_or_else(|| self.exhausted())?;
        self.holders[page as usize] = 1;
        Ok(page)
    }

    /// One more slot holds the page.
    pub fn share(&mut self, page: u32) {
        debug_assert!(self.holders[page as usize] > 0, "page {page} is free");
        self.holders[page as usize] += 1;
    }

    /// One slot fewer holds the page.
    pub fn release(&mut self, page: u32) {
        let holders = &mut self.holders[page as usize];
        debug_assert!(*holders > 0, "page {page} is free already");
        *holders -= 1;
        if *holders == 0 {
            self.free.push(page);
        }
    }

    /// The error of having too few.
    pub fn exhausted(&self) -> PagesExhausted {
        PagesExhausted { total: self.holders.len() }
    }

    /// Free pages.
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
}
