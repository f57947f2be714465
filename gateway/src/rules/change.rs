//! Changing the rules of a gateway that goes on serving, and having them again after a restart.
//!
//! Steps: compile → the writer keeps rows for both versions → scan every table and merge what it holds → one commit
//! puts the new rules in force → the namespace in the catalog is told, so that a lost database has them again.
//!
//! **Invariant:** nobody is shown a row by rules whose rows are not complete: a gateway whose database was lost or
//! restored makes them again before it serves.

use std::sync::{Arc, PoisonError};

use futures::StreamExt as _;
use lakesync_proto::TableSchema;
use lakesync_providers::row_states;
use tokio::sync::oneshot;

use super::compiled::Rules;
use super::definition::RuleSet;
use super::ledger::{Ruling, binds, covers};
use super::ruling::{self, RulesTask};
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::writer::Task;

/// The property of a namespace that keeps its rules, as JSON.
pub(crate) const PROPERTY: &str = "lakesync.rules";
/// How many rows of old rules are forgotten in one transaction: pushes wait for it.
const FORGET_ROWS: usize = 5_000;

impl Gateway {
    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.ruling().rules)
    }

    /// What is in force since when.
    pub(crate) fn ruling(&self) -> Arc<Ruling> {
        Arc::clone(&self.rulings.borrow())
    }

    /// Puts other rules in force and gives them as they are now: a version that does not go beyond that of the rules
    /// before is raised. Pushes and pulls go on all the while.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the bucket at fault; lake errors when a table cannot be read: the rules stay as they
    /// were.
    ///
    /// # Cancel safety
    /// The change goes on to its end when the future is dropped.
    pub async fn set_rules(self: &Arc<Self>, set: RuleSet) -> Result<Arc<Rules>> {
        let gateway = Arc::clone(self);
        let changing = tokio::spawn(async move {
            let _held = gateway.changing_rules.lock().await;
            gateway.change_rules(set).await
        });
        changing.await.unwrap_or_else(|error| {
            Err(Error::Maintenance {
                gateway: self.id.clone(),
                reason: error.to_string(),
            })
        })
    }

    async fn change_rules(&self, mut set: RuleSet) -> Result<Arc<Rules>> {
        let held = self.rules();
        if held.definition() == Some(&set) {
            return Ok(held);
        }
        set.version = set.version.max(held.version() + 1);
        let rules = Arc::new(Rules::compile(set, &self.live.schemas())?);
        self.fill_and_activate(&rules).await?;
        Ok(self.rules())
    }

    /// Makes the rows of `rules` and puts them in force, durably.
    async fn fill_and_activate(&self, rules: &Arc<Rules>) -> Result<()> {
        self.put_in_force(rules).await?;
        self.keep_in_catalog(rules).await?;
        self.forget_other_rows().await
    }

    async fn put_in_force(&self, rules: &Arc<Rules>) -> Result<()> {
        self.forget_other_rows().await?;
        self.ask_rules(RulesTask::Begin(Arc::clone(rules))).await?;
        let filled = match self.fill(rules).await {
            Ok(()) => {
                self.ask_rules(RulesTask::Activate(self.epoch.clone()))
                    .await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = filled {
            self.ask_rules(RulesTask::Abandon).await?;
            return Err(error);
        }
        Ok(())
    }

    async fn fill(&self, rules: &Rules) -> Result<()> {
        if !binds(rules) {
            return Ok(());
        }
        for view in self.live.views().tables.values() {
            let table = view.table();
            if !covers(rules, table) {
                continue;
            }
            let mut pages = row_states(view, Some(rules.columns(table)), None);
            while let Some(page) = pages.next().await {
                self.ask_rules(RulesTask::Merge(table.clone(), page?))
                    .await?;
            }
        }
        Ok(())
    }

    async fn keep_in_catalog(&self, rules: &Rules) -> Result<()> {
        // A flush gives the fence another token.
        let _held = self.maintenance.lock().await;
        self.put_in_catalog(rules).await
    }

    /// Tells the catalog; whoever calls it holds `maintenance`.
    async fn put_in_catalog(&self, rules: &Rules) -> Result<()> {
        let json = rules.definition().map(RuleSet::to_json);
        let fence = self.fence();
        let held = (lakesync_providers::lake::FENCE, Some(fence.token.as_str()));
        self.components
            .warehouse
            .set_namespace_properties(&self.id, &[held], &[(PROPERTY, json.as_deref())])
            .await?;
        Ok(())
    }

    async fn forget_other_rows(&self) -> Result<()> {
        while self.ask_rules(RulesTask::Forget(FORGET_ROWS)).await? == FORGET_ROWS {}
        Ok(())
    }

    /// Exchanges the rules in force for the same ones compiled for the tables as they are with `schema`. When they ask
    /// for more of a table that was there, as a bucket does that begins to fit it, they come into force anew, by the
    /// next version: what is kept of its rows does not do for them. Whoever calls it holds `maintenance`.
    pub(crate) async fn recompile_rules(&self, schema: &Arc<TableSchema>) -> Result<()> {
        let held = self.rules();
        if held.definition().is_none() {
            return Ok(());
        }
        let mut schemas = self.live.schemas();
        schemas.retain(|known| known.table != schema.table);
        schemas.push(Arc::clone(schema));
        let rules = held.recompile(&schemas);
        if rules.keeps_rows_of(&held) {
            let rules = Arc::new(rules);
            self.ask_rules(RulesTask::Recompiled(rules)).await?;
            return Ok(());
        }
        let rules = Arc::new(rules.raised());
        self.put_in_force(&rules).await?;
        self.put_in_catalog(&rules).await?;
        self.forget_other_rows().await
    }

    /// Has the rules again that were in force when the process ended.
    pub(crate) async fn restore_rules(&self) -> Result<()> {
        let warehouse = &self.components.warehouse;
        let in_catalog = warehouse.namespace_properties(&self.id).await?;
        let in_catalog = in_catalog.get(PROPERTY).cloned();
        let schemas = self.live.schemas();
        // A table may have lost what a bucket asks for while the rules were not in force.
        let compile = |set| Rules::compile(set, &[]).map(|rules| rules.recompile(&schemas));
        let (held, json, complete, fit) = {
            let log = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let held = Ruling::read(|key| log.meta(key), compile)?;
            let epoch = log.meta(ruling::EPOCH)?;
            let complete = epoch.as_deref() == Some(self.epoch.as_ref());
            (
                held,
                log.meta(ruling::RULES)?,
                complete,
                log.meta(ruling::FIT)?,
            )
        };
        if let Some(held) = held
            && complete
        {
            let rules = Arc::clone(&held.rules);
            if fit.is_some_and(|fit| fit != rules.fit()) {
                // A schema changed, and the process ended before the rules did.
                let anew = rules.recompile(&schemas).raised();
                return self.fill_and_activate(&Arc::new(anew)).await;
            }
            self.ask_rules(RulesTask::Restore(held)).await?;
            if json != in_catalog {
                self.keep_in_catalog(&rules).await?;
            }
            return self.forget_other_rows().await;
        }
        // This log is another one than the rows are of: the catalog has the rules, and the tables have the rows.
        let Some(json) = in_catalog.or(json) else {
            return Ok(());
        };
        let rules = compile(RuleSet::from_json(json.as_bytes())?)?;
        self.fill_and_activate(&Arc::new(rules)).await
    }

    async fn ask_rules(&self, task: RulesTask) -> Result<usize> {
        self.ask(|reply: oneshot::Sender<Result<usize>>| Task::Rules(task, reply))
            .await
    }
}
