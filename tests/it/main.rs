//! One integration binary: each of its files is named after what it promises.

mod architecture;
