//! The queue against a model.
