//! The rules, the ports and the use cases of the control plane. No SDK: clock, ids and randomness are parameters.
