//! One door for tasks: each has a name, a policy for errors and a drain deadline.
//!
//! Owns spawning (nothing else calls `tokio::spawn`) and the stop signal. A panic counts as an error of its task. A task that
//! returns `Ok` before the stop signal has simply finished. Life cycle: `spawn` … → [`Supervisor::stop`], a failed task with
//! [`OnError::Stop`] or a [`Fatal`] error → every task sees its token cancelled → [`Supervisor::drain`] waits for each task's
//! own deadline, then aborts it.

use std::error::Error;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::telemetry::facts::{TaskFailed, TaskOverran};
use crate::telemetry::record;

/// Whatever made a task end.
pub type TaskError = Box<dyn Error + Send + Sync>;

/// An error that no restart mends: it stops the daemon, whatever the task's policy says.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Fatal(pub TaskError);

/// What happens when a task fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// Start it again after `first`, then twice as long each time up to `most`. A task that ran longer than `most` before
    /// it failed starts over with `first`. A [`Fatal`] error stops the daemon all the same.
    Restart { first: Duration, most: Duration },
    /// Nothing works without it: stop the daemon.
    Stop,
}

/// What every task has to say of itself.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// For logs and metrics.
    pub name: &'static str,
    pub on_error: OnError,
    /// How long it may go on after the stop signal.
    pub drain: Duration,
}

/// Starts tasks and ends them. Copies are handles to the same one.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    token: CancellationToken,
    tracker: TaskTracker,
    failure: OnceLock<String>,
}

impl Supervisor {
    /// A supervisor without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the daemon is to stop.
    pub fn token(&self) -> CancellationToken {
        self.inner.token.clone()
    }

    /// Starts a task. `run` is called again for every restart and gets the token that tells it to stop.
    pub fn spawn<F, Fut>(&self, task: Task, mut run: F)
    where
        F: FnMut(CancellationToken) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        self.inner.tracker.spawn(async move {
            let mut pause = Pause::new(task.on_error);
            loop {
                let began = tokio::time::Instant::now();
                let Some(Failed { error, fatal }) = inner.attempt(task, run(inner.token.clone())).await
                else {
                    return;
                };
                let last = fatal || inner.token.is_cancelled();
                record(&TaskFailed {
                    task: task.name,
                    error: &error,
                    restarts: task.on_error != OnError::Stop && !last,
                });
                match pause.next(began.elapsed()) {
                    Some(wait) if !last => {
                        tokio::select! {
                            () = inner.token.cancelled() => return,
                            () = tokio::time::sleep(wait) => {}
                        }
                    }
                    _ => {
                        inner.fail(task.name, &error);
                        return;
                    }
                }
            }
        });
    }

    /// Tells every task to stop.
    pub fn stop(&self) {
        self.inner.token.cancel();
    }

    /// Waits until the stop signal has been given, by [`Self::stop`] or by a failed task.
    pub async fn stopped(&self) {
        self.inner.token.cancelled().await;
    }

    /// Waits for every task to end or to reach its drain deadline. The error names the first task that failed with
    /// [`OnError::Stop`] or a [`Fatal`] error, if any did.
    pub async fn drain(&self) -> Result<(), String> {
        self.inner.token.cancel();
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
        match self.inner.failure.get() {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }
}

/// How an attempt failed.
struct Failed {
    error: String,
    fatal: bool,
}

impl Inner {
    /// Runs one attempt to its end; the error, if it ended with one.
    async fn attempt(
        &self,
        task: Task,
        job: impl Future<Output = Result<(), TaskError>> + Send + 'static,
    ) -> Option<Failed> {
        let mut handle = tokio::spawn(job);
        let overrun = async {
            self.token.cancelled().await;
            tokio::time::sleep(task.drain).await;
        };
        tokio::select! {
            ended = &mut handle => match ended {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(Failed { error: chain(error.as_ref()), fatal: error.is::<Fatal>() }),
                Err(error) => Some(Failed { error: explain(error), fatal: false }),
            },
            () = overrun => {
                handle.abort();
                record(&TaskOverran { task: task.name, drain: task.drain });
                None
            }
        }
    }

    fn fail(&self, name: &str, error: &str) {
        // Only the first failure is the cause; later ones are its consequences.
        self.failure.set(format!("task `{name}` failed: {error}")).ok();
        self.token.cancel();
    }
}

struct Pause {
    policy: OnError,
    next: Duration,
}

impl Pause {
    fn new(policy: OnError) -> Self {
        let next = match policy {
            OnError::Restart { first, .. } => first,
            OnError::Stop => Duration::ZERO,
        };
        Self { policy, next }
    }

    fn next(&mut self, ran: Duration) -> Option<Duration> {
        let OnError::Restart { first, most } = self.policy else {
            return None;
        };
        let wait = if ran > most { first } else { self.next };
        self.next = (wait * 2).min(most);
        Some(wait)
    }
}

/// A bounded group of short jobs that belong to one task and end with it: dropping the crew aborts them.
#[derive(Debug)]
pub struct Crew {
    name: &'static str,
    limit: usize,
    jobs: JoinSet<()>,
}

impl Crew {
    /// A crew of at most `limit` jobs at once; `name` stands in the log when one panics.
    pub fn new(name: &'static str, limit: usize) -> Self {
        Self { name, limit: limit.max(1), jobs: JoinSet::new() }
    }

    /// How many more jobs may start now.
    pub fn free(&mut self) -> usize {
        self.reap();
        self.limit.saturating_sub(self.jobs.len())
    }

    /// Starts a job, after waiting for a place if there is none.
    pub async fn start(&mut self, job: impl Future<Output = ()> + Send + 'static) {
        while self.free() == 0 {
            if let Some(ended) = self.jobs.join_next().await {
                self.report(ended);
            }
        }
        self.jobs.spawn(job);
    }

    /// Waits for the next job to end; never returns while there is none.
    pub async fn next_end(&mut self) {
        match self.jobs.join_next().await {
            Some(ended) => self.report(ended),
            None => std::future::pending().await,
        }
    }

    /// Waits for all jobs.
    pub async fn finish(&mut self) {
        while let Some(ended) = self.jobs.join_next().await {
            self.report(ended);
        }
    }

    fn reap(&mut self) {
        while let Some(ended) = self.jobs.try_join_next() {
            self.report(ended);
        }
    }

    fn report(&self, ended: Result<(), JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            record(&TaskFailed { task: self.name, error: &explain(error), restarts: true });
        }
    }
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn explain(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => {
            let said = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned());
            format!("panicked: {}", said.as_deref().unwrap_or("without words"))
        }
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const QUICK: OnError =
        OnError::Restart { first: Duration::from_millis(1), most: Duration::from_millis(4) };

    fn task(on_error: OnError, drain: Duration) -> Task {
        Task { name: "test", on_error, drain }
    }

    #[tokio::test]
    async fn a_panicking_task_is_restarted_until_it_succeeds() {
        let supervisor = Supervisor::new();
        let tries = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&tries);
        let (done, ended) = tokio::sync::oneshot::channel();
        let mut done = Some(done);
        supervisor.spawn(task(QUICK, Duration::from_secs(5)), move |_| {
            let tries = Arc::clone(&tries);
            let done = if tries.load(Ordering::SeqCst) == 2 { done.take() } else { None };
            async move {
                match tries.fetch_add(1, Ordering::SeqCst) {
                    0 => panic!("first"),
                    1 => Err("second".into()),
                    _ => {
                        done.map(|done| done.send(()));
                        Ok(())
                    }
                }
            }
        });
        ended.await.unwrap();
        assert_eq!(supervisor.drain().await, Ok(()));
        assert_eq!(seen.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_vital_task_stops_all_others_and_names_itself() {
        let supervisor = Supervisor::new();
        supervisor.spawn(task(QUICK, Duration::from_secs(5)), |stop| async move {
            stop.cancelled().await;
            Ok(())
        });
        supervisor
            .spawn(task(OnError::Stop, Duration::from_secs(5)), |_| async move { panic!("out of cheese") });
        supervisor.stopped().await;
        assert_eq!(supervisor.drain().await, Err("task `test` failed: panicked: out of cheese".into()));
    }

    #[tokio::test]
    async fn a_fatal_error_stops_all_though_the_policy_is_to_restart() {
        let supervisor = Supervisor::new();
        let tries = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&tries);
        supervisor.spawn(task(QUICK, Duration::from_secs(5)), move |_| {
            tries.fetch_add(1, Ordering::SeqCst);
            async move { Err(Fatal("the house was sold".into()).into()) }
        });
        supervisor.stopped().await;
        assert_eq!(supervisor.drain().await, Err("task `test` failed: the house was sold".into()));
        assert_eq!(seen.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_is_aborted_at_its_deadline() {
        let supervisor = Supervisor::new();
        supervisor.spawn(task(QUICK, Duration::from_millis(20)), |_| std::future::pending());
        supervisor.stop();
        let drained = tokio::time::timeout(Duration::from_secs(10), supervisor.drain()).await;
        assert_eq!(drained, Ok(Ok(())));
    }

    #[tokio::test]
    async fn a_crew_is_bounded_and_survives_a_panic() {
        let mut crew = Crew::new("test", 2);
        let running = Arc::new(AtomicU32::new(0));
        let most = Arc::new(AtomicU32::new(0));
        for n in 0..6 {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            crew.start(async move {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
                assert_ne!(n, 3, "one of them panics");
            })
            .await;
        }
        crew.finish().await;
        assert_eq!(crew.free(), 2);
        assert!(most.load(Ordering::SeqCst) <= 2);
    }
}
