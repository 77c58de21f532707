//! What each stage does with a frame, from one queue to the next.

use std::sync::atomic::{AtomicU64, Ordering};

use super::eye::Eye;
use super::outlet::{FinishedPart, Outlet};
use super::queue::Queue;
use super::stretch::{Crossing, Stretch};
use super::supervise::StageEnd;
use super::{Budget, Made, Queues};
use crate::carried::Carrier;
use crate::decode::Decoder;
use crate::error::EngineError;
use crate::finish::Finisher;
use crate::frame::{Frame, Size};
use crate::model::Matter;
use crate::refine::{LOOK_AHEAD, Refiner};

/// Decodes a stretch and the frames behind it that are looked at.
pub(super) fn decode(
    mut decoder: Decoder,
    mut eye: Option<Eye>,
    budget: Option<Budget>,
    stretch: &Stretch<'_>,
    alive: &AtomicU64,
    queues: &Queues,
) -> Result<(), StageEnd> {
    while decoder.passes_over() {
        let Some(mut frame) = queues.free.pop()? else { break };
        decoder.read(frame.yuv_mut())?;
        alive.fetch_add(1, Ordering::Relaxed);
        queues.free.push(frame)?;
    }
    // None while the stretch goes on.
    let mut left = None;
    for number in stretch.decoded_from().. {
        let Some(mut frame) = queues.free.pop()? else { break };
        if left == Some(0) || !decoder.read(frame.yuv_mut())? {
            break;
        }
        if let Some(budget) = budget.filter(|budget| number >= budget.frames) {
            return Err(EngineError::BeyondPaidLength { paid_seconds: budget.paid_seconds }.into());
        }
        let crossing = if left.is_none() { stretch.crossing(number) } else { Crossing::Inside };
        if crossing == Crossing::End {
            left = Some(LOOK_AHEAD as u64 + 1);
        }
        left = left.map(|left| left - 1);
        frame.number = number;
        frame.border = eye.as_ref().and_then(|eye| eye.border(crossing));
        let ready = match &mut eye {
            Some(eye) => eye.look(frame, stretch)?,
            None => Some(frame),
        };
        if let Some(frame) = ready {
            queues.decoded.push(frame)?;
        }
    }
    if let Some(last) = eye.map(Eye::close).transpose()?.flatten() {
        queues.decoded.push(last)?;
    }
    queues.decoded.close();
    Ok(())
}

/// Runs the model. Groups are counted from a scene's first frame, or a segment's: which frames are together never hangs
/// on who was quicker, nor on where an earlier attempt ended.
pub(super) fn model(
    matter: &mut dyn Matter,
    picture: Size,
    decoded: &Queue<Frame>,
    next: &Queue<Frame>,
) -> Result<(), StageEnd> {
    let mut group = Vec::new();
    // Whether the group is a scene's beginning, which is rehearsed; that looks beyond a border.
    let mut is_opening = false;
    while let Some(frame) = decoded.pop()? {
        if frame.starts_scene || (frame.border.is_some() && !is_opening) {
            work_off(&mut group, &mut is_opening, matter, picture, next)?;
        }
        if frame.starts_scene {
            matter.forget();
            is_opening = matter.rehearsal() > 0;
        }
        let turn = frame.turn;
        group.push(frame);
        let is_whole = match turn {
            Some(turn) if matter.takes_turns() => turn.sees_whole(),
            Some(_) if is_opening => group.len() >= matter.rehearsal(),
            Some(_) => matter.every() > 1 || group.len() == matter.group(),
            // It would have to wait for those behind it.
            None => !matter.takes_turns(),
        };
        if is_whole {
            work_off(&mut group, &mut is_opening, matter, picture, next)?;
        }
    }
    work_off(&mut group, &mut is_opening, matter, picture, next)?;
    matter.end()?;
    next.close();
    Ok(())
}

fn work_off(
    group: &mut Vec<Frame>,
    is_opening: &mut bool,
    matter: &mut dyn Matter,
    picture: Size,
    next: &Queue<Frame>,
) -> Result<(), StageEnd> {
    if std::mem::take(is_opening) {
        matter.rehearse(group, picture)?;
    }
    // More were rehearsed than are matted at once, and among them may be a border.
    let most = if matter.takes_turns() { group.len() } else { matter.group() };
    while let Some((first, rest)) = group.split_first_mut() {
        if let Some(border) = &mut first.border {
            border.handover.matter = matter.save()?;
        }
        let count = 1 + rest.iter().take(most.saturating_sub(1)).take_while(|frame| frame.border.is_none()).count();
        matter.mattes(&mut group[..count], picture)?;
        group.drain(..count).try_for_each(|frame| next.push(frame))?;
    }
    Ok(())
}

/// Gives mattes to the frames that the model did not see.
pub(super) fn carry(mut carrier: Carrier, queues: &Queues) -> Result<(), StageEnd> {
    while let Some(frame) = queues.seen.pop()? {
        carrier.take(frame, |frame| queues.matted.push(frame))?;
    }
    queues.matted.close();
    Ok(())
}

/// Steadies the mattes and refines their edges.
pub(super) fn refine(refiner: Option<Refiner>, queues: &Queues) -> Result<(), StageEnd> {
    let give = |_: &mut Refiner, frame: Frame| queues.refined.push(frame).map_err(StageEnd::from);
    match refiner {
        None => {
            while let Some(frame) = queues.matted.pop()? {
                queues.refined.push(frame)?;
            }
        }
        Some(mut refiner) => {
            while let Some(frame) = queues.matted.pop()? {
                refiner.take(frame, give)?;
            }
            refiner.end(give)?;
        }
    }
    queues.refined.close();
    Ok(())
}

/// Finishes frames and writes them; counts those that are written, and signs of life of those that are not.
pub(super) fn encode(
    mut outlet: Outlet<'_>,
    mut finisher: Finisher,
    first: u64,
    queues: &Queues,
    [written, alive]: [&AtomicU64; 2],
) -> Result<Made, StageEnd> {
    let mut made = Made::default();
    let mut has_ended = false;
    while let Some(mut frame) = queues.refined.pop()? {
        if let Some(border) = frame.border.take() {
            has_ended = border.ends_stretch;
            outlet.cross(frame.number, *border)?;
        }
        if frame.number >= first && !has_ended {
            let score = frame.score.take();
            if score.is_none() {
                finisher.make_alpha(&mut frame)?;
            }
            outlet.keep(frame.alpha())?;
            let done = finisher.finish(&mut frame)?;
            #[expect(clippy::cast_possible_truncation, reason = "a mean within 0..1")]
            let mean = done.mean as f32;
            outlet.write(done.frame, mean, score)?;
            made.means.push(mean);
            made.scores.extend(score);
            written.fetch_add(1, Ordering::Relaxed);
        } else {
            alive.fetch_add(1, Ordering::Relaxed);
        }
        queues.free.push(frame)?;
    }
    outlet.finish()?;
    Ok(made)
}

/// Stores segments beside the work on the next ones.
pub(super) fn store(
    store: &(dyn Fn(FinishedPart) -> Result<(), EngineError> + Sync),
    finished: &Queue<FinishedPart>,
) -> Result<(), StageEnd> {
    while let Some(part) = finished.pop()? {
        store(part)?;
    }
    Ok(())
}
