//! The keys of who leads: an experiment, or the queue.

use quartet_shared::ids::Term;

/// The claims of what is led by one coordinator at a time, in the folder of this name.
#[derive(Clone, Debug)]
pub struct Claims(pub(super) String);

impl Claims {
    /// The folder of the coordinators' claims.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}/coordinators", self.0)
    }

    /// A coordinator's claim of a term.
    #[must_use]
    pub fn claim(&self, term: Term) -> String {
        format!("{}/{:06}.json", self.all(), term.0)
    }

    /// The folder of what [`Self::closed`] names.
    #[must_use]
    pub fn all_closed(&self) -> String {
        format!("{}/closed", self.0)
    }

    /// A coordinator's word that its term has ended in order; of an experiment, that nobody held a lease
    /// then.
    #[must_use]
    pub fn closed(&self, term: Term) -> String {
        format!("{}/{:06}.json", self.all_closed(), term.0)
    }
}
