//! How this worker reaches its two servers, so that each thread can make connections of its own.

use reqwest::Url;

use crate::clock::Clock;
use crate::control::Control;
use crate::net;
use crate::queue::{Queue, QueueSettings};
use crate::timing::Timing;

/// Addresses, credentials and the shared clock.
#[derive(Clone)]
pub(crate) struct Connect {
    pub(crate) control_url: Url,
    pub(crate) queue: QueueSettings,
    pub(crate) clock: Clock,
}

impl Connect {
    /// A new client of the control plane.
    pub(crate) fn control(&self, timing: &Timing) -> Result<Control, reqwest::Error> {
        Ok(Control::new(net::client()?, self.control_url.clone(), self.clock.clone(), timing))
    }

    /// A new client of the queue.
    pub(crate) fn queue(&self, timing: &Timing) -> Queue {
        Queue::new(&self.queue, &self.clock, timing)
    }
}
