use std::io::{self, Write};

use tokio::sync::watch;

/// What the program writes, to be waited for.
#[derive(Clone, Debug)]
pub(crate) struct Recorder(watch::Sender<String>);

impl Recorder {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(String::new()))
    }

    pub(crate) async fn wait_for(&self, part: &str) {
        let mut text = self.0.subscribe();
        let found =
            tokio::time::timeout(super::PATIENCE, text.wait_for(|text| text.contains(part))).await;
        assert!(found.is_ok(), "{part:?} is not in {:?}", self.text());
    }

    pub(crate) fn text(&self) -> String {
        self.0.borrow().clone()
    }
}

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .send_modify(|text| text.push_str(str::from_utf8(bytes).unwrap()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
