//! Pure decisions over values: no file, no clock, no process.
