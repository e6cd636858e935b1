//! Records of a world, also such as nobody would have written.

use hearth_api::MicrovmId;
use hearth_records::{Cause, MicrovmRecord, Microvms as _, Origin, Written};

use crate::support::World;

impl World {
    /// Writes into a record what nobody would have written in a test.
    pub(crate) async fn rewrite(&self, id: &MicrovmId, change: impl FnOnce(&mut MicrovmRecord)) {
        let was = self.record(id).await;
        let mut to = was.clone();
        change(&mut to);
        to.generation += 1;
        let written = self.store.change_microvm(&was, &to, &Origin::of(Cause::Host)).await.unwrap();
        assert_eq!(written, Written::Yes);
    }

    pub(crate) async fn record(&self, id: &MicrovmId) -> MicrovmRecord {
        self.store.microvm(id).await.unwrap().unwrap()
    }
}
