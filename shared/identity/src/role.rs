//! Roles, and what each may do: the only place that decides it.

use std::fmt;
use std::str::FromStr;

/// What the holder of a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A coordinator: the only role that clients take for a server.
    Coordinator,
    /// A worker of the fleet.
    Worker,
    /// Someone who watches.
    Viewer,
    /// Someone who watches, and has workers leave.
    Admin,
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Takes tasks, reads the data, commits.
    Work,
    /// Reads snapshots.
    Watch,
    /// Changes something for others, such as draining a worker.
    Change,
}

/// Why a call is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {role} may not {access}: that takes keys of the role {}", takers(*.access))]
pub struct Denied {
    role: Role,
    access: Access,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Coordinator, Self::Worker, Self::Viewer, Self::Admin];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        }
    }

    /// Whether it may do that.
    ///
    /// # Errors
    /// It may not.
    pub fn check(self, access: Access) -> Result<(), Denied> {
        let may = match access {
            Access::Work => self == Self::Worker,
            // A coordinator asks whether the one before it still lives.
            Access::Watch => true,
            Access::Change => self == Self::Admin,
        };
        if may {
            Ok(())
        } else {
            Err(Denied { role: self, access })
        }
    }

    /// The name in its certificates, which TLS verifies: under `.internal`, which nobody can register.
    #[must_use]
    pub fn dns_name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator.quartet.internal",
            Self::Worker => "worker.quartet.internal",
            Self::Viewer => "viewer.quartet.internal",
            Self::Admin => "admin.quartet.internal",
        }
    }
}

fn takers(access: Access) -> String {
    let may = |role: &&Role| role.check(access).is_ok();
    let names: Vec<_> = Role::ALL.iter().filter(may).map(|r| r.as_str()).collect();
    names.join(" or ")
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Work => "work for the fleet",
            Self::Watch => "watch",
            Self::Change => "change anything",
        })
    }
}

/// A name that is no role's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are the roles coordinator, worker, viewer and admin")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, UnknownRole> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == name);
        known.ok_or(UnknownRole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_do_its_own() {
        let may = |role: Role| {
            [Access::Work, Access::Watch, Access::Change].map(|access| role.check(access).is_ok())
        };
        assert_eq!(may(Role::Coordinator), [false, true, false]);
        assert_eq!(may(Role::Worker), [true, true, false]);
        assert_eq!(may(Role::Viewer), [false, true, false]);
        assert_eq!(may(Role::Admin), [false, true, true]);
        let denied = Role::Viewer.check(Access::Change).unwrap_err();
        assert_eq!(
            denied.to_string(),
            "a viewer may not change anything: that takes keys of the role admin"
        );
    }

    #[test]
    fn roles_are_told_by_their_names() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert!(role.dns_name().starts_with(role.as_str()));
        }
        assert_eq!("root".parse::<Role>(), Err(UnknownRole));
    }
}
