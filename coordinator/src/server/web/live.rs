//! Parts of the page as they change. They are rendered once for all who watch, and not at all while nobody
//! does.

use std::sync::Arc;
use std::time::Duration;

use quartet_page::Part;
use quartet_shared::blocking;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::server::shell::Shell;
use crate::server::snapshots::snapshot;

/// Time between two renderings.
const INTERVAL: Duration = Duration::from_secs(1);

/// The parts of the page, in the order of [`Part::ALL`].
pub(in crate::server) struct Live {
    parts: Arc<Parts>,
    over: CancellationToken,
}

struct Parts {
    senders: [watch::Sender<Arc<str>>; Part::ALL.len()],
    /// Somebody watches.
    wanted: Notify,
}

impl Live {
    /// Renders from now on whenever somebody watches.
    pub(in crate::server) fn start(shell: &Arc<Shell>) -> Self {
        let parts = Arc::new(Parts {
            senders: Part::ALL.map(|_| watch::Sender::new("".into())),
            wanted: Notify::new(),
        });
        let over = CancellationToken::new();
        tokio::spawn(render(Arc::clone(shell), Arc::clone(&parts), over.clone()));
        Self { parts, over }
    }

    /// The parts now, and again whenever one has changed.
    pub(in crate::server) fn watch(&self) -> Watch {
        let receivers = self.parts.senders.each_ref().map(|sender| {
            let mut receiver = sender.subscribe();
            receiver.mark_changed();
            receiver
        });
        self.parts.wanted.notify_one();
        Watch {
            receivers,
            over: self.over.clone(),
            ended: false,
        }
    }
}

/// What one page gets.
pub(in crate::server) struct Watch {
    receivers: [watch::Receiver<Arc<str>>; Part::ALL.len()],
    over: CancellationToken,
    ended: bool,
}

impl Watch {
    /// The next part that has changed, with its name; `end` comes last, with what is to be said then.
    pub(in crate::server) async fn next(&mut self) -> Option<(&'static str, Arc<str>)> {
        loop {
            if self.ended {
                return None;
            }
            for (part, receiver) in Part::ALL.iter().zip(&mut self.receivers) {
                if receiver.has_changed().unwrap_or(false) {
                    let html = Arc::clone(&receiver.borrow_and_update());
                    if !html.is_empty() {
                        return Some((part.id(), html));
                    }
                }
            }
            let [a, b, c] = &mut self.receivers;
            tokio::select! {
                biased;
                _ = a.changed() => a.mark_changed(),
                _ = b.changed() => b.mark_changed(),
                _ = c.changed() => c.mark_changed(),
                () = self.over.cancelled() => {
                    self.ended = true;
                    return Some(("end", "the coordinator has stopped; this is how it was".into()));
                }
            }
        }
    }
}

async fn render(shell: Arc<Shell>, parts: Arc<Parts>, over: CancellationToken) {
    let mut known = None;
    loop {
        let is_over = shell.connections.is_closed();
        if parts
            .senders
            .iter()
            .all(|sender| sender.receiver_count() == 0)
        {
            // Whoever comes next is not to see what is old.
            for sender in &parts.senders {
                sender.send_replace("".into());
            }
            known = None;
            if is_over {
                break;
            }
            tokio::select! {
                biased;
                () = shell.connections.closed() => {}
                () = parts.wanted.notified() => {}
            }
            continue;
        }
        known = render_once(&shell, &parts, known).await;
        if is_over {
            break;
        }
        tokio::select! {
            biased;
            // The end is shown, too.
            () = shell.connections.closed() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
    over.cancel();
}

/// Renders what has changed since the version of the history that is `known`. Returns the version that is
/// known now.
async fn render_once(shell: &Shell, parts: &Parts, known: Option<u64>) -> Option<u64> {
    let snapshot = snapshot(shell);
    let (version, record) = (shell.history.version(), shell.history.record());
    let mut rendered_all = true;
    for (part, sender) in Part::ALL.into_iter().zip(&parts.senders) {
        // Results and events change with the history alone.
        if part != Part::Fleet && known == Some(version) {
            continue;
        }
        let (snapshot, record) = (snapshot.clone(), record.clone());
        let html = blocking::run(move || part.html(&snapshot, record.as_deref()));
        let Ok(rendered) = html.await else {
            rendered_all = false;
            continue;
        };
        sender.send_if_modified(|sent| {
            let is_new = **sent != *rendered;
            if is_new {
                *sent = rendered.into();
            }
            is_new
        });
    }
    rendered_all.then_some(version)
}
