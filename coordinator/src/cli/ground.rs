//! What a coordinator of any kind needs first: its keys, its address and its store.

use std::io;
use std::net::SocketAddr;

use quartet_identity::folder::DEFAULT_DAYS;
use quartet_identity::server::ServerKeys;
use quartet_identity::session::Sessions;
use quartet_identity::{KeyError, KeyFolder, Role, client};
use quartet_proto::channel::Connector;
use quartet_shared::shutdown::Shutdown;
use quartet_shared::terminal::Console;
use quartet_store::Store;
use tokio::net::TcpListener;

use super::Args;
use crate::local::{LocalFleet, LocalFleetConfig};
use crate::server::{Contact, Exits, Policy};

/// The address is not to be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address}; is another coordinator running? --listen takes another address"
)]
pub(super) struct CannotListen {
    address: SocketAddr,
    source: io::Error,
}

/// Everybody could call.
#[derive(Debug, thiserror::Error)]
#[error(
    "without keys, whoever reaches {0} could read the data and command the fleet: make some with \
     `coordinator keys`, or say --insecure where only friends reach it"
)]
pub(super) struct Unprotected(SocketAddr);

/// What a coordinator stands on.
pub(super) struct Ground {
    pub(super) shutdown: Shutdown,
    keys: Option<KeyFolder>,
    pub(super) policy: Policy,
    pub(super) server_keys: Option<ServerKeys>,
    pub(super) sessions: Option<Sessions>,
    pub(super) contact: Contact,
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) store: Store,
}

impl Ground {
    /// Listens, and looks at the store. `None` if a signal came first.
    ///
    /// # Errors
    /// The keys, the address or the store cannot be used.
    pub(super) async fn prepare(args: &Args, console: &Console) -> anyhow::Result<Option<Self>> {
        let shutdown = Shutdown::on_signals()?;
        let keys = keys_to_use(args, console)?;
        let policy = match (&keys, args.listen.ip().is_loopback()) {
            (Some(_), _) => Policy::Keys,
            (None, true) => Policy::Local,
            (None, false) if args.keys.insecure => Policy::Insecure,
            (None, false) => return Err(Unprotected(args.listen).into()),
        };
        let server_keys = keys.as_ref().map(ServerKeys::read).transpose()?;
        let sessions = keys.as_ref().map(Sessions::of).transpose()?;
        let (connector, plain_connector) = match &keys {
            Some(keys) => (
                client::connector(keys, Role::Coordinator)?,
                Some(Connector::tcp()),
            ),
            None => (Connector::tcp(), None),
        };
        let bound = TcpListener::bind(args.listen).await;
        let listener = bound.map_err(|source| CannotListen {
            address: args.listen,
            source,
        })?;
        let address = listener.local_addr()?;
        if policy == Policy::Insecure {
            tracing::warn!(%address, "insecure: whoever reaches this address may do everything");
        }
        let store = Store::open(&args.store)?;
        tokio::select! {
            checked = store.check() => checked?,
            () = shutdown.triggered() => return Ok(None),
        }
        let reached_at = match address.ip().is_unspecified() {
            true => format!("{}:{}", quartet_shared::host::name(), address.port()),
            false => address.to_string(),
        };
        Ok(Some(Self {
            shutdown,
            keys,
            policy,
            server_keys,
            sessions,
            contact: Contact {
                address: reached_at,
                connector,
                plain_connector,
            },
            listener,
            address,
            store,
        }))
    }

    /// How to start the workers of this machine, if they are to be started; the outer `None` if a signal came
    /// first.
    ///
    /// # Errors
    /// It cannot be found out.
    pub(super) async fn local_fleet(
        &self,
        args: &Args,
    ) -> anyhow::Result<Option<Option<LocalFleetConfig>>> {
        if !args.local {
            return Ok(Some(None));
        }
        let keys = self.keys.as_ref().map(|keys| keys.path().to_owned());
        // The GPUs' driver may take a while.
        tokio::select! {
            fleet = LocalFleetConfig::new(args.workers, args.cpu, self.address, keys) => {
                let stay = args.serve;
                Ok(Some(Some(LocalFleetConfig { stay, ..fleet? })))
            }
            () = self.shutdown.triggered() => Ok(None),
        }
    }

    /// Starts the workers of this machine, or says how others are started.
    ///
    /// # Errors
    /// A worker cannot be started.
    pub(super) fn start_workers(
        &self,
        args: &Args,
        fleet: Option<&LocalFleetConfig>,
        exits: &Exits,
        console: &Console,
    ) -> anyhow::Result<Option<LocalFleet>> {
        if let Some(fleet) = fleet {
            return Ok(Some(LocalFleet::start(fleet, console, exits)?));
        }
        let how = self.how_to_join(args);
        // Someone who closed stdout does not stop the training.
        let _ = console.say(&how);
        Ok(None)
    }

    /// The command that starts a worker elsewhere.
    fn how_to_join(&self, args: &Args) -> String {
        let port = self.address.port();
        let stay = if args.serve { " --stay" } else { "" };
        let from = match (self.address.ip().is_loopback(), &self.keys) {
            (true, Some(_)) => {
                let folder = args.keys.folder.as_ref();
                let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
                let tls = folder
                    .map_or_else(String::new, |folder| format!(" --tls {}", folder.display()));
                format!(
                    "{tls} (on this machine; for others start this with --listen 0.0.0.0:{port})"
                )
            }
            (true, None) if args.keys.insecure => " --insecure".to_owned(),
            (true, None) => format!(
                " (on this machine; for others make keys with `coordinator keys`, and start this with \
                 --listen 0.0.0.0:{port})"
            ),
            (false, Some(_)) => {
                " (for another machine's keys: `coordinator keys add NAME --role worker`)"
                    .to_owned()
            }
            (false, None) => " --insecure".to_owned(),
        };
        let reached_at = &self.contact.address;
        format!("join workers with: worker --coordinator {reached_at}{stay}{from}")
    }
}

/// The keys that this coordinator uses; a local fleet gets some made.
fn keys_to_use(args: &Args, console: &Console) -> Result<Option<KeyFolder>, KeyError> {
    let found = args.keys.folder()?;
    if let Some(keys) = &found {
        keys.first(&[Role::Coordinator], "a coordinator")?;
        if args.local {
            keys.first(&[Role::Worker], "the local workers")?;
        }
    }
    if found.is_some() || !args.local || args.keys.insecure {
        return Ok(found);
    }
    let made = KeyFolder::of_user().and_then(|folder| {
        folder.create(DEFAULT_DAYS)?;
        Ok(folder)
    });
    match made {
        Ok(folder) => {
            let _ = console.say(&format!("new keys in {}", folder.path().display()));
            Ok(Some(folder))
        }
        Err(error) => {
            tracing::warn!(%error, "without keys, all users of this machine can command this fleet");
            Ok(None)
        }
    }
}
