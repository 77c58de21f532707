//! Lambda function: the level-triggered repair loop.
