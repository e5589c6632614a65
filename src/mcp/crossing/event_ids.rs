//! Ids of events where several servers are one address: `NUMBER.ID`, NUMBER being the server's (`request_ids::asker`) and
//! ID its own, so that a stream goes on at the server that it came from (2025-11-25, transports, "Resumability and
//! Redelivery").
//!
//! Not here: what is sent again; that its server keeps.

/// The id as the client gets it.
pub fn wrap(server: u32, id: &[u8]) -> Vec<u8> {
    [server.to_string().as_bytes(), b".", id].concat()
}

/// Whose event a client goes on behind, and the server's own id of it. None: the id is none that [`wrap`] makes.
pub fn unwrap(wrapped: &[u8]) -> Option<(u32, &[u8])> {
    let dot = memchr::memchr(b'.', wrapped)?;
    let (number, id) = (wrapped.get(..dot)?, wrapped.get(dot + 1..)?);
    let canonical = number.len() == 1 || !number.starts_with(b"0");
    let digits = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    if !canonical || !digits || id.is_empty() {
        return None;
    }
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_id_of_ours_is_nobodys() {
        for id in ["", ".", "1", "1.", ".a", "01.a", "+1.a", "4294967296.a", "a.1", "1 .a", "-1.a"] {
            assert_eq!(unwrap(id.as_bytes()), None, "{id}");
        }
        assert_eq!(unwrap(b"0.a"), Some((0, &b"a"[..])));
        assert_eq!(unwrap(b"4294967295.a.b"), Some((u32::MAX, &b"a.b"[..])));
    }

    proptest! {
        #[test]
        fn ids_come_back(server: u32, id in prop::collection::vec(1_u8.., 1..40)) {
            let wrapped = wrap(server, &id);
            prop_assert_eq!(unwrap(&wrapped), Some((server, &*id)));
        }
    }
}
