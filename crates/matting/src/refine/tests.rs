use super::*;

const SIZE: Size = Size { width: 96, height: 64 };

/// A bright textured square at `x` on a dark textured ground; `matte` is what the model says of each pixel.
fn frame(x: usize, matte: impl Fn(usize, usize, bool) -> f32) -> Frame {
    let mut frame = Frame::new(SIZE);
    let inside = |column: usize, row: usize| (x..x + 32).contains(&column) && (16..48).contains(&row);
    let luma = frame.yuv_mut();
    luma.fill(128);
    for (place, luma) in luma.iter_mut().take(SIZE.pixels()).enumerate() {
        let (column, row) = (place % SIZE.width, place / SIZE.width);
        let texture = |column: usize| (column * 7 % 13 + row * 5 % 11) as u8;
        *luma = if inside(column, row) { 170 + texture(column - x) } else { 50 + texture(column) };
    }
    let value = |place: usize| {
        let (column, row) = (place % SIZE.width, place / SIZE.width);
        matte(column, row, inside(column, row))
    };
    frame.matte = (0..SIZE.pixels()).map(value).collect();
    frame
}

fn refined(techniques: Techniques, frames: Vec<Frame>) -> Vec<Frame> {
    let mut refiner = Refiner::new(techniques, SIZE, SIZE);
    run(&mut refiner, frames)
}

fn run(refiner: &mut Refiner, frames: Vec<Frame>) -> Vec<Frame> {
    let mut out = Vec::new();
    let mut give = |_: &mut Refiner, frame| {
        out.push(frame);
        Ok::<_, EngineError>(())
    };
    for frame in frames {
        refiner.take(frame, &mut give).unwrap();
    }
    refiner.end(&mut give).unwrap();
    out
}

fn sure(_: usize, _: usize, inside: bool) -> f32 {
    f32::from(inside)
}

fn at(frame: &Frame, column: usize, row: usize) -> u8 {
    frame.alpha()[row * SIZE.width + column]
}

#[test]
fn an_empty_frame_stays_empty() {
    for frame in refined(Techniques::ALL, (0..6).map(|n| frame(20 + n, |_, _, _| 0.0)).collect()) {
        assert!(frame.alpha().iter().all(|&alpha| alpha == 0));
        assert_eq!(frame.score.unwrap().doubt, 0.0);
    }
}

#[test]
fn a_still_video_does_not_flicker() {
    // Every third frame has a hole, and every other one a speck of the background.
    let says = |n: usize| {
        move |column: usize, row: usize, inside: bool| {
            let hole = n % 3 == 1 && (30..40).contains(&column) && (25..35).contains(&row);
            let speck = n % 2 == 1 && (70..76).contains(&column) && (4..10).contains(&row);
            f32::from((inside && !hole) || speck)
        }
    };
    let clip = || (0..12).map(|n| frame(20, says(n))).collect::<Vec<_>>();
    let worst = |frames: &[Frame]| {
        let flicker = frames.iter().filter_map(|frame| frame.score.unwrap().flicker);
        flicker.fold(0.0, f32::max)
    };
    let (without, with) = (refined(Techniques::NONE, clip()), refined(Techniques::ALL, clip()));
    assert!(worst(&with) < worst(&without) / 2.0, "{} {}", worst(&with), worst(&without));
    assert!(with[4..10].iter().all(|frame| at(frame, 35, 30) > 240), "the hole is closed");
}

#[test]
fn a_scene_cut_is_not_smeared() {
    let mut frames: Vec<Frame> = (0..8).map(|n| frame(20, move |_, _, inside| f32::from(inside && n < 4))).collect();
    frames[0].starts_scene = true;
    frames[4].starts_scene = true;
    let out = refined(Techniques::ALL, frames);
    assert!(out[..4].iter().all(|frame| at(frame, 35, 30) == 255));
    assert!(out[4..].iter().all(|frame| frame.alpha().iter().all(|&alpha| alpha == 0)));
    assert_eq!(out[4].score.unwrap().flicker, None);
}

#[test]
fn a_moving_subject_is_steadied_where_it_is_and_leaves_no_trail() {
    let out = refined(Techniques::ALL, (0..10).map(|n| frame(10 + 4 * n, sure)).collect());
    for (n, frame) in out.iter().enumerate() {
        let left = 10 + 4 * n;
        assert!(at(frame, left + 16, 30) > 250, "frame {n}");
        assert!(at(frame, left.saturating_sub(6), 30) < 5 && at(frame, (left + 38).min(95), 30) < 5, "frame {n}");
    }
}

#[test]
fn the_same_frames_give_the_same_bits_over_any_border() {
    let noisy = |n: usize| {
        frame(20 + n, move |column, row, inside| {
            let noise = ((column * 31 + row * 17 + n * 53) % 97) as f32 / 97.0;
            if inside { 1.0 - noise * 0.5 } else { noise * 0.2 }
        })
    };
    let whole = refined(Techniques::ALL, (0..12).map(noisy).collect());
    // The state before frame 6 is that which was there when frame 5 was given.
    let mut first = Refiner::new(Techniques::ALL, SIZE, SIZE);
    let mut given = 0;
    let mut state = None;
    for n in 0..12 {
        first
            .take(noisy(n), |refiner, _| {
                given += 1;
                if given == 6 {
                    state = Some(refiner.state.clone());
                }
                Ok::<_, EngineError>(())
            })
            .unwrap();
    }
    let handed = serde_json::to_vec(&state.unwrap()).unwrap();
    let mut second = Refiner::new(Techniques::ALL, SIZE, SIZE);
    second.resume(serde_json::from_slice(&handed).unwrap());
    let rest = run(&mut second, (6..12).map(noisy).collect());
    for (one, other) in whole[6..].iter().zip(&rest) {
        assert!(one.alpha() == other.alpha() && one.score == other.score);
    }
    assert_eq!(rest.len(), 6);
}

#[test]
fn edges_follow_the_picture_and_what_is_sure_stays() {
    // The model's edge is eight pixels wide, the picture's is sharp.
    let soft = |column: usize, row: usize, _: bool| {
        let along = |place: usize, from: f32, to: f32| {
            let place = place as f32 + 0.5;
            ((place - from) / 8.0 + 0.5).min((to - place) / 8.0 + 0.5).clamp(0.0, 1.0)
        };
        along(column, 32.0, 64.0).min(along(row, 16.0, 48.0))
    };
    let error = |frame: &Frame| {
        let truth = |place: usize| {
            let (column, row) = (place % SIZE.width, place / SIZE.width);
            if (32..64).contains(&column) && (16..48).contains(&row) { 255 } else { 0 }
        };
        (0..SIZE.pixels()).map(|place| u32::from(frame.alpha()[place].abs_diff(truth(place)))).sum::<u32>()
    };
    let without = refined(Techniques::NONE, vec![frame(32, soft)]);
    let with = refined(Techniques::ALL, vec![frame(32, soft)]);
    assert!(error(&with[0]) * 2 < error(&without[0]), "{} {}", error(&with[0]), error(&without[0]));
    for (now, then) in with[0].alpha().iter().zip(without[0].alpha()) {
        assert!((*then != 0 && *then != 255) || now == then);
    }
}

#[test]
fn every_processor_refines_the_same_bits() {
    let soft = |column: usize, row: usize, inside: bool| {
        let edge = (column * 13 + row * 7) % 29;
        if inside { 1.0 - edge as f32 / 90.0 } else { edge as f32 / 80.0 }
    };
    let all = || {
        let frames = refined(Techniques::ALL, (0..5).map(|n| frame(20 + 2 * n, soft)).collect());
        frames.iter().map(|frame| (frame.alpha().to_vec(), frame.score)).collect::<Vec<_>>()
    };
    let found = all();
    assert!(found.iter().any(|(alpha, _)| crate::frame::has_soft(alpha)));
    assert!(found == crate::lanes::tests::plain(all));
}
