//! What the engine adds to a model's own mattes, and how each part of it is left out.

use std::str::FromStr;

/// The parts; all are on unless somebody measures what they bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Techniques {
    /// A still model looks at its subject a second time, closer.
    pub region: bool,
    /// Mattes that flicker are steadied along the picture's motion.
    pub steady: bool,
    /// Edges follow the picture's colours.
    pub edges: bool,
    /// The old background is taken out of the colour of soft edges.
    pub colour: bool,
}

impl Techniques {
    /// Everything.
    pub const ALL: Self = Self { region: true, steady: true, edges: true, colour: true };
    /// The model alone.
    pub const NONE: Self = Self { region: false, steady: false, edges: false, colour: false };

    /// Everything but those whose names are given.
    ///
    /// # Errors
    /// A name that is none; its text lists those there are.
    pub fn without<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownTechnique> {
        let mut techniques = Self::ALL;
        for name in names {
            *match name.parse()? {
                Technique::Region => &mut techniques.region,
                Technique::Steady => &mut techniques.steady,
                Technique::Edges => &mut techniques.edges,
                Technique::Colour => &mut techniques.colour,
            } = false;
        }
        Ok(techniques)
    }
}

impl Default for Techniques {
    fn default() -> Self {
        Self::ALL
    }
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Technique {
    Region,
    Steady,
    Edges,
    Colour,
}

/// Nothing that can be left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of region, steady, edges, colour")]
pub struct UnknownTechnique(String);

impl FromStr for Technique {
    type Err = UnknownTechnique;

    fn from_str(name: &str) -> Result<Self, UnknownTechnique> {
        match name {
            "region" => Ok(Self::Region),
            "steady" => Ok(Self::Steady),
            "edges" => Ok(Self::Edges),
            "colour" => Ok(Self::Colour),
            _ => Err(UnknownTechnique(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_left_out_and_what_is_unknown_is_said() {
        let left = Techniques::without(["edges", "steady"]).unwrap();
        assert_eq!(left, Techniques { edges: false, steady: false, ..Techniques::ALL });
        assert!(Techniques::without(["magic"]).unwrap_err().to_string().contains("region, steady, edges, colour"));
    }
}
