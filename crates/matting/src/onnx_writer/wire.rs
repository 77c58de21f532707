//! The protobuf wire format, as far as ONNX needs it: messages are written field by field, and read as fields that can
//! be copied as they are, whatever they mean. No groups.

/// A message under construction: fields are written in the order of the calls.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

impl Message {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    /// An int32, int64 or enum; negative ones take ten bytes.
    pub(super) fn int(&mut self, field: u64, value: i64) -> &mut Self {
        self.key(field, VARINT);
        self.varint(value.cast_unsigned());
        self
    }

    pub(super) fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.key(field, FIXED32);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.key(field, LENGTH_DELIMITED);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    pub(super) fn text(&mut self, field: u64, value: &str) -> &mut Self {
        self.bytes(field, value.as_bytes())
    }

    pub(super) fn message(&mut self, field: u64, value: &Self) -> &mut Self {
        self.bytes(field, &value.0)
    }

    /// A field as it was read.
    pub(super) fn copy(&mut self, field: &Field<'_>) -> &mut Self {
        self.0.extend(field.raw);
        self
    }
}

/// The bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// One field of a message that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    /// What is in it, if it is a message, a text or bytes.
    pub(super) bytes: Option<&'a [u8]>,
    /// All of it, with its key.
    raw: &'a [u8],
}

/// The fields of a message in their order. After an error there are no more.
pub(super) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

/// See [`fields`].
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = first_field(self.rest);
        self.rest = field.as_ref().map_or(&[], |(_, rest)| rest);
        Some(field.map(|(field, _)| field).ok_or(Malformed))
    }
}

/// The first field, and what comes after it.
fn first_field(message: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (key, after_key) = read_varint(message)?;
    let (bytes, rest) = match key & 7 {
        VARINT => (None, read_varint(after_key)?.1),
        FIXED64 => (None, after_key.get(8..)?),
        LENGTH_DELIMITED => {
            let (length, content) = read_varint(after_key)?;
            let (bytes, rest) = content.split_at_checked(usize::try_from(length).ok()?)?;
            (Some(bytes), rest)
        }
        FIXED32 => (None, after_key.get(4..)?),
        _ => return None,
    };
    let raw = message.get(..message.len() - rest.len())?;
    Some((Field { number: key >> 3, bytes, raw }, rest))
}

fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (place, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(place + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_protobuf_says() {
        let mut inner = Message::new();
        inner.int(1, 150);
        let mut message = Message::new();
        message.message(3, &inner).text(2, "testing").int(1, -1).float(4, 1.0);
        let mut expected = vec![0x1a, 0x03, 0x08, 0x96, 0x01];
        expected.extend([0x12, 0x07, b't', b'e', b's', b't', b'i', b'n', b'g']);
        expected.extend([0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        expected.extend([0x25, 0x00, 0x00, 0x80, 0x3f]);
        assert_eq!(message.into_bytes(), expected);
    }

    #[test]
    fn what_was_written_is_read_field_by_field_and_copied_as_it_is() {
        let mut message = Message::new();
        message.text(2, "testing").int(1, -1).float(4, 1.0).bytes(300, &[7; 200]);
        let written = message.into_bytes();
        let read: Vec<_> = fields(&written).map(Result::unwrap).collect();
        let numbers: Vec<_> = read.iter().map(|field| (field.number, field.bytes.map(<[u8]>::len))).collect();
        assert_eq!(numbers, [(2, Some(7)), (1, None), (4, None), (300, Some(200))]);
        let mut copy = Message::new();
        for field in &read {
            copy.copy(field);
        }
        assert_eq!(copy.into_bytes(), written);
    }

    #[test]
    fn whatever_the_bytes_are_reading_ends() {
        for bytes in [&[0x80; 12][..], &[0x0a, 0x05, 1], &[0x0b], &[0x0d, 1, 2, 3], &[0x09, 1], &[0x08], &[0xff; 40]] {
            assert_eq!(fields(bytes).collect::<Vec<_>>(), [Err(Malformed)], "{bytes:?}");
        }
    }
}
