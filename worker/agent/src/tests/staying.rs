//! A worker that stays, and its coordinators.

use quartet_proto::v1::coordinator_message::Message;

use super::*;

fn goodbye() -> Message {
    Message::Goodbye(v1::Goodbye {
        reason: "the experiment has ended".to_owned(),
    })
}

fn drain(looks_on: bool) -> Message {
    Message::Drain(v1::Drain {
        reason: "a test".to_owned(),
        looks_on,
    })
}

impl Worker {
    async fn start_staying(setup: Setup) -> Self {
        Self::start_with(setup, |settings| settings.stay = true).await
    }

    async fn hello(&mut self) -> v1::Hello {
        self.coordinator.hellos.recv().await.unwrap()
    }

    /// Waits until it is at work; what it said first.
    async fn begins(&mut self) -> v1::Hello {
        let hello = self.hello().await;
        self.script.tasks.recv().await.unwrap();
        hello
    }

    /// How it ends by itself.
    async fn ended(self) -> anyhow::Result<Departure> {
        self.ended.await.unwrap()
    }

    /// Waits until its stream has ended as it does when a worker leaves, and it has come again.
    async fn comes_again(&mut self) {
        let end = self.coordinator.ends.recv().await.unwrap();
        assert!(end.is_ok(), "{end:?}");
        let hello = self.begins().await;
        assert!(hello.stays && hello.held.is_none(), "{hello:?}");
        // The terms of which experiment it knows.
        assert_eq!((hello.term, &hello.experiment_id[..]), (1, "x-1"));
    }

    /// Lets the task at hand commit what it has done when it is told to stop.
    async fn hands_back(&mut self) {
        let told = self.script.act(Act::UntilStopped).await;
        assert_eq!(told, Some(Stop::Drain));
        assert_eq!(self.script.keep(within(1, 7)).await, Some(Stop::Drain));
        self.script.acts.send(Act::End(Trained::Stopped)).unwrap();
        assert_eq!(self.call().await, committed(within(1, 7)));
        assert_eq!(self.call().await, handed_back());
    }

    /// Ends the task at hand and then the worker, by a signal.
    async fn end(self) {
        self.script.acts.send(Act::End(Trained::Stopped)).unwrap();
        self.stop().await;
    }
}

#[tokio::test]
async fn it_goes_from_one_experiment_to_the_next() {
    let mut worker = Worker::start_staying(setup()).await;
    let hello = worker.begins().await;
    assert!(hello.stays);
    assert_eq!(hello.precisions, ["f32", "tf32"]);
    assert_eq!((hello.term, &hello.experiment_id[..]), (0, ""));
    let finished = Trained::Finished(scripted::outcome(1));
    worker.script.acts.send(Act::End(finished)).unwrap();
    assert_eq!(worker.call().await, Call::Complete);
    worker.coordinator.say(goodbye());
    worker.comes_again().await;
    worker.end().await;
}

#[tokio::test]
async fn it_drops_its_task_if_the_experiment_ends_without_it() {
    let mut worker = Worker::start_staying(setup()).await;
    worker.begins().await;
    worker.coordinator.say(goodbye());
    assert_eq!(worker.script.act(Act::UntilStopped).await, Some(Stop::Drop));
    worker.script.acts.send(Act::End(Trained::Stopped)).unwrap();
    worker.comes_again().await;
    worker.end().await;
}

#[tokio::test]
async fn it_hands_its_task_back_to_a_coordinator_that_stops_and_looks_for_the_next() {
    let mut worker = Worker::start_staying(setup()).await;
    worker.begins().await;
    worker.coordinator.say(drain(true));
    worker.hands_back().await;
    worker.comes_again().await;
    worker.end().await;
}

#[tokio::test]
async fn a_worker_that_does_not_stay_leaves_a_coordinator_that_stops() {
    let mut worker = Worker::start(setup()).await;
    assert!(!worker.begins().await.stays);
    worker.coordinator.say(drain(true));
    worker.hands_back().await;
    assert_eq!(worker.ended().await.unwrap(), Departure::Drained);
}

#[tokio::test]
async fn it_exits_when_it_is_sent_home() {
    let mut worker = Worker::start_staying(setup()).await;
    worker.begins().await;
    worker.coordinator.say(drain(false));
    worker.hands_back().await;
    assert_eq!(worker.ended().await.unwrap(), Departure::Drained);
}

#[tokio::test]
async fn sent_home_while_its_coordinator_stops_it_exits() {
    let mut worker = Worker::start_staying(setup()).await;
    worker.begins().await;
    worker.coordinator.say(drain(true));
    worker.coordinator.say(drain(false));
    // That it stays has been said before; a later request does not change it back.
    worker.coordinator.say(drain(true));
    worker.hands_back().await;
    assert_eq!(worker.ended().await.unwrap(), Departure::Drained);
}

#[tokio::test]
async fn a_signal_ends_it_while_it_looks_for_the_next_coordinator() {
    let mut worker = Worker::start_staying(setup()).await;
    worker.begins().await;
    worker.coordinator.close();
    worker.coordinator.say(drain(true));
    worker.hands_back().await;
    worker.coordinator.ends.recv().await.unwrap().unwrap();
    assert_eq!(worker.stop().await, []);
}

#[tokio::test]
async fn it_waits_for_an_experiment_that_it_computes() {
    let mut unsupported = setup();
    unsupported.welcome.precision = "bf16".to_owned();
    unsupported.welcome.experiment_id = "y-1".to_owned();
    unsupported.welcome.term = 9;
    let mut other = Coordinator::start(unsupported).await;
    let address = other.address.parse().unwrap();
    let mut worker = Worker::start_with(setup(), |settings| {
        settings.stay = true;
        settings.coordinators.insert(0, address);
    })
    .await;
    other.hellos.recv().await.unwrap();
    // What it could not work for is forgotten.
    assert_eq!(worker.begins().await.term, 0);
    worker.end().await;
}

#[tokio::test]
async fn it_gives_up_in_order_if_no_experiment_comes() {
    let patience = Duration::from_millis(100);
    let mut worker = Worker::start_with(setup(), |settings| {
        settings.stay = true;
        settings.give_up_after = patience;
    })
    .await;
    worker.begins().await;
    worker.coordinator.close();
    worker.coordinator.say(drain(true));
    worker.hands_back().await;
    let ended = worker.ended().await.unwrap();
    assert_eq!(ended, Departure::NoneCame(patience));
}

#[tokio::test]
async fn a_state_that_nobody_takes_is_dropped_in_the_end() {
    let mut setup = setup();
    setup.refusal = |_| Some(Status::unavailable("the coordinator is gone"));
    let mut worker = Worker::start_with(setup, |settings| {
        settings.stay = true;
        settings.drain_grace = Duration::from_millis(100);
    })
    .await;
    worker.begins().await;
    worker.coordinator.say(drain(true));
    let told = worker.script.act(Act::UntilStopped).await;
    assert_eq!(told, Some(Stop::Drain));
    worker.script.keep(within(1, 7)).await;
    worker.script.acts.send(Act::End(Trained::Stopped)).unwrap();
    while worker.call().await != handed_back() {}
    worker.comes_again().await;
}
