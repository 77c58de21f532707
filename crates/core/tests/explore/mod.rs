//! Explicit-state search: every state that a small model can reach, and from each of them a fault-free way on.
//!
//! Owns: the search and its traces. Does not own: what a model is about. A model is checked for two things: no
//! reachable state breaks an invariant, and from every reachable state the world comes to a good rest once faults
//! stop. A found breach carries the shortest trace that leads to it.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A world of steps, small enough to be searched whole.
pub(crate) trait Model {
    /// The world at one moment.
    type State: Clone + Eq + Hash + Debug;
    /// Something that happens.
    type Step: Copy + Debug;

    /// Where the world begins.
    fn start(&self) -> Self::State;
    /// Everything that may happen next, faults included.
    fn steps(&self, state: &Self::State) -> Vec<Self::Step>;
    /// The world after a step.
    fn after(&self, state: &Self::State, step: Self::Step) -> Self::State;
    /// What is wrong with a state, if anything.
    fn breach(&self, state: &Self::State) -> Option<&'static str>;
    /// What a fair scheduler without faults does next; none when the world rests.
    fn go_on(&self, state: &Self::State) -> Option<Self::Step>;
    /// What is wrong with the rest that `from` came to, if anything.
    fn bad_rest(&self, from: &Self::State, rest: &Self::State) -> Option<&'static str>;
}

/// What a search without a find has seen.
#[derive(Clone, Copy)]
pub(crate) struct Searched {
    /// Different states.
    pub(crate) states: usize,
    steps: usize,
    longest_rest: usize,
}

impl Debug for Searched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, longest_rest } = self;
        write!(f, "{states} states, {steps} steps between them, at most {longest_rest} to a rest")
    }
}

/// A breach, and how the world got there.
pub(crate) struct Found {
    /// What is wrong.
    pub(crate) what: &'static str,
    /// States looked at before it was found.
    pub(crate) states: usize,
    trace: Vec<String>,
}

impl Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (after {} states):", self.what, self.states)?;
        self.trace.iter().try_for_each(|step| writeln!(f, "  {step}"))
    }
}

/// Searches the whole model, breadth first.
///
/// # Errors
/// The first breach, by the shortest way to it.
pub(crate) fn explore<M: Model>(model: &M) -> Result<Searched, Found> {
    let start = model.start();
    let mut known: HashMap<M::State, usize, BuildHasherDefault<Mixer>> = HashMap::default();
    known.insert(start.clone(), 0);
    let mut states = vec![start];
    let mut graph = Graph { origin: vec![None], fair: Vec::new() };
    let mut steps = 0;
    while graph.fair.len() < states.len() {
        let index = graph.fair.len();
        let state = states[index].clone();
        if let Some(what) = model.breach(&state) {
            return Err(Found { what, states: states.len(), trace: graph.way_to(index) });
        }
        let fair = model.go_on(&state);
        let mut fair_next = None;
        for step in model.steps(&state).into_iter().map(Some).chain([fair]).flatten() {
            steps += 1;
            let next = model.after(&state, step);
            let next_index = *known.entry(next).or_insert_with_key(|next| {
                states.push(next.clone());
                graph.origin.push(Some((index, step)));
                states.len() - 1
            });
            // The fair step comes last.
            fair_next = Some((next_index, step));
        }
        graph.fair.push(if fair.is_some() { fair_next } else { None });
    }
    let longest_rest = graph.all_rest(model, &states)?;
    Ok(Searched { states: states.len(), steps, longest_rest })
}

/// States by index: how each was first reached, and where the fair scheduler goes from it.
struct Graph<S> {
    origin: Vec<Option<(usize, S)>>,
    fair: Vec<Option<(usize, S)>>,
}

impl<S: Copy + Debug> Graph<S> {
    /// Follows the fair scheduler from every state; each state is passed once.
    fn all_rest<M: Model<Step = S>>(&self, model: &M, states: &[M::State]) -> Result<usize, Found> {
        // Where each state comes to rest, and after how many steps.
        let mut rests: Vec<Option<(usize, usize)>> = vec![None; states.len()];
        let mut longest = 0;
        for from in 0..states.len() {
            let mut way = vec![from];
            let (rest, mut distance) = loop {
                let at = way[way.len() - 1];
                match (rests[at], self.fair[at]) {
                    (Some(known), _) => break known,
                    (None, None) => break (at, 0),
                    (None, Some(_)) if way.len() > states.len() => {
                        return Err(self.found(from, states, "the world goes in circles"));
                    }
                    (None, Some((next, _))) => way.push(next),
                }
            };
            way.pop();
            rests[rest] = Some((rest, 0));
            while let Some(passed) = way.pop() {
                distance += 1;
                rests[passed] = Some((rest, distance));
            }
            longest = longest.max(distance);
            if let Some(what) = model.bad_rest(&states[from], &states[rest]) {
                return Err(self.found(from, states, what));
            }
        }
        Ok(longest)
    }

    fn found<State: Debug>(&self, from: usize, states: &[State], what: &'static str) -> Found {
        let mut trace = self.way_to(from);
        trace.push(format!("-- from here without faults: {:?}", states[from]));
        let mut at = from;
        while let Some((next, step)) = self.fair[at]
            && trace.len() < 100
        {
            trace.push(format!("{step:?}"));
            at = next;
        }
        Found { what, states: states.len(), trace }
    }

    fn way_to(&self, mut index: usize) -> Vec<String> {
        let mut trace = Vec::new();
        while let Some((from, step)) = &self.origin[index] {
            trace.push(format!("{step:?}"));
            index = *from;
        }
        trace.reverse();
        trace
    }
}

/// A quick hash: the states are our own, nobody chooses them to collide.
#[derive(Default)]
struct Mixer(u64);

impl Mixer {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.mix(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.mix(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }

    fn write_usize(&mut self, n: usize) {
        self.mix(n as u64);
    }

    fn write_isize(&mut self, n: isize) {
        self.mix(n as u64);
    }
}
