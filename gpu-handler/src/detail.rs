//! Errors as text for the operator: bounded, on one line, free of addresses.

use std::error::Error;

/// Greatest length of a report's detail in characters.
const MAX_CHARS: usize = 1000;

/// The error and its causes. Addresses are left out: presigned ones are secrets, and any may be a user's.
pub(crate) fn shown(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    harmless(&text)
}

/// `text` on one line, without addresses, at most [`MAX_CHARS`] long.
pub(crate) fn harmless(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(if word.contains("://") { "[address]" } else { word });
    }
    line.chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// G-37
    #[test]
    fn a_detail_has_no_address_no_line_break_and_an_end() {
        let text = "error for url (https://s3/b/k?X-Amz-Signature=abc):\n  broken\u{0} pipe";
        assert_eq!(harmless(text), "error for url [address] broken pipe");
        assert_eq!(harmless(&"é".repeat(5000)).chars().count(), MAX_CHARS);
    }
}
