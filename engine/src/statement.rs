//! Running one statement: fresh views, then DataFusion or a procedure.
//!
//! **Invariants:** of gateways that the caller does not reach nothing exists: no table, no name in
//! `information_schema`, no word in an error · a statement gets a catalog and a session of its own, whose views are taken at one moment;
//! nothing that it could set or define outlives it, so what would be forgotten is refused.

use std::fmt;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::catalog::MemoryCatalogProviderList;
use datafusion::catalog::information_schema::INFORMATION_SCHEMA;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::prelude::{DataFrame, SessionContext};
use datafusion::sql::parser::Statement;
use lakesync_gateway::SqlWriter;
use lakesync_gateway::auth::Identity;
use lakesync_proto::GatewayId;
use lakesync_providers::lake::Warehouse;
use lakesync_providers::{LakeCatalog, begun_at, register, session};

use crate::ddl::{self, Caller};
use crate::dml;
use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::procedures::{self, Target};
use crate::syntax::{LakeStatement, pin};

/// What a statement may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Queries only.
    Read,
    /// Queries, `INSERT`, `UPDATE`, `DELETE`, `MERGE`, `CALL`, and the statements about tables.
    Write,
    /// All that, and `COPY … TO`, which writes files wherever this process may.
    Everything,
}

/// Who runs a statement, and what it may do.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// What it may do.
    pub access: Access,
    /// Who asks; only the gateways that it reaches exist.
    pub identity: &'a Identity,
}

/// Makes a session a statement from one that is made once.
pub(crate) struct Runner {
    template: SessionContext,
    warehouse: Warehouse,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").finish_non_exhaustive()
    }
}

impl Runner {
    pub(crate) fn new(warehouse: &Warehouse) -> Self {
        Self {
            template: session(warehouse),
            warehouse: warehouse.clone(),
        }
    }

    pub(crate) async fn run(
        &self,
        lake: &Lake,
        statement: LakeStatement,
        grant: Grant<'_>,
        gateway: &GatewayId,
    ) -> Result<DataFrame> {
        let gateway = lake.gateway_for(gateway.as_ref(), grant.identity)?;
        let template = &self.template;
        match statement {
            LakeStatement::Query(statement) => {
                let (ctx, catalog) = self.session(lake, grant.identity, gateway.id())?;
                // Not `ctx.state()`, which would take another `now()`: a statement has one.
                let state = ctx.state_ref().read().clone();
                let mut statement = *statement;
                pin(&mut statement, &state)?;
                if lists_tables(&state, &statement)? {
                    let listed = catalog.list_foreign().await;
                    listed.map_err(DataFusionError::from)?;
                }
                let plan = Box::pin(dml::plan(&state, statement)).await?;
                check(&plan, grant.access)?;
                Ok(DataFrame::new(state, plan))
            }
            LakeStatement::ExplainCall(explain) => {
                let target = Target::new(lake, grant.identity, &gateway);
                procedures::explain(template, &explain.call, target).await
            }
            LakeStatement::Call(_) if grant.access == Access::Read => {
                Err(Error::Invalid(READS_ONLY.to_owned()))
            }
            LakeStatement::Ddl(ddl) if grant.access == Access::Read && !ddl.reads() => {
                Err(Error::Invalid(READS_ONLY.to_owned()))
            }
            LakeStatement::Ddl(ddl) => {
                let caller = Caller {
                    runner: self,
                    lake,
                    grant,
                    gateway: gateway.id(),
                };
                ddl::run(caller, ddl).await
            }
            LakeStatement::Call(call) => {
                let target = Target::new(lake, grant.identity, &gateway);
                procedures::call(template, &call, target).await
            }
        }
    }

    /// Rows that are there already, as an answer.
    pub(crate) fn answer(&self, batch: RecordBatch) -> Result<DataFrame> {
        Ok(self.template.read_batch(batch)?)
    }

    fn session(
        &self,
        lake: &Lake,
        identity: &Identity,
        gateway: &GatewayId,
    ) -> Result<(SessionContext, Arc<LakeCatalog>)> {
        let config = self.template.copied_config();
        let config = config.with_default_catalog_and_schema("lake", gateway.to_string());
        let state = SessionStateBuilder::new_from_existing(self.template.state())
            .with_config(config)
            .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()))
            .with_execution_props(begun_at(lake.clock().now_ms()))
            .build();
        let ctx = SessionContext::new_with_state(state);
        let catalog = LakeCatalog::over(self.warehouse.clone());
        let mut catalog = catalog.with_default(gateway.as_ref());
        let reached = lake.gateways();
        for gateway in reached.filter(|gateway| identity.reaches(gateway.id().as_ref())) {
            let views = gateway.live().views();
            let sink = SqlWriter::new(gateway, identity.subject.as_ref());
            catalog = catalog.with_gateway(views, Some(Arc::new(sink)));
        }
        let catalog = Arc::new(catalog);
        register(&ctx, "lake", &catalog).map_err(DataFusionError::from)?;
        Ok((ctx, catalog))
    }
}

/// Whether a statement asks which tables there are.
fn lists_tables(state: &SessionState, statement: &Statement) -> Result<bool> {
    let named = state.resolve_table_references(statement)?;
    Ok(named
        .iter()
        .any(|table| table.schema() == Some(INFORMATION_SCHEMA)))
}

const READS_ONLY: &str = "this endpoint only reads: SELECT, EXPLAIN, SHOW and DESCRIBE. Send INSERT, UPDATE, DELETE, MERGE, CALL, CREATE and ALTER \
     TABLE to POST /v1/admin/sql";
const COPY: &str = "COPY … TO writes files, so a server does not run it; take the rows from the answer (as in \
     `lakesync sql --format csv`), or stop the server and run it with `lakesync sql`";
const FILES: &str =
    "SQL does not read files from outside; load the file into a table with `lakesync push`";
const TABLES: &str = "this is no statement about tables that LakeSync has, or not inside EXPLAIN; CREATE TABLE and ALTER TABLE make \
     and change tables, and an index is not needed";
const SESSION: &str = "every statement has a session of its own: settings, views, functions, schemas, prepared statements and \
     transactions are not kept between statements; say it inside the statement, a view as a WITH query";

/// Refuses what the statement may not do, anywhere in its plan: `EXPLAIN ANALYZE` runs what it explains.
fn check(plan: &LogicalPlan, access: Access) -> Result<()> {
    let mut refusal = None;
    plan.apply_with_subqueries(|node| {
        refusal = refused(node, access);
        Ok(match refusal {
            Some(_) => TreeNodeRecursion::Stop,
            None => TreeNodeRecursion::Continue,
        })
    })?;
    match refusal {
        Some(text) => Err(Error::Invalid(text.to_owned())),
        None => Ok(()),
    }
}

fn refused(node: &LogicalPlan, access: Access) -> Option<&'static str> {
    match node {
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(_)) => Some(FILES),
        LogicalPlan::Ddl(
            DdlStatement::CreateMemoryTable(_)
            | DdlStatement::DropTable(_)
            | DdlStatement::CreateIndex(_),
        ) => Some(TABLES),
        LogicalPlan::Ddl(_) | LogicalPlan::Statement(_) => Some(SESSION),
        LogicalPlan::Copy(_) if access != Access::Everything => Some(COPY),
        LogicalPlan::Dml(_) if access == Access::Read => Some(READS_ONLY),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lakesync_proto::ManualClock;

    use super::*;

    async fn lake() -> (Lake, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let lake = Lake::open(folder.path()).await.unwrap();
        let table = r#"{"table": "t", "columns": [{"name": "v", "type": "json"}]}"#;
        lake.create_table(table).await.unwrap();
        (lake, folder)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_would_be_forgotten_is_refused_with_what_to_do_instead() {
        let (lake, _folder) = lake().await;
        for (sql, said) in [
            ("explain create table u (a int)", "not inside EXPLAIN"),
            ("drop table t", "DELETE FROM t"),
            ("create index i on t (v)", "an index is not needed"),
            (
                "create view w as select * from t",
                "not kept between statements",
            ),
            ("drop view w", "not kept between statements"),
            ("create schema s", "not kept between statements"),
            (
                "set datafusion.execution.batch_size = 7",
                "not kept between statements",
            ),
            (
                "reset datafusion.execution.batch_size",
                "not kept between statements",
            ),
            ("prepare p as select 1", "not kept between statements"),
            ("start transaction", "not kept between statements"),
            (
                "create external table u (a int) stored as csv location '/tmp/u.csv'",
                "lakesync push",
            ),
        ] {
            let error = lake.sql(sql).await.unwrap_err();
            assert!(error.to_string().contains(said), "{sql}: {error}");
            assert!(error.is_callers(), "{sql}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_only_reads_describes_tables_and_changes_none() {
        let (lake, _folder) = lake().await;
        let identity = Identity::anyone();
        let grant = Grant {
            access: Access::Read,
            identity: &identity,
        };
        let home = crate::lake::default_gateway();
        for (sql, reads) in [
            ("describe t", true),
            ("show create table t", true),
            ("create table u (a int)", false),
            ("create table if not exists t as select 1 as a", false),
            ("alter table t add column a int", false),
        ] {
            let statement = crate::syntax::parse(sql).unwrap().remove(0);
            let ran = lake.run_as(statement, grant, &home).await;
            assert_eq!(ran.is_ok(), reads, "{sql}");
            if let Err(error) = ran {
                assert!(error.to_string().contains("only reads"), "{sql}: {error}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn changes_of_one_table_at_a_time_do_not_undo_one_another() {
        let (lake, _folder) = lake().await;
        let add = |n: usize| {
            let lake = lake.clone();
            async move {
                let sql = format!("alter table t add column c{n} int");
                lake.sql(&sql).await.map(drop).unwrap();
                lake.sql("create table one (a int)").await.is_ok()
            }
        };
        let made = futures::future::join_all((0..8).map(add)).await;
        assert_eq!(made.iter().filter(|made| **made).count(), 1);
        let view = lake.gateway("public").unwrap().live().view("t").unwrap();
        assert_eq!((view.schema.columns.len(), view.schema.version), (9, 9));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_word_of_sql_comes_back_as_the_name_of_a_column() {
        use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
        let (lake, _folder) = lake().await;
        let names = ALL_KEYWORDS.iter().map(|word| word.to_ascii_lowercase());
        let names: Vec<_> = names
            .filter_map(|name| lakesync_proto::ColumnName::parse(&name).ok())
            .collect();
        for (n, names) in names.chunks(400).enumerate() {
            let columns = names
                .iter()
                .map(|name| serde_json::json!({"name": name, "type": "long"}));
            let columns: Vec<_> = columns.collect();
            let table = format!("w{n}");
            let body = serde_json::json!({
                "table": table, "columns": columns, "primaryKey": [names[0]],
                "partitionBy": [format!("bucket(2, {})", names[1]), names[2]], "sortBy": [names[3], format!("{} desc", names[4])],
            });
            let made = lake.create_table(&body.to_string()).await.unwrap();
            let sql = format!("show create table {table}");
            let rows = lake.sql(&sql).await.unwrap().collect().await.unwrap();
            let shown = arrow::util::display::array_value_to_string(rows[0].column(3), 0).unwrap();
            let again = shown.replacen(&format!(".{table} ("), &format!(".{table}_again ("), 1);
            lake.sql(&again)
                .await
                .unwrap_or_else(|error| panic!("{error}: {again}"));
            let view = lake
                .gateway("public")
                .unwrap()
                .live()
                .view(&format!("{table}_again"));
            let mut other = view.unwrap().schema.as_ref().clone();
            other.table = made.table.clone();
            assert_eq!(other, *made);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn copy_writes_files_for_the_owner_of_the_process() {
        let (lake, folder) = lake().await;
        let file = folder.path().join("out.csv");
        let sql = format!("copy (select 7 as n) to '{}'", file.display());
        lake.sql(&sql).await.unwrap().collect().await.unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "n\n7\n");
        let plan = lake.sql(&format!("explain {sql}")).await.unwrap();
        assert!(plan.collect().await.unwrap()[0].num_rows() > 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn snapshots_are_stamped_by_the_lakes_clock() {
        let folder = tempfile::tempdir().unwrap();
        let year_2100 = ManualClock::new(4_102_444_800_000);
        let lake = Lake::builder(folder.path()).with_clock(Arc::new(year_2100));
        let lake = lake.open().await.unwrap();
        let table = r#"{"table": "t", "columns": [{"name": "v", "type": "json"}]}"#;
        lake.create_table(table).await.unwrap();
        for sql in [
            "insert into t (v) values ('{ \"a\": 1 }')",
            "call system.flush('t')",
        ] {
            lake.sql(sql).await.unwrap().collect().await.unwrap();
        }
        let sql = "select cast(committed_at as varchar) as at from t$snapshots";
        let rows = lake.sql(sql).await.unwrap().collect().await.unwrap();
        let shown = arrow::util::display::array_value_to_string(rows[0].column(0), 0).unwrap();
        assert!(shown.starts_with("2100-01-01"), "{shown}");
    }
}
