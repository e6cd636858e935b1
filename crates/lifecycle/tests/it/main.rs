//! A microVM's life on the fake driver: what the record says, what is left behind, and what a failure does.


mod failures;
mod life;
mod support;
