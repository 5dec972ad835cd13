//! What goes out: the log, the push queue, pushes and mail, kept to be looked at; and the counting of requests.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use tocsin_domain::{
    Result,
    device::{Device, DeviceId, DeviceToken},
    digest::Digest,
    fan_out::{Step, StepQueue},
    ids::UserId,
    mail::{Mail, Mailer},
    password_reset::{ResetQueue, ResetRequest},
    post_log::{PostLog, PostRecord},
    push::{Endpoint, Published, Push, PushGateway, PushJob, PushQueue},
    push_turn::{MOST_AHEAD, PushShare},
    rate_limit::{AccountBar, Counted, RateLimit, RateLimiter},
};

use super::Shared;

/// A log.
#[derive(Clone, Debug, Default)]
pub struct MemoryPostLog {
    records: Shared<Vec<PostRecord>>,
}

impl MemoryPostLog {
    /// What was appended.
    #[must_use]
    pub fn records(&self) -> Vec<PostRecord> {
        self.records.lock().clone()
    }
}

impl PostLog for MemoryPostLog {
    async fn append(&self, record: &PostRecord) -> Result<()> {
        self.records.lock().push(record.clone());
        Ok(())
    }
}

/// A queue of requests for other passwords.
#[derive(Clone, Debug, Default)]
pub struct MemoryResetQueue {
    requests: Shared<Vec<ResetRequest>>,
}

impl MemoryResetQueue {
    /// Takes what waits.
    #[must_use]
    pub fn take(&self) -> Vec<ResetRequest> {
        std::mem::take(&mut self.requests.lock())
    }
}

impl ResetQueue for MemoryResetQueue {
    async fn enqueue(&self, request: &ResetRequest) -> Result<()> {
        self.requests.lock().push(request.clone());
        Ok(())
    }
}

/// A queue of steps.
#[derive(Clone, Debug, Default)]
pub struct MemoryStepQueue {
    steps: Shared<VecDeque<Step>>,
}

impl MemoryStepQueue {
    /// The next step, which is in the queue no longer.
    #[must_use]
    pub fn take(&self) -> Option<Step> {
        self.steps.lock().pop_front()
    }
}

impl StepQueue for MemoryStepQueue {
    async fn enqueue(&self, step: &Step, _: Duration) -> Result<()> {
        self.steps.lock().push_back(step.clone());
        Ok(())
    }
}

/// A queue of push jobs.
#[derive(Clone, Debug, Default)]
pub struct MemoryPushQueue {
    jobs: Shared<Vec<PushJob>>,
}

impl MemoryPushQueue {
    /// What was queued.
    #[must_use]
    pub fn jobs(&self) -> Vec<PushJob> {
        self.jobs.lock().clone()
    }

    /// Takes what waits.
    #[must_use]
    pub fn take(&self) -> Vec<PushJob> {
        std::mem::take(&mut self.jobs.lock())
    }
}

impl PushQueue for MemoryPushQueue {
    async fn enqueue(&self, jobs: &[PushJob]) -> Result<()> {
        self.jobs.lock().extend_from_slice(jobs);
        Ok(())
    }
}

/// A push gateway, whose endpoints are `memory:<platform>:<token>`.
#[derive(Clone, Debug, Default)]
pub struct MemoryPushGateway {
    state: Shared<Gateway>,
}

#[derive(Debug, Default)]
struct Gateway {
    /// Each endpoint, and whether it is on.
    endpoints: HashMap<String, bool>,
    pushes: Vec<(Device, Push)>,
    digests: Vec<(Device, Digest)>,
}

impl Gateway {
    fn answer(&self, endpoint: &Endpoint) -> Published {
        match self.endpoints.get(&endpoint.0) {
            None => Published::EndpointMissing,
            Some(false) => Published::EndpointDisabled,
            Some(true) => Published::Accepted,
        }
    }
}

impl MemoryPushGateway {
    /// What was sent, and where to.
    #[must_use]
    pub fn pushes(&self) -> Vec<(Device, Push)> {
        self.state.lock().pushes.clone()
    }

    /// The digests that were sent, and where to.
    #[must_use]
    pub fn digests(&self) -> Vec<(Device, Digest)> {
        self.state.lock().digests.clone()
    }

    /// Switches an endpoint off, as a platform does whose token is dead.
    pub fn switch_off(&self, endpoint: &Endpoint) {
        self.state.lock().endpoints.insert(endpoint.0.clone(), false);
    }
}

impl PushGateway for MemoryPushGateway {
    async fn register(&self, _: UserId, _: &DeviceId, token: &DeviceToken) -> Result<Endpoint> {
        let endpoint = format!("memory:{:?}:{}", token.platform, token.token);
        self.state.lock().endpoints.insert(endpoint.clone(), true);
        Ok(Endpoint(endpoint))
    }

    async fn unregister(&self, endpoint: &Endpoint) -> Result<()> {
        self.state.lock().endpoints.remove(&endpoint.0);
        Ok(())
    }

    async fn publish(&self, device: &Device, push: &Push) -> Result<Published> {
        let mut state = self.state.lock();
        let published = state.answer(&device.endpoint);
        if published == Published::Accepted {
            state.pushes.push((device.clone(), push.clone()));
        }
        Ok(published)
    }

    async fn publish_digest(&self, device: &Device, digest: &Digest) -> Result<Published> {
        let mut state = self.state.lock();
        let published = state.answer(&device.endpoint);
        if published == Published::Accepted {
            state.digests.push((device.clone(), digest.clone()));
        }
        Ok(published)
    }
}

/// An outbox.
#[derive(Clone, Debug, Default)]
pub struct MemoryMailer {
    mails: Shared<Vec<Mail>>,
}

impl MemoryMailer {
    /// What was sent.
    #[must_use]
    pub fn mails(&self) -> Vec<Mail> {
        self.mails.lock().clone()
    }
}

impl Mailer for MemoryMailer {
    async fn send(&self, mail: &Mail) -> Result<()> {
        self.mails.lock().push(mail.clone());
        Ok(())
    }
}

/// When a window began, and how often something was done in it.
type Window = (Instant, u32);

/// A share of so many pushes a second.
#[derive(Clone, Debug)]
pub struct MemoryPushShare {
    per_second: u32,
    given_until: Shared<Option<Instant>>,
}

impl MemoryPushShare {
    /// Of so many.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self { per_second, given_until: Shared::default() }
    }
}

impl PushShare for MemoryPushShare {
    async fn take(&self, pushes: usize) -> Result<Option<Duration>> {
        let now = Instant::now();
        let mut given_until = self.given_until.lock();
        let begins = given_until.map_or(now, |until| until.max(now));
        let wait = begins - now;
        if wait > MOST_AHEAD {
            return Ok(None);
        }
        let taken = u32::try_from(pushes).unwrap_or(u32::MAX);
        *given_until = Some(begins + Duration::from_secs(1) * taken / self.per_second);
        Ok(Some(wait))
    }
}

/// Counts.
#[derive(Clone, Debug, Default)]
pub struct MemoryRateLimiter {
    windows: Shared<HashMap<(&'static str, String), Window>>,
    barred: Shared<HashSet<UserId>>,
}

impl RateLimiter for MemoryRateLimiter {
    async fn count(&self, limit: RateLimit, who: &str, account: Option<UserId>) -> Result<Counted> {
        if account.is_some_and(|account| self.barred.lock().contains(&account)) {
            return Ok(Counted::Barred);
        }
        let mut windows = self.windows.lock();
        let (since, count) =
            windows.entry((limit.name, who.to_owned())).or_insert_with(|| (Instant::now(), 0));
        if since.elapsed() >= limit.window {
            (*since, *count) = (Instant::now(), 0);
        }
        *count = count.saturating_add(1);
        let wait = limit.window.saturating_sub(since.elapsed());
        Ok(if *count > limit.most { Counted::TooMany(wait) } else { Counted::Within })
    }
}

impl AccountBar for MemoryRateLimiter {
    async fn bar(&self, account: UserId) -> Result<()> {
        self.barred.lock().insert(account);
        Ok(())
    }
}
