//! The live frames of one gateway: each is read and encoded once, whoever needs it first, and shared.
//!
//! ```text
//!  connection at 100 ─┐                      ┌─ (100, audience, form) → frame up to 180 ─┐
//!  connection at 100 ─┼─► Hub::frame ─► cache┤                                           ├─► sent by each
//!  connection at  40 ─┘                      └─ ( 40, audience, form) → frame up to 180 ─┘
//! ```
//! A connection holds its place and takes the frame that begins there; so connections that keep up stand at the same
//! places and share frames, and one that is behind reads pages like any pull. Nothing is queued for anybody.
//!
//! **Invariant:** a frame holds everything that its audience sees between its two places, and nothing else.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use lakesync_proto::{
    ClientId, Cursor, PullPage, Seq, ServerBody, encode_broadcast, encode_page_json,
    encode_server_frame, page_checksum, page_message,
};
use tokio::sync::{OnceCell, watch};

use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::pull::{Pull, Since, Told};
use crate::rules::Audience;
use crate::stats::Ended;

/// How many deltas a frame holds at most: what a phone takes in a second or two.
pub(super) const FRAME_DELTAS_MAX: usize = 1_000;
/// How many frames are remembered at most, empty ones counted: their keys are memory too.
const FRAMES_MAX: usize = 4_096;

/// Where a connection stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// At a bare seq, as legacy clients do.
    Legacy(Seq),
    /// At a native cursor; none is the beginning.
    Native(Option<Cursor>),
}

impl Place {
    pub(super) fn since(&self) -> Since {
        match self {
            Self::Legacy(seq) => Since::Seq(*seq),
            Self::Native(cursor) => Since::Cursor(cursor.clone()),
        }
    }

    pub(super) fn seq(&self) -> Seq {
        match self {
            Self::Legacy(seq) => *seq,
            Self::Native(cursor) => cursor.as_ref().map_or(Seq::ZERO, |cursor| cursor.seq),
        }
    }

    /// Whether its client is not sent its own deltas: a legacy one over a WebSocket.
    pub(super) fn is_sent_without_own(&self, form: Form) -> bool {
        matches!(self, Self::Legacy(_)) && form != Form::Event
    }

    /// The place behind `page`, which was read from this one and has its native cursor.
    pub(super) fn after(&self, page: &PullPage) -> Self {
        match self {
            Self::Legacy(_) => Self::Legacy(page.cursor),
            Self::Native(_) => Self::Native(page.notes.next.clone()),
        }
    }
}

/// The native cursor behind a page.
pub(super) fn next_cursor(page: &PullPage, audience: &Audience) -> Cursor {
    page.notes.next.clone().unwrap_or_else(|| Cursor {
        epoch: page.epoch.clone(),
        seq: page.cursor,
        rules: audience.rules(),
        claims: audience.claims(),
    })
}

/// How a frame is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// A WebSocket message: a broadcast for a legacy place, a native frame for a native one.
    Message,
    /// A broadcast whose cursor is 0, which a legacy client does not adopt: it has not been given what lies before.
    Unanchored,
    /// A server-sent event.
    Event,
}

/// What a connection sends next.
#[derive(Debug)]
pub(super) struct Frame {
    /// Empty when there is nothing to tell between the two places.
    pub(super) bytes: Bytes,
    /// Where the connection stands once it has sent it.
    pub(super) next: Place,
    /// Whose deltas it holds.
    pub(super) authors: Authors,
}

impl Frame {
    /// What was read from `place`; none when it leads nowhere.
    fn of(told: Told, place: &Place, form: Form) -> Option<Arc<Self>> {
        let authors = Authors::of(&told);
        Self::by(authors, told.page, place, form)
    }

    /// What was read for `client` alone: without its own deltas, if it is not sent those. A row whole and a withdrawal
    /// stay, whoever's stamp they carry: it has not been given them.
    pub(super) fn for_client(
        told: Told,
        (place, form): (&Place, Form),
        client: &ClientId,
    ) -> Option<Arc<Self>> {
        let Told { mut page, made } = told;
        if place.is_sent_without_own(form) {
            page.deltas
                .retain(|delta| delta.delta.client_id != *client || made.contains(&delta.seq));
        }
        Self::by(Authors::default(), page, place, form)
    }

    /// One that tells nothing and leads to the same place.
    pub(super) fn silent(&self) -> Arc<Self> {
        Arc::new(Self {
            bytes: Bytes::new(),
            next: self.next.clone(),
            authors: Authors::default(),
        })
    }

    fn by(authors: Authors, page: PullPage, place: &Place, form: Form) -> Option<Arc<Self>> {
        let next = place.after(&page);
        let silent = page.deltas.is_empty() && page.removed.is_empty();
        if silent && next == *place {
            return None;
        }
        let bytes = match silent {
            true => Bytes::new(),
            false => encode(page, place, form),
        };
        Some(Arc::new(Self {
            bytes,
            next,
            authors,
        }))
    }
}

/// Whose deltas a frame holds.
#[derive(Debug, Default)]
pub(super) struct Authors {
    /// Of the log's own deltas.
    clients: Vec<ClientId>,
    /// Whether there are rows whole or withdrawals, which are nobody's.
    made: bool,
}

impl Authors {
    fn of(told: &Told) -> Self {
        let mut authors: Vec<ClientId> = Vec::new();
        let deltas = told.page.deltas.iter();
        for delta in deltas.filter(|delta| !told.made.contains(&delta.seq)) {
            let author = &delta.delta.client_id;
            // Pushes are runs of one author, so the last one is nearly always the one.
            if authors.last() != Some(author) && !authors.contains(author) {
                authors.push(author.clone());
            }
        }
        Self {
            clients: authors,
            made: !told.made.is_empty(),
        }
    }

    /// Whether `client` is among them, and whether there is anything else.
    pub(super) fn include(&self, client: &ClientId) -> (bool, bool) {
        let own = self.clients.contains(client);
        (own, self.made || self.clients.len() > usize::from(own))
    }
}

/// The live frames of one gateway.
#[derive(Debug)]
pub(super) struct Hub {
    gateway: Arc<Gateway>,
    bytes_max: usize,
    cache: Mutex<Cache>,
    /// The hash over the schemas, as it was seen last.
    schemas: watch::Sender<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    place: Place,
    /// The audience, as native cursors name it.
    rules: u64,
    claims: u64,
    /// Those whom no rule ever binds go on sharing frames that nobody else may see.
    free: bool,
    form: Form,
}

impl Key {
    fn new(place: &Place, audience: &Audience, form: Form) -> Self {
        Self {
            place: place.clone(),
            rules: audience.rules(),
            claims: audience.claims(),
            free: audience.is_free(),
            form,
        }
    }
}

type Slot = Arc<OnceCell<Arc<Frame>>>;

#[derive(Debug, Default)]
struct Cache {
    slots: HashMap<Key, Held>,
    /// The oldest first.
    order: VecDeque<Key>,
    /// Of all slots, as far as they are counted.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Held {
    slot: Slot,
    /// What of it is counted: nothing until it has been read.
    bytes: usize,
}

impl Hub {
    pub(super) fn new(gateway: Arc<Gateway>, bytes_max: usize) -> Self {
        let hub = Self {
            gateway,
            bytes_max,
            cache: Mutex::default(),
            schemas: watch::Sender::new(0),
        };
        hub.look_at_schemas();
        hub
    }

    /// The hash over the schemas, as it was seen last.
    pub(super) fn schemas(&self) -> watch::Receiver<u64> {
        self.schemas.subscribe()
    }

    /// Tells the connections when the schemas are others than they were.
    pub(super) fn look_at_schemas(&self) {
        let seen = *self.schemas.borrow();
        if let Some(note) = self.gateway.notes(Some(seen), true).schemas {
            self.schemas.send_if_modified(|hash| {
                let other = *hash != note.hash;
                *hash = note.hash;
                other
            });
        }
    }

    /// A page of nothing but the schemas, for a connection at `place` that knows those of the hash `known`; none when
    /// they are the same.
    pub(super) fn schemas_page(
        &self,
        place: &Place,
        audience: &Audience,
        known: u64,
    ) -> Option<(PullPage, u64)> {
        let notes = self.gateway.notes(Some(known), true);
        let hash = notes.schemas.as_ref()?.hash;
        let mut page = PullPage {
            deltas: Vec::new(),
            cursor: place.seq(),
            removed: Vec::new(),
            has_more: false,
            epoch: self.gateway.epoch().clone(),
            notes,
        };
        page.notes.checksum = Some(page_checksum(&page));
        page.notes.next = Some(match place {
            Place::Native(Some(cursor)) => cursor.clone(),
            _ => next_cursor(&page, audience),
        });
        Some((page, hash))
    }

    /// The frame that begins at `place`; none when nothing is above it.
    ///
    /// # Errors
    /// As [`Gateway::pull_as`].
    ///
    /// # Cancel safety
    /// A frame whose future is dropped is read again by the next who needs it.
    pub(super) async fn frame(
        &self,
        place: &Place,
        audience: &Audience,
        form: Form,
    ) -> Result<Option<Arc<Frame>>> {
        // Any other place that is not below the end is of another log, which the pull says.
        let at_end = place.seq() == *self.gateway.visible().borrow();
        if at_end && self.is_of(place, audience) {
            return Ok(None);
        }
        let key = Key::new(place, audience, form);
        let slot = self.slot(&key);
        let mut fresh = false;
        let read = slot.get_or_try_init(|| {
            fresh = true;
            self.read(place, audience, form)
        });
        let frame = read.await.map(Arc::clone);
        if fresh {
            self.settle(
                &key,
                &slot,
                frame.as_ref().map_or(0, |frame| frame.bytes.len()),
            );
        }
        // A frame that is remembered may be of rules that are not in force any more.
        self.gateway.check_in_force(audience).map_err(Error::from)?;
        match frame {
            Ok(frame) => Ok(Some(frame)),
            Err(Miss::Nothing) => Ok(None),
            Err(Miss::Failed(error)) => Err(error),
        }
    }

    async fn read(
        &self,
        place: &Place,
        audience: &Audience,
        form: Form,
    ) -> Result<Arc<Frame>, Miss> {
        let told = self.told(place, audience).await.map_err(Miss::Failed)?;
        Frame::of(told, place, form).ok_or(Miss::Nothing)
    }

    async fn told(&self, place: &Place, audience: &Audience) -> Result<Told> {
        let began = Instant::now();
        let pull = Pull {
            since: place.since(),
            limit: FRAME_DELTAS_MAX,
            schemas: None,
        };
        let told = self.gateway.told_as(&pull, audience).await;
        // Deltas may be of columns that came without a word to this hub.
        self.look_at_schemas();
        let deltas = told.as_ref().map_or(0, |told| told.page.deltas.len());
        let stats = self.gateway.stats();
        stats.pull(Ended::of(&told), began.elapsed(), deltas);
        let mut told = told?;
        told.page.notes.next = Some(next_cursor(&told.page, audience));
        Ok(told)
    }

    /// Whether a native place is of this log, and of the rules and claims that are in force; if not, a pull says what
    /// to do.
    fn is_of(&self, place: &Place, audience: &Audience) -> bool {
        match place {
            Place::Native(Some(cursor)) => {
                let seen_by = (cursor.rules, cursor.claims);
                cursor.epoch == *self.gateway.epoch()
                    && seen_by == (audience.rules(), audience.claims())
            }
            _ => true,
        }
    }

    fn slot(&self, key: &Key) -> Slot {
        let mut cache = self.lock();
        if let Some(held) = cache.slots.get(key) {
            return Arc::clone(&held.slot);
        }
        let held = Held::default();
        let slot = Arc::clone(&held.slot);
        cache.slots.insert(key.clone(), held);
        cache.order.push_back(key.clone());
        cache.forget(FRAMES_MAX, self.bytes_max);
        slot
    }

    /// Counts a frame that was just read into `slot`; one that could not be read is no slot any more. A slot that was
    /// forgotten meanwhile counts nothing, though another may have its key.
    fn settle(&self, key: &Key, slot: &Slot, bytes: usize) {
        let mut cache = self.lock();
        let held = cache.slots.get_mut(key);
        let Some(held) = held.filter(|held| Arc::ptr_eq(&held.slot, slot)) else {
            return;
        };
        if slot.initialized() {
            held.bytes = bytes;
            cache.bytes += bytes;
            cache.forget(FRAMES_MAX, self.bytes_max);
        } else {
            cache.slots.remove(key);
            // It is one of the youngest.
            if let Some(at) = cache.order.iter().rposition(|ordered| ordered == key) {
                cache.order.remove(at);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        // Every mutation is whole before anything can panic, so a poisoned lock holds a valid state.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn forget(&mut self, frames_max: usize, bytes_max: usize) {
        while self.order.len() > frames_max || self.bytes > bytes_max {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(held) = self.slots.remove(&oldest) {
                self.bytes = self.bytes.saturating_sub(held.bytes);
            }
        }
    }
}

enum Miss {
    Nothing,
    Failed(Error),
}

/// A page as it is sent from `place`.
pub(super) fn encode(mut page: PullPage, place: &Place, form: Form) -> Bytes {
    match (form, place) {
        (Form::Message, Place::Native(_)) => {
            encode_server_frame(0, ServerBody::Live(page_message(&page))).into()
        }
        (Form::Message, Place::Legacy(_)) => {
            // A broadcast is no page: there is nothing to ask for.
            page.has_more = false;
            encode_broadcast(&page).into()
        }
        (Form::Unanchored, _) => {
            page.has_more = false;
            page.cursor = Seq::ZERO;
            page.notes.next = None;
            encode_broadcast(&page).into()
        }
        (Form::Event, _) => event(&page, place),
    }
}

/// `id` is what `Last-Event-ID` gives back: a native cursor, or a seq.
fn event(page: &PullPage, place: &Place) -> Bytes {
    let id = match (place, &page.notes.next) {
        (Place::Native(_), Some(cursor)) => cursor.to_string(),
        _ => page.cursor.to_string(),
    };
    let mut text = format!("id: {id}\nevent: page\ndata: ").into_bytes();
    text.extend(encode_page_json(page));
    text.extend(b"\n\n");
    text.into()
}

#[cfg(test)]
mod over_sockets;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::world::World;

    #[tokio::test]
    async fn connections_at_one_place_share_one_frame_and_the_cache_forgets_by_bytes() {
        let world = World::open().await;
        let gateway = world.gateway();
        let hub = Hub::new(Arc::clone(&gateway), 1 << 20);
        let audience = Audience::everything();
        let at = |seq: u64| Place::Legacy(Seq::from_u64(seq).unwrap());
        let nothing = hub.frame(&at(0), &audience, Form::Message).await.unwrap();
        assert!(nothing.is_none());
        world.push("ada", &["r1", "r2"]).await;
        let frame = |place| {
            let (hub, audience) = (&hub, &audience);
            async move {
                hub.frame(&place, audience, Form::Message)
                    .await
                    .unwrap()
                    .unwrap()
            }
        };
        let (one, two) = tokio::join!(frame(at(0)), frame(at(0)));
        assert!(Arc::ptr_eq(&one, &two), "encoded once");
        assert_eq!(one.next, at(2));
        world.push("ben", &["r3"]).await;
        let again = frame(at(0)).await;
        assert!(
            Arc::ptr_eq(&one, &again),
            "who is behind takes the same steps"
        );
        assert_eq!(frame(at(2)).await.next, at(3));
        let ada = ClientId::parse("ada").unwrap();
        assert_eq!(one.authors.include(&ada), (true, false));
        assert_eq!(frame(at(1)).await.authors.include(&ada), (true, true));
        let small = Hub::new(gateway, 1);
        for seq in 0..3 {
            small.frame(&at(seq), &audience, Form::Event).await.unwrap();
        }
        let cache = small.lock();
        assert_eq!((cache.slots.len(), cache.bytes), (0, 0));
    }

    #[tokio::test]
    async fn a_remembered_frame_is_not_sent_to_those_whom_rules_bind_since() {
        let world = World::open().await;
        let gateway = world.gateway();
        let hub = Hub::new(Arc::clone(&gateway), 1 << 20);
        world.push("ada", &["r1"]).await;
        let (free, bindable) = (
            Audience::everything(),
            gateway.rules().audience(&lakesync_proto::Claims::new()),
        );
        let begin = Place::Legacy(Seq::ZERO);
        for audience in [&free, &bindable] {
            let frame = hub.frame(&begin, audience, Form::Message).await;
            assert!(frame.unwrap().is_some());
        }
        let rules = br#"{"version": 1, "buckets": [{"name": "none", "tables": ["nothing"]}]}"#;
        let rules = crate::rules::RuleSet::from_json(rules).unwrap();
        gateway.set_rules(rules).await.unwrap();
        let frame = hub.frame(&begin, &bindable, Form::Message).await;
        assert!(frame.is_err(), "the rules changed");
        let frame = hub.frame(&begin, &free, Form::Message).await;
        assert!(frame.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_slot_that_was_forgotten_while_it_was_read_counts_nothing() {
        let world = World::open().await;
        world.push("ada", &["r1"]).await;
        let hub = Hub::new(world.gateway(), 1 << 20);
        let audience = Audience::everything();
        let place = Place::Legacy(Seq::ZERO);
        let key = Key::new(&place, &audience, Form::Message);
        let late = hub.slot(&key);
        hub.lock().forget(0, 0);
        let frame = hub.frame(&place, &audience, Form::Message).await;
        let frame = frame.unwrap().unwrap();
        late.set(Arc::clone(&frame)).unwrap();
        hub.settle(&key, &late, frame.bytes.len());
        assert_eq!(hub.lock().bytes, frame.bytes.len(), "counted once");
        // One that is forgotten between its reading and its counting takes nothing from the others.
        let other = Key::new(&Place::Legacy(Seq::MAX), &audience, Form::Event);
        let early = hub.slot(&other);
        early.set(Arc::clone(&frame)).unwrap();
        hub.lock().order.rotate_right(1);
        hub.lock().forget(1, usize::MAX);
        hub.settle(&other, &early, frame.bytes.len());
        assert_eq!(hub.lock().bytes, frame.bytes.len(), "of the first one");
        hub.lock().forget(0, 0);
        let cache = hub.lock();
        assert_eq!((cache.slots.len(), cache.bytes), (0, 0));
    }
}
