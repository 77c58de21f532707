//! Lambda function: the public routes.
