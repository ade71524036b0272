//! Who may call what: [`Role::check`](quartet_identity::Role::check) decides, here it is asked.

use quartet_identity::Access;
use tonic::service::Interceptor;
use tonic::{Extensions, Request, Status};

use crate::listener::ConnectionInfo;

/// Whose calls are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Everybody's, and only programs of this machine can call.
    Local,
    /// Everybody's, from other machines, too.
    Insecure,
    /// Those of who shows keys of a role that may.
    Keys,
}

impl Policy {
    /// Whether a call may do that; with keys, who makes it.
    pub(super) fn check(self, call: &Extensions, access: Access) -> Result<Option<&str>, Status> {
        if self != Self::Keys {
            return Ok(None);
        }
        let connection = call.get::<ConnectionInfo>();
        let holder = connection.and_then(ConnectionInfo::holder).ok_or_else(|| {
            Status::unauthenticated(
                "this coordinator answers only who shows keys of its fleet: name their folder with --tls \
                 (see `coordinator keys`), and leave --insecure out",
            )
        })?;
        match holder.role.check(access) {
            Ok(()) => Ok(Some(&holder.name)),
            Err(denied) => Err(Status::permission_denied(format!(
                "the keys of {}: {denied}",
                holder.name
            ))),
        }
    }

    /// Looks at every call of a service, before it is read.
    pub(super) fn guard(self, access: Access) -> impl Interceptor + Clone {
        move |call: Request<()>| {
            self.check(call.extensions(), access)?;
            if let Some(connection) = call.extensions().get::<ConnectionInfo>() {
                connection.set_called();
            }
            Ok(call)
        }
    }
}
