//! The way to the gateway: a sync thread that can be stopped and started again.
//!
//! Invariant: nothing here keeps the application waiting; a gateway that is away shows in the status and nowhere else.

use std::sync::mpsc::{Receiver, channel};

use lakesync_client::{
    HttpTransport, LocalDb, Phase, SessionOptions, Status, SyncHandle, Transport,
};
use lakesync_proto::TableDefinition;

use crate::todos;

/// The sync of one database.
#[derive(Debug)]
pub struct Link {
    db: LocalDb,
    transport: Option<HttpTransport>,
    state: State,
}

#[derive(Debug)]
enum State {
    Offline,
    /// The thread that looks whether the gateway has the table, and then syncs.
    Starting(Receiver<SyncHandle>),
    Running(SyncHandle),
}

impl Link {
    /// A way that is not taken yet; without a transport there is none.
    pub fn new(db: LocalDb, transport: Option<HttpTransport>) -> Link {
        Link {
            db,
            transport,
            state: State::Offline,
        }
    }

    pub fn is_online(&self) -> bool {
        !matches!(self.state, State::Offline)
    }

    pub fn go_online(&mut self) {
        let (Some(transport), State::Offline) = (self.transport.clone(), &self.state) else {
            return;
        };
        let (sender, receiver) = channel();
        let db = self.db.clone();
        std::thread::spawn(move || {
            create_table(&transport);
            let handle = SyncHandle::start(db, transport, SessionOptions::default());
            // When the application has gone offline meanwhile, the handle comes back here and ends.
            drop(sender.send(handle));
        });
        self.state = State::Starting(receiver);
    }

    pub fn go_offline(&mut self) {
        if let State::Running(handle) = std::mem::replace(&mut self.state, State::Offline) {
            handle.stop();
        }
    }

    pub fn toggle(&mut self) {
        match self.is_online() {
            true => self.go_offline(),
            false => self.go_online(),
        }
    }

    /// How syncing goes.
    pub fn status(&mut self) -> Status {
        if let State::Starting(receiver) = &self.state
            && let Ok(handle) = receiver.try_recv()
        {
            self.state = State::Running(handle);
        }
        let mut status = self.db.status();
        status.phase = match &self.state {
            State::Offline => Phase::Offline,
            State::Starting(_) => Phase::Connecting,
            State::Running(_) => status.phase,
        };
        status
    }
}

/// Makes the table on the gateway when it has none, and adds the columns that it lacks, which a server without
/// authentication, or an admin's token, allows. Columns that this program does not know stay.
pub fn create_table(transport: &dyn Transport) {
    let Ok(schemas) = transport.schemas() else {
        return;
    };
    let wanted = TableDefinition::from_json(todos::TABLE.as_bytes());
    let wanted = wanted.expect("the example's own table is well-formed");
    let known = schemas.iter().find(|schema| schema.table == wanted.table);
    let mut definition = match known {
        Some(schema) => schema.definition(),
        None => wanted.clone(),
    };
    for column in wanted.columns {
        if definition.column(column.name.as_ref()).is_none() {
            definition.columns.push(column);
        }
    }
    if known.is_none_or(|schema| schema.definition() != definition) {
        // A refusal shows in the status: the gateway has no place for the edits, and they wait.
        drop(transport.put_schema(&definition));
    }
}
