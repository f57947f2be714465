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
    ClientId, Cursor, Op, PullPage, Seq, ServerBody, encode_broadcast, encode_page_json,
    encode_server_frame, page_message,
};
use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::pull::{Pull, Since};
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
    /// `page`, which was read from `place`; none when it leads nowhere.
    pub(super) fn of(page: PullPage, place: &Place, form: Form) -> Option<Arc<Self>> {
        let authors = Authors::of(&page);
        Self::by(authors, page, place, form)
    }

    /// `page`, which was read for `client` alone. A legacy client is not sent its own deltas, but a DELETE may be the
    /// withdrawal of its row.
    pub(super) fn for_client(
        mut page: PullPage,
        (place, form): (&Place, Form),
        client: &ClientId,
    ) -> Option<Arc<Self>> {
        if matches!(place, Place::Legacy(_)) && form != Form::Event {
            page.deltas
                .retain(|delta| delta.delta.client_id != *client || delta.delta.op == Op::Delete);
        }
        Self::by(Authors::default(), page, place, form)
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
pub(super) struct Authors(Vec<ClientId>);

impl Authors {
    fn of(page: &PullPage) -> Self {
        let mut authors: Vec<ClientId> = Vec::new();
        for delta in &page.deltas {
            let author = &delta.delta.client_id;
            // Pushes are runs of one author, so the last one is nearly always the one.
            if authors.last() != Some(author) && !authors.contains(author) {
                authors.push(author.clone());
            }
        }
        Self(authors)
    }

    /// Whether `client` is among them, and whether anybody else is.
    pub(super) fn include(&self, client: &ClientId) -> (bool, bool) {
        let own = self.0.contains(client);
        (own, self.0.len() > usize::from(own))
    }
}

/// The live frames of one gateway.
#[derive(Debug)]
pub(super) struct Hub {
    gateway: Arc<Gateway>,
    bytes_max: usize,
    cache: Mutex<Cache>,
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

type Slot = Arc<OnceCell<Arc<Frame>>>;

#[derive(Debug, Default)]
struct Cache {
    slots: HashMap<Key, Slot>,
    /// The oldest first.
    order: VecDeque<Key>,
    bytes: usize,
}

impl Hub {
    pub(super) fn new(gateway: Arc<Gateway>, bytes_max: usize) -> Self {
        Self {
            gateway,
            bytes_max,
            cache: Mutex::default(),
        }
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
        if place.seq() >= *self.gateway.visible().borrow() && is_of(place, audience) {
            return Ok(None);
        }
        let key = Key {
            place: place.clone(),
            rules: audience.rules(),
            claims: audience.claims(),
            free: audience.is_free(),
            form,
        };
        let slot = self.slot(&key);
        let mut fresh = false;
        let read = slot.get_or_try_init(|| {
            fresh = true;
            self.read(place, audience, form)
        });
        let frame = read.await.map(Arc::clone);
        if fresh {
            self.settle(&key, frame.as_ref().map_or(0, |frame| frame.bytes.len()));
        }
        // A frame that is remembered may be of rules that are not in force any more.
        self.gateway.check_in_force(audience).map_err(Error::from)?;
        match frame {
            Ok(frame) => Ok(Some(frame)),
            Err(Miss::Nothing) => Ok(None),
            Err(Miss::Failed(error)) => Err(error),
        }
    }

    /// A legacy frame without the deltas of `client`: of its own making, for the one who pushed among others.
    pub(super) async fn frame_without(
        &self,
        place: &Place,
        audience: &Audience,
        form: Form,
        client: &ClientId,
    ) -> Result<Bytes> {
        let mut page = self.page(place, audience).await?;
        page.deltas.retain(|delta| delta.delta.client_id != *client);
        Ok(encode(page, place, form))
    }

    async fn read(
        &self,
        place: &Place,
        audience: &Audience,
        form: Form,
    ) -> Result<Arc<Frame>, Miss> {
        let page = self.page(place, audience).await.map_err(Miss::Failed)?;
        Frame::of(page, place, form).ok_or(Miss::Nothing)
    }

    async fn page(&self, place: &Place, audience: &Audience) -> Result<PullPage> {
        let began = Instant::now();
        let pull = Pull {
            since: place.since(),
            limit: FRAME_DELTAS_MAX,
            schemas: None,
        };
        let page = self.gateway.pull_as(&pull, audience).await;
        let deltas = page.as_ref().map_or(0, |page| page.deltas.len());
        let stats = self.gateway.stats();
        stats.pull(Ended::of(&page), began.elapsed(), deltas);
        let mut page = page?;
        page.notes.next = Some(next_cursor(&page, audience));
        Ok(page)
    }

    fn slot(&self, key: &Key) -> Slot {
        let mut cache = self.lock();
        if let Some(slot) = cache.slots.get(key) {
            return Arc::clone(slot);
        }
        let slot = Slot::default();
        cache.slots.insert(key.clone(), Arc::clone(&slot));
        cache.order.push_back(key.clone());
        cache.forget(FRAMES_MAX, self.bytes_max);
        slot
    }

    /// Counts a frame that was just read; one that could not be read is no slot any more.
    fn settle(&self, key: &Key, bytes: usize) {
        let mut cache = self.lock();
        match cache.slots.get(key) {
            Some(slot) if slot.initialized() => {
                cache.bytes += bytes;
                cache.forget(FRAMES_MAX, self.bytes_max);
            }
            Some(_) => drop(cache.slots.remove(key)),
            None => {}
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
            if let Some(slot) = self.slots.remove(&oldest) {
                let bytes = slot.get().map_or(0, |frame| frame.bytes.len());
                self.bytes = self.bytes.saturating_sub(bytes);
            }
        }
    }
}

enum Miss {
    Nothing,
    Failed(Error),
}

/// Whether a native place is of the rules and claims that are in force; if not, a pull says what to do.
fn is_of(place: &Place, audience: &Audience) -> bool {
    match place {
        Place::Native(Some(cursor)) => {
            (cursor.rules, cursor.claims) == (audience.rules(), audience.claims())
        }
        _ => true,
    }
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
}
