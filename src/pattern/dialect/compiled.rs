use crate::pattern::route::Route;

/// What the text of a pattern is compiled to.
pub(in crate::pattern) struct Compiled {
    pub(in crate::pattern) canonical: String,
    /// At least one.
    pub(in crate::pattern) routes: Vec<Route>,
}
