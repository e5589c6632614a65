//! The trace id of a `traceparent` (W3C Trace Context, section 3.2.2).
//!
//! Not here: making ids, and sampling.

/// The trace id; None where the value is not valid.
pub fn trace_id(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    let (head, rest) = bytes.split_at_checked(55)?;
    let [v0, v1, b'-', fields @ ..] = head else { return None };
    let version = hex_pair(*v0, *v1)?;
    // Version 0 ends here, later ones may go on after a dash; 255 is forbidden.
    let ends_well = rest.is_empty() || version != 0 && rest.first() == Some(&b'-');
    if version == 0xFF || !ends_well {
        return None;
    }
    let (trace, fields) = fields.split_at_checked(32)?;
    let [b'-', fields @ ..] = fields else { return None };
    let (parent, flags) = fields.split_at_checked(16)?;
    let [b'-', flag0, flag1] = flags else { return None };
    hex_pair(*flag0, *flag1)?;
    let mut parent_id = [0; 8];
    fill(&mut parent_id, parent)?;
    let mut trace_id = [0; 16];
    fill(&mut trace_id, trace)?;
    (trace_id != [0; 16] && parent_id != [0; 8]).then_some(trace_id)
}

fn fill(out: &mut [u8], digits: &[u8]) -> Option<()> {
    let (pairs, _) = digits.as_chunks::<2>();
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        *byte = hex_pair(*high, *low)?;
    }
    Some(())
}

fn hex_pair(high: u8, low: u8) -> Option<u8> {
    Some(hex(high)? << 4 | hex(low)?)
}

/// Lower case only, as the specification demands.
const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_invalid() {
        let check = |text: &str, valid: bool| assert_eq!(trace_id(text).is_some(), valid, "{text}");
        check("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01", true);
        check("cc-0123456789abcdef0123456789abcdef-0123456789abcdef-01-more", true);
        check("cc-0123456789abcdef0123456789abcdef-0123456789abcdef-01", true);
        check("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01-more", false);
        check("cc-0123456789abcdef0123456789abcdef-0123456789abcdef-01.more", false);
        check("ff-0123456789abcdef0123456789abcdef-0123456789abcdef-01", false);
        check("00-0123456789ABCDEF0123456789abcdef-0123456789abcdef-01", false);
        check("00-00000000000000000000000000000000-0123456789abcdef-01", false);
        check("00-0123456789abcdef0123456789abcdef-0000000000000000-01", false);
        check("00-0123456789abcdef0123456789abcdef-0123456789abcdef-0g", false);
        check("00-0123456789abcdef0123456789abcdef-0123456789abcdef-0", false);
        check("00_0123456789abcdef0123456789abcdef-0123456789abcdef-01", false);
        check("", false);
        let id = trace_id("00-000102030405060708090a0b0c0d0eff-0123456789abcdef-00");
        assert_eq!(id, Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]));
    }
}
