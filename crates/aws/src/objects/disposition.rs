//! `Content-Disposition` for a file name that a client chose (RFC 6266).

use std::fmt::Write;

/// Longest name kept, in characters.
const LONGEST: usize = 150;

/// Saves as `filename`: once in plain ASCII for old readers, once in full for the others. Whatever could end the
/// quoted text, name another directory or break a header line becomes `_`.
pub(super) fn attachment(filename: &str) -> String {
    let safe = |c: char| if c.is_control() || matches!(c, '"' | '\\' | '/') { '_' } else { c };
    let name: String = filename.chars().take(LONGEST).map(safe).collect();
    let ascii: String = name.chars().map(|c| if c.is_ascii() && c != '%' { c } else { '_' }).collect();
    if ascii == name {
        return format!("attachment; filename=\"{ascii}\"");
    }
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_cannot_leave_its_quotes_or_its_line() {
        assert_eq!(attachment("clip.webm"), "attachment; filename=\"clip.webm\"");
        assert_eq!(
            attachment("Grüße 1.mov"),
            "attachment; filename=\"Gr__e 1.mov\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%201.mov"
        );
        for evil in ["a\"; x=\"b", "a\r\nSet-Cookie: b", "..\\..\\a", "../a", "a\0b"] {
            let header = attachment(evil);
            assert_eq!(header.matches('"').count(), 2, "{header}");
            assert!(!header.contains(['\r', '\n', '\\', '/', '\0']), "{header}");
        }
        assert!(attachment(&"é".repeat(10_000)).len() < 1_200);
    }
}
