//! A session that the gateway itself keeps: of a client of an older revision at a hub. What there is to know of it is in
//! its sealed name: whose it is, at which hub, what its client can do, and its sessions on older servers.
//!
//! Not here: the sealing (`sealed`), and what changes while it lives: that is in `handoff::SessionNotes`.

use crate::config::limits;
use crate::mcp::crossing::Abilities;
use crate::mcp::envelope::REVISIONS_LEGACY;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnSession {
    /// Seconds since the Unix epoch.
    pub expires_unix: u32,
    pub owner: [u8; 16],
    /// Of the hub's name.
    pub hub: u64,
    /// Tells it from all others.
    pub number: [u8; 8],
    pub abilities: Abilities,
    pub revision: &'static str,
    /// Those that were opened with it; others are opened when they are needed.
    pub members: Vec<Member>,
}

/// A session on one older server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Of the server's name.
    pub server: u64,
    /// Of the instance that it lives on.
    pub instance: u32,
    /// The revision that was agreed on with the server.
    pub revision: &'static str,
    /// As the server calls it; empty: it keeps none.
    pub name: Vec<u8>,
}

/// What a member takes beside its name.
const MEMBER_BYTES: usize = 8 + 4 + 2;

fn revision(index: u8) -> Option<&'static str> {
    REVISIONS_LEGACY.get(usize::from(index)).copied()
}

fn index(revision: &str) -> u8 {
    // There are four.
    REVISIONS_LEGACY.iter().position(|known| *known == revision).map_or(3, |at| u8::try_from(at).unwrap_or(3))
}

impl OwnSession {
    /// As it is sealed. Members that do not fit a name are left out: they are opened when they are needed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&self.expires_unix.to_le_bytes());
        bytes.extend_from_slice(&self.owner);
        bytes.extend_from_slice(&self.hub.to_le_bytes());
        bytes.extend_from_slice(&self.number);
        bytes.extend_from_slice(&[self.abilities.0, index(self.revision)]);
        for member in &self.members {
            let Ok(length) = u8::try_from(member.name.len()) else { continue };
            if bytes.len() + MEMBER_BYTES + member.name.len() > limits::SEALED_LONG_BYTES_MAX / 2 {
                continue;
            }
            bytes.extend_from_slice(&member.server.to_le_bytes());
            bytes.extend_from_slice(&member.instance.to_le_bytes());
            bytes.extend_from_slice(&[index(member.revision), length]);
            bytes.extend_from_slice(&member.name);
        }
        bytes
    }

    /// What was sealed.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (expires, bytes) = bytes.split_first_chunk()?;
        let (owner, bytes) = bytes.split_first_chunk()?;
        let (hub, bytes) = bytes.split_first_chunk()?;
        let (number, bytes) = bytes.split_first_chunk()?;
        let ([abilities, spoken], mut rest) = bytes.split_first_chunk()?;
        let mut members = Vec::new();
        while !rest.is_empty() {
            let (server, bytes) = rest.split_first_chunk()?;
            let (instance, bytes) = bytes.split_first_chunk()?;
            let ([spoken, length], bytes) = bytes.split_first_chunk()?;
            let (name, bytes) = bytes.split_at_checked(usize::from(*length))?;
            rest = bytes;
            members.push(Member {
                server: u64::from_le_bytes(*server),
                instance: u32::from_le_bytes(*instance),
                revision: revision(*spoken)?,
                name: name.to_vec(),
            });
        }
        Some(Self {
            expires_unix: u32::from_le_bytes(*expires),
            owner: *owner,
            hub: u64::from_le_bytes(*hub),
            number: *number,
            abilities: Abilities(*abilities),
            revision: revision(*spoken)?,
            members,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(members: Vec<Member>) -> OwnSession {
        OwnSession {
            expires_unix: 9,
            owner: [1; 16],
            hub: 2,
            number: [3; 8],
            abilities: Abilities(5),
            revision: "2025-06-18",
            members,
        }
    }

    fn member(name: &[u8]) -> Member {
        Member { server: 4, instance: 5, revision: "2025-03-26", name: name.to_vec() }
    }

    #[test]
    fn what_was_written_is_read() {
        for members in [vec![], vec![member(b"abc"), member(b"")]] {
            let session = session(members);
            let bytes = session.to_bytes();
            assert_eq!(OwnSession::from_bytes(&bytes), Some(session));
            for cut in 0..bytes.len().min(38) {
                assert_eq!(OwnSession::from_bytes(&bytes[..cut]), None);
            }
        }
    }

    /// Names that were sealed before, or by another gateway: every bit keeps its place.
    #[test]
    fn what_was_sealed_before_is_read() {
        let sealed = |abilities: u8| {
            let hub = [2, 0, 0, 0, 0, 0, 0, 0];
            [&[9, 0, 0, 0][..], &[1; 16], &hub, &[3; 8], &[abilities, 2]].concat()
        };
        for abilities in [0, 5, 63, Abilities::ROOTS | Abilities::ROOTS_CHANGED, 127] {
            let abilities_read = OwnSession::from_bytes(&sealed(abilities)).map(|session| session.abilities);
            assert_eq!(abilities_read, Some(Abilities(abilities)));
            let session = OwnSession { abilities: Abilities(abilities), ..session(Vec::new()) };
            assert_eq!(session.to_bytes(), sealed(abilities));
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let long = session(vec![member(&[b'x'; 300]), member(b"y")]);
        assert_eq!(OwnSession::from_bytes(&long.to_bytes()), Some(session(vec![member(b"y")])));
        let many = session(vec![member(&[b'x'; 200]); 100]);
        let bytes = many.to_bytes();
        assert!(bytes.len() <= limits::SEALED_LONG_BYTES_MAX / 2);
        assert!(OwnSession::from_bytes(&bytes).unwrap().members.len() > 10);
    }
}
