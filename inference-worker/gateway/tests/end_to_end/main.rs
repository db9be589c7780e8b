//! The gateway on a real chain, with a real worker and with hostile ones. Without the programs in
//! `OPENLEDGER_BIN` there is nothing to test against and the tests say so.

mod crowd;
mod fake;
mod hostile;
mod leaving;
mod scene;
mod served;
