//! The neighbours over their HTTP interface, with real signatures.

mod logs;
mod s3;
mod sts;
mod support;
