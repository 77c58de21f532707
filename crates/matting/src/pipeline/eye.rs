//! What looks at a frame before the model does: cuts, the frames that the model sees, their pictures.

use super::stretch::{Border, Crossing, Handover, Stretch};
use crate::carried::Pace;
use crate::error::EngineError;
use crate::frame::{Frame, Size, Turn};
use crate::model::Matter;
use crate::model_picture::PictureMaker;
use crate::scene::CutDetector;

/// Looks at frames of one video, in order.
pub(super) struct Eye {
    maker: PictureMaker,
    cuts: CutDetector,
    pace: Pace,
    /// The last frame, until it is known whether it is the last of its scene: the model sees that.
    held: Option<Frame>,
}

impl Eye {
    /// For a model, unless it looks at no picture.
    pub(super) fn of(matter: &dyn Matter, size: Size, stretch: &Stretch<'_>) -> Option<Self> {
        let input = matter.input()?;
        let mut cuts = CutDetector::new(size);
        if let Some(carried) = &stretch.carried {
            cuts.resume(carried.cuts.clone());
        }
        let maker = PictureMaker::new(size, matter.picture_size(size), input);
        Some(Self { maker, cuts, pace: Pace::new(size, matter.every(), matter.takes_turns()), held: None })
    }

    /// What the frame at a border is told of the frames before it.
    pub(super) fn border(&self, crossing: Crossing) -> Option<Box<Border>> {
        let ends_stretch = match crossing {
            Crossing::Inside => return None,
            Crossing::Border => false,
            Crossing::End => true,
        };
        let handover = Handover { cuts: self.cuts.seen().clone(), ..Handover::default() };
        Some(Box::new(Border { handover, ends_stretch }))
    }

    /// Looks at the next frame; gives the one that is ready for the model.
    pub(super) fn look(&mut self, mut frame: Frame, stretch: &Stretch<'_>) -> Result<Option<Frame>, EngineError> {
        // What is carried between the frames that the model sees does not cross a border.
        let is_first = frame.number == stretch.decoded_from() || frame.border.is_some();
        let number = frame.number;
        let (colour, small) = frame.colour_and_small();
        let starts_scene = self.cuts.starts_scene(colour)?;
        let turn = self.pace.turn(number, colour, small)?;
        frame.starts_scene = starts_scene;
        frame.turn = if starts_scene || is_first { Some(self.pace.at_an_end()) } else { turn };
        if self.pace.is_every_frame() {
            return self.made_ready(frame).map(Some);
        }
        let before = self.held.replace(frame);
        before.map(|before| self.ready(before, starts_scene)).transpose()
    }

    /// There are no more frames; gives the one that is still here.
    pub(super) fn close(mut self) -> Result<Option<Frame>, EngineError> {
        let last = self.held.take();
        last.map(|last| self.ready(last, true)).transpose()
    }

    fn ready(&mut self, mut frame: Frame, ends_scene: bool) -> Result<Frame, EngineError> {
        if ends_scene {
            frame.turn = Some(self.pace.at_an_end());
        }
        if frame.turn.is_some_and(Turn::sees_whole) { self.made_ready(frame) } else { Ok(frame) }
    }

    fn made_ready(&mut self, mut frame: Frame) -> Result<Frame, EngineError> {
        let (colour, picture) = frame.colour_and_picture();
        self.maker.make(colour, picture)?;
        Ok(frame)
    }
}
