//! The only code that opens a URL given by a user.
