//! The commands, a file for each.

pub(crate) mod counters;
pub(crate) mod curl;
pub(crate) mod egress;
pub(crate) mod events;
pub(crate) mod forward;
pub(crate) mod image_build;
pub(crate) mod image_delete;
pub(crate) mod image_report;
pub(crate) mod images;
pub(crate) mod logs;
pub(crate) mod ps;
pub(crate) mod run;
pub(crate) mod shell;
pub(crate) mod state;
pub(crate) mod token;
