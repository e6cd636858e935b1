//! What all statements have in common.

use std::time::Duration;

use hearth_api::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::types::FromSql;
use rusqlite::{Connection, Params, Row, RowIndex};

use crate::{Error, Result};

/// How long a statement waits for another process's lock. A process that commits holds it until the
/// disk has what was written, and on a busy disk that takes tens of seconds.
const BUSY_TIMEOUT: Duration = Duration::from_mins(1);
/// Prepared statements that a connection keeps.
const STATEMENTS: usize = 128;
/// Rows that one step of a sweep removes at most, so that it holds up no other change for long.
pub(crate) const STEP: usize = 1000;

/// Sets up a connection.
pub(crate) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Otherwise SQLite plans a statement anew whenever a value that is compared with an
    // indexed column changes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Runs a statement that returns no rows; how many it changed.
pub(crate) fn run(connection: &Connection, statement: &str, parameters: impl Params) -> Result<usize> {
    Ok(connection.prepare_cached(statement)?.execute(parameters)?)
}

/// All rows.
pub(crate) fn all<T>(
    connection: &Connection,
    query: &str,
    parameters: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// The first row.
pub(crate) fn one<T>(
    connection: &Connection,
    query: &str,
    parameters: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let mut statement = connection.prepare_cached(query)?;
    statement.query(parameters)?.next()?.map(read).transpose()
}

/// The first column of a row that is always there.
pub(crate) fn value<T: FromSql>(connection: &Connection, query: &str, parameters: impl Params) -> Result<T> {
    Ok(connection.prepare_cached(query)?.query_one(parameters, |row| row.get(0))?)
}

/// A column of text, where it lies.
pub(crate) fn text<'row>(row: &'row Row<'_>, column: impl RowIndex) -> Result<&'row str> {
    Ok(row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?)
}

/// A column of text that stands for a value.
pub(crate) fn parsed<T>(
    row: &Row<'_>,
    column: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T> {
    readable(column, text(row, column)?, parse)
}

/// A column of JSON.
pub(crate) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &'static str) -> Result<T> {
    from_json(column, text(row, column)?)
}

/// A column of JSON that may be null.
pub(crate) fn optional_json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: &'static str,
) -> Result<Option<T>> {
    row.get::<_, Option<String>>(column)?.map(|text| from_json(column, &text)).transpose()
}

/// A column of milliseconds since 1970.
pub(crate) fn moment(row: &Row<'_>, column: impl RowIndex) -> Result<Timestamp> {
    Ok(Timestamp::from_millis(row.get(column)?))
}

/// A column of milliseconds since 1970 that may be null.
pub(crate) fn optional_moment(row: &Row<'_>, column: impl RowIndex) -> Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

/// Turns stored text into a value, or says which column holds nonsense.
pub(crate) fn readable<T>(
    column: &'static str,
    text: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T> {
    parse(text).ok_or_else(|| Error::Unreadable { column, value: text.to_owned() })
}

/// Reads JSON.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(column: &'static str, text: &str) -> Result<T> {
    readable(column, text, |text| serde_json::from_str(text).ok())
}

/// Writes JSON.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("records serialise: they hold no maps with non-text keys")
}
