//! Sampled tokens on their way to the host.

use std::collections::VecDeque;

use selvedge_cuda::{Buffer, Device, Readback};

use crate::backend::checks::misuse;
use crate::backend::{Result, Ticket};

/// Steps whose tokens are kept until somebody asks for them.
const KEPT: usize = 64;

/// Tokens of the latest steps, and pinned memory that waits to be used again.
#[derive(Default)]
pub(super) struct Tokens {
    under_way: VecDeque<(Ticket, Readback)>,
    idle: Vec<Readback>,
}

impl Tokens {
    /// Queues a copy of a step's `count` tokens; gives the number of objects made for it.
    pub fn start(&mut self, device: &Device, ticket: Ticket, results: &Buffer, count: usize) -> Result<u64> {
        if self.under_way.len() == KEPT
            && let Some((_, oldest)) = self.under_way.pop_front()
        {
            self.idle.push(oldest);
        }
        let fits = self.idle.iter().position(|readback| readback.capacity() >= count);
        let (mut readback, made) = match fits {
            Some(index) => (self.idle.swap_remove(index), 0),
            None => (Readback::new(device, count.next_power_of_two())?, 1),
        };
        readback.start(device, results, count)?;
        self.under_way.push_back((ticket, readback));
        Ok(made)
    }

    /// Waits for a step's tokens.
    pub fn take(&mut self, ticket: Ticket) -> Result<Vec<u32>> {
        let place = self.under_way.iter().position(|(other, _)| *other == ticket);
        let Some((_, mut readback)) = place.and_then(|place| self.under_way.remove(place)) else {
            return misuse(format!("step {} gave no tokens, or they were read or are too old", ticket.0));
        };
        let tokens = readback.wait().map(<[u32]>::to_vec);
        self.idle.push(readback);
        Ok(tokens?)
    }
}
