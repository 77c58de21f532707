//! Every file of `events/`, fed to the function that it is for.
