//! A look at a protobuf message without decoding it: how often a field is there.
//!
//! Invariant: no allocation. An empty message in a list takes two bytes on the wire and dozens in memory, so lists are
//! counted before they are built.

/// A field's number and, when it is length-delimited, its bytes.
type Field<'a> = (u64, &'a [u8]);

/// Counts the length-delimited fields `number`, and hands the bytes of each to `each`.
///
/// # Errors
/// None when the bytes are no protobuf message without groups, or when `each` says so.
pub(crate) fn count_fields<'a>(
    bytes: &'a [u8],
    number: u64,
    mut each: impl FnMut(&'a [u8]) -> Option<()>,
) -> Option<usize> {
    let mut count = Some(0);
    each_field(bytes, |found, payload| {
        if found == number {
            count = count.and_then(|count| each(payload).map(|()| count + 1));
        }
    })?;
    count
}

/// Hands every field to `each`: its number, and its bytes when it is length-delimited.
///
/// # Errors
/// None when the bytes are no protobuf message without groups.
pub(crate) fn each_field<'a>(
    mut bytes: &'a [u8],
    mut each: impl FnMut(u64, &'a [u8]),
) -> Option<()> {
    while !bytes.is_empty() {
        let (number, payload) = field(&mut bytes)?;
        each(number, payload);
    }
    Some(())
}

fn field<'a>(bytes: &mut &'a [u8]) -> Option<Field<'a>> {
    let key = varint(bytes)?;
    let payload = match key & 7 {
        0 => varint(bytes).map(|_| [].as_slice()),
        1 => take(bytes, 8).map(|_| [].as_slice()),
        2 => {
            let length = varint(bytes)?;
            take(bytes, usize::try_from(length).ok()?)
        }
        5 => take(bytes, 4).map(|_| [].as_slice()),
        // Groups: proto3 has none.
        _ => None,
    };
    Some((key >> 3, payload?))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_and_handed_out() {
        // 1: varint 300; 2: "ab"; 2: ""; 3: fixed32; 4: fixed64.
        let bytes = [
            8, 0xac, 2, 18, 2, b'a', b'b', 18, 0, 29, 1, 2, 3, 4, 33, 1, 2, 3, 4, 5, 6, 7, 8,
        ];
        let mut seen = Vec::new();
        let count = count_fields(&bytes, 2, |payload| {
            seen.push(payload.to_vec());
            Some(())
        });
        assert_eq!((count, seen), (Some(2), vec![b"ab".to_vec(), Vec::new()]));
        assert_eq!(count_fields(&[], 2, |_| Some(())), Some(0));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let cases: [&[u8]; 6] = [
            &[8],
            &[18, 5, 1],
            &[11, 12],
            &[29, 1],
            &[0xff; 11],
            &[18, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ];
        for bytes in cases {
            assert_eq!(count_fields(bytes, 2, |_| Some(())), None, "{bytes:?}");
        }
    }
}
