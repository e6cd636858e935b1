//! What run hooks are yet to be given, sealed.

use hearth_api::MicrovmId;
use rusqlite::{Connection, Transaction, params};

use crate::{Result, rows};

pub(crate) fn put(tx: &Transaction<'_>, id: &MicrovmId, sealed: &[u8]) -> Result<usize> {
    let statement = "INSERT OR REPLACE INTO payloads (microvm, sealed) VALUES (?, ?)";
    rows::run(tx, statement, params![id.as_str(), sealed])
}

pub(crate) fn get(connection: &Connection, id: &MicrovmId) -> Result<Option<Vec<u8>>> {
    let query = "SELECT sealed FROM payloads WHERE microvm = ?";
    rows::one(connection, query, [id.as_str()], |row| Ok(row.get(0)?))
}

pub(crate) fn forget(tx: &Transaction<'_>, id: &MicrovmId) -> Result<usize> {
    rows::run(tx, "DELETE FROM payloads WHERE microvm = ?", [id.as_str()])
}
