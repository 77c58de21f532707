//! How many workers there are: the scalers, the idle timeout, the traps of an endpoint that nobody asks.

use super::workers::Worker;
use super::{DAY, Millis, Order, Platform, Scaler, Status, WorkerId, WorkerState};

/// Without a request for so long, two workers are the most there may be.
const FIRST_TRAP: Millis = 3 * DAY;
/// And for so long, none.
const LAST_TRAP: Millis = 7 * DAY;
/// Workers that may stand by beside those allowed: their image is on a host already.
const EXTRA: usize = 2;

impl Platform {
    pub(super) fn spring_traps(&mut self, now: Millis) {
        let silent = now.saturating_sub(self.touched);
        let left = if silent >= LAST_TRAP {
            0
        } else if silent >= FIRST_TRAP {
            2
        } else {
            return;
        };
        self.trapped = Some(self.trapped.unwrap_or(u32::MAX).min(left));
    }

    /// Whatever a worker does by itself as time passes.
    pub(super) fn advance_workers(&mut self, now: Millis) {
        let ids: Vec<WorkerId> = self.workers.keys().copied().collect();
        for id in ids {
            let worker = &self.workers[&id];
            let lasted = now.saturating_sub(worker.since);
            match worker.state {
                WorkerState::Initializing if lasted >= self.settings.pull => self.bring_up(now, id),
                WorkerState::Throttled if !self.faults.throttled => self.bring_up(now, id),
                WorkerState::Unhealthy if lasted >= self.settings.unhealthy => {
                    self.workers.remove(&id);
                }
                WorkerState::Running => self.look_after(now, id),
                WorkerState::Initializing | WorkerState::Throttled | WorkerState::Unhealthy | WorkerState::Idle => {}
            }
        }
        self.dismiss_surplus();
    }

    /// Ends those who never became ready and those who fell silent; sends those to rest who had nothing to do.
    fn look_after(&mut self, now: Millis, id: WorkerId) {
        let wanted = self.wanted_by_count();
        let up = self.up().len();
        let worker = &self.workers[&id];
        if worker.stopping {
            return;
        }
        let late = !worker.ready && worker.since + self.settings.init_timeout <= now;
        let silent = self.settings.ping_patience.is_some_and(|patience| worker.heard + patience <= now);
        if late || (silent && !worker.jobs.is_empty()) {
            // Not told to end: it counts as failed.
            self.orders.push(Order::Kill(id));
            return;
        }
        let rested = worker.idle.is_some_and(|since| since + self.settings.idle_timeout <= now);
        let kept = up <= self.settings.workers_min as usize || wanted.is_some_and(|wanted| up <= wanted);
        if worker.jobs.is_empty() && rested && !kept {
            self.send_to_rest(now, id);
        }
    }

    fn send_to_rest(&mut self, now: Millis, id: WorkerId) {
        let flashboot = self.settings.flashboot;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if flashboot {
            worker.enter(now, WorkerState::Idle);
            worker.taking = None;
            self.witness.stopped(id, now);
            self.orders.push(Order::Freeze(id));
        } else {
            worker.stopping = true;
            self.orders.push(Order::Terminate(id));
        }
    }

    /// More than may be: those without work go, and those who stand by beyond the extra ones.
    fn dismiss_surplus(&mut self) {
        let most = self.workers_max() as usize;
        let mut surplus = self.up().len().saturating_sub(most);
        let mut orders = Vec::new();
        for worker in self.workers.values_mut() {
            if surplus > 0 && worker.is_up() && worker.jobs.is_empty() && !worker.stopping {
                worker.stopping = true;
                orders.push(Order::Terminate(worker.id));
                surplus -= 1;
            }
        }
        let standing_by =
            self.workers.values().filter(|worker| worker.state == WorkerState::Idle).map(|worker| worker.id);
        let standing_by: Vec<WorkerId> = standing_by.collect();
        for id in standing_by.iter().take(standing_by.len().saturating_sub(most + EXTRA)) {
            if self.workers.remove(id).is_some_and(|worker| worker.process) {
                orders.push(Order::Kill(*id));
            }
        }
        self.orders.extend(orders);
    }

    fn wanted_by_count(&self) -> Option<usize> {
        match self.settings.scaler {
            Scaler::QueueDelay(_) => None,
            Scaler::RequestCount(each) => {
                let open = self.count(Status::InQueue) + self.count(Status::InProgress);
                Some(open.div_ceil(each as usize))
            }
        }
    }

    /// Starts what is missing.
    pub(super) fn scale(&mut self, now: Millis) {
        let places = |worker: &&Worker| worker.state != WorkerState::Idle;
        let placed = self.workers.values().filter(places).count();
        let coming = self.workers.values().filter(places).filter(|worker| worker.is_coming(now)).count();
        let missing = match self.settings.scaler {
            Scaler::QueueDelay(delay) => self.pressing(now, delay).saturating_sub(coming),
            Scaler::RequestCount(_) => self.wanted_by_count().unwrap_or(0).saturating_sub(placed),
        };
        let least = (self.settings.workers_min as usize).saturating_sub(placed);
        let room = (self.workers_max() as usize).saturating_sub(placed);
        for _ in 0..missing.max(least).min(room) {
            self.start_one(now);
        }
    }

    /// A frozen one, or one whose image is there, or a new one.
    fn start_one(&mut self, now: Millis) {
        let standing_by = self.workers.values().filter(|worker| worker.state == WorkerState::Idle);
        let id = standing_by.max_by_key(|worker| worker.process).map(|worker| worker.id);
        if let Some(id) = id {
            return self.bring_up(now, id);
        }
        self.hired += 1;
        let id = WorkerId(self.hired);
        self.workers.insert(id, Worker::new(id, now));
        if self.settings.pull == 0 {
            self.bring_up(now, id);
        }
    }

    /// Its process runs from now on, if its host has a GPU free.
    fn bring_up(&mut self, now: Millis, id: WorkerId) {
        let throttled = self.faults.throttled;
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if throttled {
            worker.enter(now, WorkerState::Throttled);
            return;
        }
        if worker.process {
            worker.woke(now);
            self.orders.push(Order::Thaw(id));
        } else {
            (worker.process, worker.ready, worker.stopping, worker.idle) = (true, false, false, None);
            self.orders.push(Order::Start(id));
        }
        worker.enter(now, WorkerState::Running);
        self.witness.started(id, now);
    }
}
