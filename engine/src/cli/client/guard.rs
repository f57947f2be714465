//! What `lakesync client sql` does not do: change the client's own tables, or the shape of a synced one.
//!
//! Invariant: what it lets pass leaves a file that the client still reads and syncs.

use lakesync_client::rusqlite::{Connection, Result};

/// How the names begin that are the client's own.
const OWN: &str = "_lakesync_";

/// The synced tables, and how each was made.
#[derive(Debug)]
pub(super) struct Shapes(Vec<(String, String)>);

impl Shapes {
    /// A table is synced when it has triggers that capture.
    pub(super) fn of(connection: &Connection) -> Result<Shapes> {
        let sql = r"SELECT name, sql FROM sqlite_schema AS t WHERE type = 'table' AND EXISTS (
            SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = t.name AND name LIKE '\_lakesync\_%' ESCAPE '\')
            ORDER BY name";
        let mut statement = connection.prepare(sql)?;
        let shapes = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Shapes(shapes.collect::<Result<_>>()?))
    }

    /// Says so when a table is not any more as it was.
    pub(super) fn refuse_change(&self, connection: &Connection) -> Result<Option<String>> {
        let now = Shapes::of(connection)?;
        let changed = self.0.iter().find(|shape| !now.0.contains(shape));
        Ok(changed.map(|(table, _)| {
            format!(
                "{table} is synced, so SQL may not drop or alter it: its columns are those of its schema, to which \
                 `lakesync client init --schema` and the gateway add"
            )
        }))
    }
}

/// Says so when a statement that writes names a table or trigger of the client.
pub(super) fn refuse_own(sql: &str) -> Option<String> {
    let at = sql.to_ascii_lowercase().find(OWN)?;
    let mut words = sql[at..].split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let name = words.next().unwrap_or(OWN);
    Some(format!(
        "{name} is the client's own: it may be read, and no statement that writes may name it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_clients_is_found_however_it_is_written() {
        for sql in [
            "delete from _lakesync_outbox",
            "DELETE FROM main.\"_LakeSync_Outbox\"",
        ] {
            let said = refuse_own(sql).unwrap();
            assert!(
                said.to_lowercase().contains("_lakesync_outbox is"),
                "{said}"
            );
        }
        assert_eq!(refuse_own("delete from lakesync_outbox"), None);
    }
}
