//! Running one statement: fresh views, then DataFusion or a procedure.
//!
//! **Invariant:** a statement gets a catalog of its own whose views are taken at one moment; functions and
//! settings are shared by all statements.

use std::fmt;
use std::sync::Arc;

use datafusion::catalog::MemoryCatalogProviderList;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{DataFrame, SessionContext};
use lakesync_providers::lake::Warehouse;
use lakesync_providers::{LakeCatalog, WriteSink, session};

use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::procedures;
use crate::syntax::LakeStatement;

/// What a statement may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Queries only.
    Read,
    /// Queries, `INSERT` and `CALL`.
    Write,
    /// All that, and DataFusion's own statements: views, settings, external files.
    Everything,
}

/// Makes a session a statement from one that is made once.
pub(crate) struct Runner {
    template: SessionContext,
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
        }
    }

    pub(crate) async fn run(
        &self,
        lake: &Lake,
        statement: LakeStatement,
        access: Access,
    ) -> Result<DataFrame> {
        match statement {
            LakeStatement::Query(statement) => {
                let ctx = self.session(lake);
                let plan = ctx.state().statement_to_plan(*statement).await?;
                options(access)
                    .verify_plan(&plan)
                    .map_err(|_| not_allowed(access))?;
                Ok(ctx.execute_logical_plan(plan).await?)
            }
            LakeStatement::ExplainCall(explain) => {
                procedures::explain(&self.template, lake, &explain.call).await
            }
            LakeStatement::Call(_) if access == Access::Read => Err(not_allowed(access)),
            LakeStatement::Call(call) => procedures::call(&self.template, lake, &call).await,
        }
    }

    fn session(&self, lake: &Lake) -> SessionContext {
        let state = SessionStateBuilder::new_from_existing(self.template.state())
            .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()))
            .build();
        let ctx = SessionContext::new_with_state(state);
        let mut catalog = LakeCatalog::default();
        for gateway in lake.gateways() {
            let sink = Arc::clone(gateway) as Arc<dyn WriteSink>;
            catalog = catalog.with_gateway(gateway.live().views(), Some(sink));
        }
        ctx.register_catalog("lake", Arc::new(catalog));
        ctx
    }
}

fn options(access: Access) -> SQLOptions {
    let everything = access == Access::Everything;
    SQLOptions::new()
        .with_allow_ddl(everything)
        .with_allow_statements(everything)
        .with_allow_dml(access != Access::Read)
}

fn not_allowed(access: Access) -> Error {
    Error::Invalid(match access {
        Access::Read => {
            "this endpoint only reads: SELECT, EXPLAIN and SHOW. Send INSERT and CALL to POST /v1/admin/sql".to_owned()
        }
        _ => "this endpoint takes SELECT, INSERT and CALL; create tables with POST /v1/admin/schema".to_owned(),
    })
}
