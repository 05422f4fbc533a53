//! Topics against a model.
