//! Epoch and fence: which log this is, and that only one writer owns it.
//!
//! Both stand in the catalog as properties of the gateway's namespace. The database keeps the fence that it
//! took last and, before taking the next one, writes it down as pending: a crash between the two is then
//! told from a database that was restored from a copy.
//!
//! ```text
//!   database: fence = a, pending = b      catalog: lakesync.fence ∈ {a, b}  same log, epoch kept
//!   database: anything else               catalog: lakesync.fence = x       other log, new epoch
//! ```
//! A token is `<writer>/<turn>`: a process takes one with a writer of its own when it opens, and every flush gives it
//! another turn. What began before the turn, a fold of minutes say, is still committed after it.
//!
//! **Invariant:** a commit of ours requires that the writer in the fence is this process; whoever takes the fence next
//! ends this process's commits, not its data. So who holds it is also the one who maintains the gateway's tables.

use std::future::Future;

use lakesync_proto::{Epoch, GatewayId};
use lakesync_providers::lake::{Fence, Warehouse};
use uuid::Uuid;

use crate::durable::DurableLog;
use crate::error::{Error, Result};

/// The property of a namespace that names its log's epoch.
pub(crate) const EPOCH: &str = "lakesync.epoch";
/// The property of a namespace that names its writer.
pub(crate) const FENCE: &str = lakesync_providers::lake::FENCE;

/// Gives our fence a new token, so that a copy of the database that was made before is told from it.
///
/// `set_meta` sets a key of the database's `meta`, durably.
pub(crate) async fn renew<F>(
    warehouse: &Warehouse,
    held: &Fence,
    set_meta: impl Fn(&'static str, String) -> F,
) -> Result<Fence>
where
    F: Future<Output = Result<()>>,
{
    let token = format!("{}/{}", held.writer(), Uuid::new_v4());
    set_meta("pending_fence", token.clone()).await?;
    let expected = [(FENCE, Some(held.token.as_str()))];
    let set = [(FENCE, Some(token.as_str()))];
    warehouse
        .set_namespace_properties(&held.namespace, &expected, &set)
        .await?;
    set_meta("fence", token.clone()).await?;
    Ok(Fence {
        namespace: held.namespace.clone(),
        token,
    })
}

/// Whether the catalog's fence is of the writer that holds `held`.
pub(crate) async fn is_ours(warehouse: &Warehouse, held: &Fence) -> Result<bool> {
    let known = warehouse.namespace_properties(&held.namespace).await?;
    Ok(known.get(FENCE).is_some_and(|token| held.is_held_by(token)))
}

/// What was found and taken.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) epoch: Epoch,
    pub(crate) fence: Fence,
    /// The token that this database held until now; none when the log is another one than the catalog's.
    pub(crate) held_before: Option<String>,
}

/// Takes the fence of `gateway` and finds, or begins, the epoch of its log.
pub(crate) async fn take(
    warehouse: &Warehouse,
    gateway: &GatewayId,
    log: &mut DurableLog,
) -> Result<Taken> {
    warehouse.create_namespace(gateway).await?;
    let known = warehouse.namespace_properties(gateway).await?;
    let (held, epoch) = (known.get(FENCE).cloned(), known.get(EPOCH).cloned());
    let ours = [log.meta("fence")?, log.meta("pending_fence")?];
    let same_log = held.is_some() && ours.contains(&held);
    let epoch = match epoch {
        Some(epoch) if same_log => epoch,
        _ => Uuid::new_v4().to_string(),
    };
    let token = format!("{}/{}", Uuid::new_v4(), Uuid::new_v4());
    log.set_meta("pending_fence", &token)?;
    let set = [(EPOCH, Some(epoch.as_str())), (FENCE, Some(token.as_str()))];
    warehouse
        .set_namespace_properties(gateway, &[(FENCE, held.as_deref())], &set)
        .await?;
    log.set_meta("fence", &token)?;
    let fence = Fence {
        namespace: gateway.clone(),
        token,
    };
    let epoch = Epoch::parse(&epoch).map_err(|error| Error::Catalog {
        gateway: gateway.clone(),
        reason: format!("the property {EPOCH} is damaged: {error}"),
    })?;
    Ok(Taken {
        epoch,
        fence,
        held_before: held.filter(|_| same_log),
    })
}
