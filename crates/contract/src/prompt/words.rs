//! Small words and plurals of English.

/// Words that change nothing about which subject is meant.
pub(super) fn is_filler(word: &str) -> bool {
    matches!(
        word,
        "a" | "an"
            | "the"
            | "my"
            | "our"
            | "this"
            | "that"
            | "these"
            | "those"
            | "all"
            | "every"
            | "only"
            | "just"
            | "on"
            | "in"
            | "at"
            | "to"
            | "of"
            | "side"
            | "one"
            | "hand"
            | "picture"
            | "frame"
            | "video"
            | "colored"
            | "coloured"
    )
}

/// What a word may be the plural of, the word itself first.
pub(super) fn singulars(word: &str) -> impl Iterator<Item = String> {
    let with = |end: &str, replacement: &str| word.strip_suffix(end).map(|stem| format!("{stem}{replacement}"));
    // In this order: "knives" before "knive", "buses" before "buse".
    let candidates = [Some(word.to_owned()), with("ives", "ife"), with("ies", "y"), with("es", ""), with("s", "")];
    candidates.into_iter().flatten()
}
