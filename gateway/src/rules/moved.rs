//! What a delta did to who sees its row: kept beside it in the durable log, so that a pull evaluates nothing.
//!
//! ```text
//! members    ::= rules u64 │ moved*                  one for each delta of the push, in order
//! moved      ::= flags u8 │ before │ after           after only when flag SAME is not set
//! membership ::= length u32 │ bytes
//! flags          1 KNOWN  2 EXISTED  4 EXISTS  8 SAME
//! ```
//! All numbers are big-endian.
//!
//! **Invariant:** before and after are those of the row's merged state, whatever the order in which its deltas came.

use std::sync::Arc;

use lakesync_proto::Op;

use super::audience::Audience;
use super::membership::Membership;

const KNOWN: u8 = 1;
const EXISTED: u8 = 2;
const EXISTS: u8 = 4;
const SAME: u8 = 8;

/// One row's step from before a delta to after it, under one version of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// The version of the rules that the memberships are of.
    pub(crate) rules: u64,
    /// Whether anything was known of the row before: its values, or that it was deleted.
    pub(crate) known: bool,
    /// Whether the row existed before.
    pub(crate) existed: bool,
    /// Whether it exists after.
    pub(crate) exists: bool,
    pub(crate) before: Membership,
    pub(crate) after: Membership,
}

/// What one audience has to hear of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The delta itself: it has the row, or the delta is all there is of it.
    Delta,
    /// The whole row, which it has not had.
    Row,
    /// That the row is gone, though not deleted.
    Gone,
    /// Nothing.
    Nothing,
}

impl Moved {
    /// What it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.before.0.len() + self.after.0.len()
    }

    /// What `audience`, which is of the same rules, has to hear.
    pub(crate) fn heard_by(&self, audience: &Audience) -> Heard {
        match (audience.sees(&self.before), audience.sees(&self.after)) {
            (true, true) => Heard::Delta,
            (false, true) if !self.known => Heard::Delta,
            (false, true) => Heard::Row,
            // A row that is deleted is gone for everybody, by its DELETE, whose clock a client's own edits meet.
            (true, false) if !self.exists => Heard::Delta,
            (true, false) => Heard::Gone,
            (false, false) => Heard::Nothing,
        }
    }

    /// What the client that wrote the delta has to hear: it has a row of its own making whatever the rules say of it,
    /// so it is told when it may not see that row.
    pub(crate) fn heard_by_its_writer(&self, op: Op, audience: &Audience) -> Heard {
        match self.heard_by(audience) {
            Heard::Nothing if op == Op::Delete && !self.exists => Heard::Nothing,
            Heard::Nothing => Heard::Gone,
            heard => heard,
        }
    }
}

/// The column `members` of a push.
pub(crate) fn encode(moved: &[Arc<Moved>]) -> Option<Vec<u8>> {
    let first = moved.first()?;
    let mut out = Vec::with_capacity(8 + moved.len() * 16);
    out.extend(first.rules.to_be_bytes());
    for one in moved {
        let same = one.before == one.after;
        let flags = [(one.known, KNOWN), (one.existed, EXISTED)];
        let flags = flags
            .into_iter()
            .chain([(one.exists, EXISTS), (same, SAME)]);
        let flags = flags.filter(|(set, _)| *set).map(|(_, flag)| flag);
        out.push(flags.fold(0, |all, flag| all | flag));
        write(&mut out, &one.before);
        if !same {
            write(&mut out, &one.after);
        }
    }
    Some(out)
}

/// Reads what [`encode`] wrote for `count` deltas; none for anything else.
pub(crate) fn decode(mut bytes: &[u8], count: usize) -> Option<Vec<Arc<Moved>>> {
    let rules = u64::from_be_bytes(take(&mut bytes)?);
    let mut moved = Vec::with_capacity(count.min(bytes.len()));
    for _ in 0..count {
        let [flags] = take(&mut bytes)?;
        let before = read(&mut bytes)?;
        let after = match flags & SAME {
            0 => read(&mut bytes)?,
            _ => before.clone(),
        };
        moved.push(Arc::new(Moved {
            rules,
            known: flags & KNOWN != 0,
            existed: flags & EXISTED != 0,
            exists: flags & EXISTS != 0,
            before,
            after,
        }));
    }
    bytes.is_empty().then_some(moved)
}

fn write(out: &mut Vec<u8>, membership: &Membership) {
    let length = u32::try_from(membership.0.len()).expect("a membership is far below 4 GiB");
    out.extend(length.to_be_bytes());
    out.extend(&membership.0);
}

fn read(bytes: &mut &[u8]) -> Option<Membership> {
    let length = usize::try_from(u32::from_be_bytes(take(bytes)?)).ok()?;
    let (membership, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(Membership(membership.to_vec()))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(flags: u8, before: &[u8], after: &[u8]) -> Arc<Moved> {
        Arc::new(Moved {
            rules: 7,
            known: flags & KNOWN != 0,
            existed: flags & EXISTED != 0,
            exists: flags & EXISTS != 0,
            before: Membership(before.to_vec()),
            after: Membership(after.to_vec()),
        })
    }

    #[test]
    fn members_come_back_and_damage_is_noticed() {
        let all = [
            moved(0, b"", b"abc"),
            moved(KNOWN | EXISTED, b"abc", b"abc"),
            moved(KNOWN | EXISTS, b"x", b""),
        ];
        let bytes = encode(&all).unwrap();
        assert_eq!(decode(&bytes, 3).unwrap(), all);
        assert_eq!(decode(&bytes, 2), None);
        assert_eq!(decode(&bytes, 4), None);
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end], 3), None, "cut at {end}");
        }
        assert_eq!(encode(&[]), None);
    }
}
