//! Departures: the table, and the job over the adapters in memory: again, late, lost, with many posts, and with a part that
//! fails.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps in vain")]

mod storage;

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use storage::storage_of;
use tocsin_adapters::{
    dynamodb::DeparturesTable,
    memory::{
        MemoryDeliveries, MemoryDepartureQueue, MemoryDepartures, MemoryDevices, MemoryFriendships,
        MemoryInboxes, MemoryMailer, MemoryPostLog, MemoryPosts, MemoryPushGateway, MemoryUsers,
    },
};
use tocsin_conformance::{departures, fixtures, people};
use tocsin_domain::{
    Error, Result,
    access_token::{Caller, Role},
    account::Account,
    departure::{
        self, Departing, Departure, DepartureJob, DepartureProgress, DepartureQueue, DepartureSchedule as _,
        Departures as _, Erased, PostsLeft, Round, Step, long_step, step,
    },
    device::{self, Device, DeviceId, DeviceToken, Devices as _, Platform},
    digest::Digest,
    friendship::{self, Action, Friendships as _},
    identity::{Identities as _, Identity},
    ids::{PostId, SubscriptionId, UserId},
    notification::{Because, Inbox as _, Inboxes as _, Notification},
    place_index::{PlaceIndex as _, PlaceKey},
    post::{Author, Post},
    post_log::{Change, PostChange},
    posts::{self, PostStore as _, Posts as _, Stored},
    push::{
        Deliveries as _, DeliveryEraser, DeliveryReader as _, Endpoint, News, Outcome, Published, Push,
        PushGateway, PushKey,
    },
    time::{self, Timestamp},
};

#[tokio::test]
async fn in_memory() {
    departures::progress(&MemoryDepartures::default()).await;
    departures::schedule(&MemoryDepartures::default()).await;
}

#[tokio::test]
async fn in_dynamodb() {
    let client = storage_of(&[("departures", &["pk", "sk", "due"])]).await;
    departures::progress(&DeparturesTable::new(&client, "departures")).await;
    departures::schedule(&DeparturesTable::new(&client, "departures")).await;
}

/// A queue that can be away.
#[derive(Default)]
struct Queue {
    queue: MemoryDepartureQueue,
    is_away: AtomicBool,
}

impl DepartureQueue for Queue {
    async fn enqueue(&self, job: &DepartureJob) -> Result<()> {
        if self.is_away.load(Relaxed) {
            return Err(Error::unavailable("the queue", "away"));
        }
        self.queue.enqueue(job).await
    }
}

#[derive(Default)]
struct Town {
    users: MemoryUsers,
    posts: MemoryPosts,
    log: MemoryPostLog,
    departures: MemoryDepartures,
    queue: Queue,
    mailer: MemoryMailer,
}

impl Town {
    async fn depart(&self, user_id: UserId, posts: PostsLeft, now: Timestamp) {
        let caller =
            Caller { user_id, username: "ada".to_owned(), session_id: None, roles: vec![Role::User] };
        let Self { departures, queue, users, mailer, .. } = self;
        departure::depart(departures, queue, users, mailer, &caller, posts, now).await.unwrap();
    }

    /// What the schedule does; answers how many departures it has queued.
    async fn resume(&self, now: Timestamp) -> usize {
        departure::resume(&self.departures, &self.queue, now).await.unwrap()
    }

    async fn go_on(&self, job: DepartureJob, steps: Vec<Step<'_>>, now: Timestamp) -> Result<()> {
        let Self { posts, log, departures, queue, .. } = self;
        Departing { index: posts, posts, log, departures, queue }.go_on(job, steps, now).await
    }

    /// Does everything that is queued, until nothing is; answers how many messages that were.
    async fn work(&self, now: Timestamp) -> usize {
        let mut done = 0;
        loop {
            let jobs = self.queue.queue.take();
            if jobs.is_empty() {
                return done;
            }
            for job in jobs {
                self.go_on(job, Vec::new(), now).await.unwrap();
                done += 1;
            }
        }
    }

    async fn stored(&self, id: UserId) -> Option<Departure> {
        self.departures.get(id).await.unwrap()
    }
}

fn by(author: &Author) -> Post {
    Post { author: Some(author.clone()), ..fixtures::post() }
}

fn author() -> Author {
    Author { user_id: fixtures::user(), username: "ada".to_owned() }
}

/// In seconds.
const QUARTER: u64 = 15 * 60;
const SECOND: u64 = 90 * 60;
const LAST: u64 = 19 * 24 * 3_600;
const LEASE: u64 = 6 * 3_600;

#[tokio::test]
async fn all_posts_change_and_what_is_posted_meanwhile_changes_in_the_last_round() {
    for choice in [PostsLeft::Anonymise, PostsLeft::Remove] {
        let town = Town::default();
        let author = author();
        let theirs: Vec<Post> = (0..1_230).map(|_| by(&author)).collect();
        let others = fixtures::post();
        town.posts.store(&theirs).await;
        town.posts.store(std::slice::from_ref(&others)).await;
        let mut now = time::now();
        town.depart(author.user_id, choice, now).await;
        assert_eq!(town.work(now).await, 3, "500 posts at a time");
        assert_eq!(town.log.records().len(), theirs.len());

        // The log is consumed; each time, a post that was under way comes only after it.
        ingest(&town).await;
        let mut late = Vec::new();
        for (round, wait) in [(Round::Second, SECOND), (Round::Last, LAST)] {
            late.push(by(&author));
            town.posts.store(&late[late.len() - 1..]).await;
            assert_eq!(town.stored(author.user_id).await.unwrap().round, round);
            // Too early: neither the schedule nor a message that comes twice begins it.
            let early = time::after(now, wait - 1);
            assert_eq!(town.resume(early).await, 0);
            let records = town.log.records().len();
            town.go_on(DepartureJob { user_id: author.user_id }, Vec::new(), early).await.unwrap();
            assert_eq!(town.log.records().len(), records);
            now = time::after(now, wait);
            assert_eq!(town.resume(now).await, 1);
            assert_eq!(town.resume(time::after(now, QUARTER)).await, 0, "it is left to its message");
            assert_eq!(town.work(now).await, 1);
            ingest(&town).await;
        }
        assert_eq!(town.stored(author.user_id).await, None, "there is no further round");
        assert_eq!(town.resume(time::after(now, LAST)).await, 0);

        assert!(town.posts.newest(&PlaceKey::By(author.user_id), None, 10).await.unwrap().is_empty());
        let ids: Vec<PostId> = theirs.iter().chain(&late).map(|post| post.post_id).collect();
        let left = town.posts.get(&ids).await.unwrap();
        match choice {
            PostsLeft::Anonymise => {
                assert_eq!(left.len(), ids.len());
                assert!(left.iter().all(|post| post.author.is_none()));
            }
            PostsLeft::Remove => assert!(left.is_empty()),
        }
        assert_eq!(town.posts.get(&[others.post_id]).await.unwrap(), [others]);
    }
}

/// Stores what the log says, twice: the second time changes nothing.
async fn ingest(town: &Town) {
    let changes: Vec<PostChange> = town
        .log
        .records()
        .into_iter()
        .filter_map(|record| match record.change {
            Change::Post(change) => Some(change),
            Change::Heartbeat => None,
        })
        .collect();
    for _ in 0..2 {
        for outcome in posts::ingest(&town.posts, &changes).await {
            assert!(matches!(outcome, Ok(Stored::New | Stored::Already | Stored::Deleted)), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_departure_whose_message_got_lost_is_queued_by_the_schedule() {
    let (town, now) = (Town::default(), time::now());
    let author = author();
    let theirs: Vec<Post> = (0..700).map(|_| by(&author)).collect();
    town.posts.store(&theirs).await;
    town.queue.is_away.store(true, Relaxed);
    town.depart(author.user_id, PostsLeft::Remove, now).await;
    assert!(departure::resume(&town.departures, &town.queue, time::after(now, QUARTER)).await.is_err());
    town.queue.is_away.store(false, Relaxed);
    let mut now = time::after(now, 2 * QUARTER);
    assert_eq!(town.resume(now).await, 1, "what was not queued is not put off");

    // It ends in the middle of its round: the posts are changed, how far it is is stored, and the rest is not queued.
    let job = DepartureJob { user_id: author.user_id };
    assert_eq!(town.queue.queue.take(), [job]);
    town.queue.is_away.store(true, Relaxed);
    let taken = AtomicUsize::new(0);
    let take = async || {
        taken.fetch_add(1, Relaxed);
        Ok(())
    };
    let steps = || vec![step("a part", take())];
    town.go_on(job, steps(), now).await.unwrap_err();
    town.queue.is_away.store(false, Relaxed);
    assert!(town.stored(author.user_id).await.unwrap().posts_before.is_some());
    assert_eq!(town.resume(time::after(now, LEASE - 1)).await, 0);
    now = time::after(now, LEASE);
    assert_eq!(town.resume(now).await, 1);
    assert_eq!(town.queue.queue.take(), [job]);
    town.go_on(job, steps(), now).await.unwrap();
    assert_eq!(town.log.records().len(), theirs.len(), "it went on from where it was");
    assert_eq!(taken.load(Relaxed), 2, "with each message: it costs little, and none is forgotten");

    // What comes late puts off what comes after.
    let second = town.stored(author.user_id).await.unwrap();
    assert_eq!((second.round, second.not_before), (Round::Second, time::after(now, SECOND)));
    assert_eq!(second.posts_before, None);
}

#[tokio::test]
async fn two_at_once_move_a_departure_on_once_and_who_asks_again_begins_again() {
    let (town, now) = (Town::default(), time::now());
    let id = fixtures::user();
    let job = DepartureJob { user_id: id };
    town.depart(id, PostsLeft::Anonymise, now).await;
    // Within the first round another is done with it, and a quarter of an hour later the person asks again.
    let other = step("another", async { town.go_on(job, Vec::new(), now).await });
    let later = time::after(now, QUARTER);
    town.go_on(job, vec![other], later).await.unwrap();
    let stored = town.stored(id).await.unwrap();
    assert_eq!((stored.round, stored.not_before), (Round::Second, time::after(now, SECOND)));
    let again = step("again", async {
        town.depart(id, PostsLeft::Remove, later).await;
        Ok(())
    });
    town.go_on(job, vec![again], time::after(now, SECOND)).await.unwrap();
    assert_eq!(town.stored(id).await, Some(Departure::new(id, PostsLeft::Remove, later)));
    // Somebody who does not leave.
    town.go_on(DepartureJob { user_id: fixtures::user() }, vec![panics()], now).await.unwrap();
}

fn panics() -> Step<'static> {
    step("nobody's", async { panic!("of somebody who does not leave nothing is erased") })
}

#[tokio::test]
async fn who_leaves_is_told_by_mail_once() {
    let (town, now) = (Town::default(), time::now());
    let profile = people::person("ada");
    let ada = Account {
        user_id: profile.user_id,
        email: profile.email.clone(),
        email_verified: true,
        username: profile.username.clone(),
        former_username: None,
        password: None,
        roles: vec![Role::User],
        created_at: now,
    };
    let identity = Identity::new("https://issuer.example", ada.user_id.to_string()).unwrap();
    town.users.register(&ada, &identity, None, &profile).await.unwrap();
    for _ in 0..2 {
        town.depart(ada.user_id, PostsLeft::Remove, now).await;
        let mails = town.mailer.mails();
        assert_eq!(mails.len(), 1);
        assert_eq!(
            (Some(&mails[0].to), mails[0].subject.as_str()),
            (ada.email.as_ref(), "Your account was closed")
        );
    }
}

#[tokio::test]
async fn all_that_are_due_are_queued_by_pages() {
    let (town, now) = (Town::default(), time::now());
    let mut expected: Vec<UserId> = (0..250).map(|_| fixtures::user()).collect();
    for id in &expected {
        town.departures.begin(&Departure::new(*id, PostsLeft::Remove, now), now).await.unwrap();
    }
    assert_eq!(town.resume(now).await, expected.len());
    let mut queued: Vec<_> = town.queue.queue.take().into_iter().map(|job| job.user_id).collect();
    queued.sort();
    expected.sort();
    assert_eq!(queued, expected);
    assert_eq!(town.departures.due(time::after(now, LEASE - 1), None, 1).await.unwrap(), []);
}

#[tokio::test]
async fn a_part_that_fails_holds_up_no_other_and_the_departure_is_tried_again() {
    let (town, now) = (Town::default(), time::now());
    let author = author();
    let (id, job) = (author.user_id, DepartureJob { user_id: author.user_id });
    let theirs: Vec<Post> = (0..700).map(|_| by(&author)).collect();
    town.posts.store(&theirs).await;
    town.depart(id, PostsLeft::Remove, now).await;
    assert_eq!(town.queue.queue.take(), [job]);
    let taken = AtomicUsize::new(0);
    let take = || async {
        taken.fetch_add(1, Relaxed);
        Ok(())
    };
    let broken = || step("broken", async { Err(Error::unavailable("a part", "away")) });
    let steps = || vec![step("first", take()), broken(), step("last", take())];
    town.go_on(job, steps(), now).await.unwrap();
    assert_eq!(town.queue.queue.take(), [job], "the rest of the posts does not wait for what is broken");
    town.go_on(job, steps(), now).await.unwrap_err();
    assert_eq!((taken.load(Relaxed), town.log.records().len()), (4, theirs.len()));
    assert_eq!(town.stored(id).await.unwrap().round, Round::First);
    assert!(town.queue.queue.take().is_empty(), "SQS brings the same message again");
    town.go_on(job, vec![step("first", take())], now).await.unwrap();
    assert_eq!(town.stored(id).await.unwrap().round, Round::Second);
}

#[tokio::test]
async fn a_slow_part_holds_up_no_other() {
    let (town, now) = (Town::default(), time::now());
    let author = author();
    town.posts.store(&[by(&author)]).await;
    town.depart(author.user_id, PostsLeft::Remove, now).await;
    let is_taken = AtomicBool::new(false);
    // Done only when the others are.
    let slow = step("slow", async {
        while !is_taken.load(Relaxed) || town.log.records().is_empty() {
            tokio::task::yield_now().await;
        }
        Ok(())
    });
    let last = step("last", async {
        is_taken.store(true, Relaxed);
        Ok(())
    });
    let job = DepartureJob { user_id: author.user_id };
    let gone_on = tokio::time::timeout(Duration::from_secs(20), town.go_on(job, vec![slow, last], now)).await;
    gone_on.unwrap().unwrap();
    assert_eq!(town.stored(author.user_id).await.unwrap().round, Round::Second);
}

#[tokio::test]
async fn who_was_asked_by_more_than_one_go_forgets_is_gone_on_with() {
    let (town, friendships, now) = (Town::default(), MemoryFriendships::default(), time::now());
    let ada = fixtures::user();
    for number in 0..1_130 {
        let other = fixtures::user();
        let change = async |me, other, action| {
            friendship::change(&friendships, me, other, action, now).await.unwrap();
        };
        change(other, ada, Action::Request).await;
        match number % 100 {
            0 => change(ada, other, Action::Accept).await,
            1 => change(ada, other, Action::Block).await,
            2 => change(other, ada, Action::Block).await,
            _ => {}
        }
    }
    town.depart(ada, PostsLeft::Remove, now).await;
    for (left, round) in [(130, Round::First), (0, Round::Second)] {
        let jobs = town.queue.queue.take();
        assert_eq!(jobs.len(), 1);
        let forgotten = long_step("friendships", friendship::forget(&friendships, &friendships, ada, now));
        town.go_on(jobs[0], vec![forgotten], now).await.unwrap();
        assert_eq!(friendships.all(ada, None, 2_000).await.unwrap().len(), left);
        assert_eq!(town.stored(ada).await.unwrap().round, round);
    }
    assert!(town.queue.queue.take().is_empty());
}

#[tokio::test]
async fn a_departure_begins_at_once_also_by_a_clock_that_is_behind() {
    let (town, now) = (Town::default(), time::now());
    let id = fixtures::user();
    town.depart(id, PostsLeft::Remove, time::after(now, 60)).await;
    assert_eq!(town.work(now).await, 1);
    assert_eq!(town.stored(id).await.unwrap().round, Round::Second);
}

/// Progress that is stored, and then answered as if somebody else had been quicker: as where the answer to a first try is lost.
struct AnswersLost<'a>(&'a MemoryDepartures);

impl DepartureProgress for AnswersLost<'_> {
    async fn get(&self, id: UserId) -> Result<Option<Departure>> {
        self.0.get(id).await
    }

    async fn move_on(&self, from: &Departure, rest: &Departure, due: Timestamp) -> Result<bool> {
        self.0.move_on(from, rest, due).await.map(|_| false)
    }

    async fn end(&self, departure: &Departure) -> Result<()> {
        self.0.end(departure).await
    }
}

#[tokio::test]
async fn the_rest_of_the_posts_is_queued_also_where_the_answer_to_its_storing_is_lost() {
    let (town, now) = (Town::default(), time::now());
    let author = author();
    let theirs: Vec<Post> = (0..700).map(|_| by(&author)).collect();
    town.posts.store(&theirs).await;
    town.depart(author.user_id, PostsLeft::Remove, now).await;
    let Town { posts, log, departures, queue, .. } = &town;
    let departing = Departing { index: posts, posts, log, departures: &AnswersLost(departures), queue };
    for round in [Round::First, Round::Second] {
        let jobs = queue.queue.take();
        assert_eq!(jobs.len(), 1);
        departing.go_on(jobs[0], Vec::new(), now).await.unwrap();
        assert_eq!(town.stored(author.user_id).await.unwrap().round, round);
    }
    assert_eq!(log.records().len(), theirs.len());
    assert!(queue.queue.take().is_empty());
}

/// A gateway that does not remove one endpoint.
struct Stubborn {
    gateway: MemoryPushGateway,
    keeps: Endpoint,
}

impl PushGateway for Stubborn {
    async fn register(&self, owner: UserId, id: &DeviceId, token: &DeviceToken) -> Result<Endpoint> {
        self.gateway.register(owner, id, token).await
    }

    async fn unregister(&self, endpoint: &Endpoint) -> Result<()> {
        if *endpoint == self.keeps {
            return Err(Error::unavailable("the gateway", "refuses"));
        }
        self.gateway.unregister(endpoint).await
    }

    async fn publish_digest(&self, device: &Device, digest: &Digest) -> Result<Published> {
        self.gateway.publish_digest(device, digest).await
    }

    async fn publish(&self, device: &Device, push: &Push) -> Result<Published> {
        self.gateway.publish(device, push).await
    }
}

#[tokio::test]
async fn a_device_that_cannot_be_removed_holds_up_no_other() {
    let (devices, gateway) = (MemoryDevices::default(), MemoryPushGateway::default());
    let (ada, now) = (fixtures::user(), time::now());
    let mut endpoints = Vec::new();
    for name in ["first", "second", "third"] {
        let token = DeviceToken { platform: Platform::Fcm, token: format!("{name}-token") };
        let put = device::put(&devices, &gateway, ada, name.parse().unwrap(), token, now);
        endpoints.push(put.await.unwrap().endpoint);
    }
    let stubborn = Stubborn { gateway: gateway.clone(), keeps: endpoints[1].clone() };
    departure::erase_devices(&devices, &stubborn, ada).await.unwrap_err();
    let left: Vec<_> = devices.of(ada).await.unwrap().into_iter().map(|device| device.endpoint).collect();
    assert_eq!(left, endpoints[1..2]);
    departure::erase_devices(&devices, &gateway, ada).await.unwrap();
    assert!(devices.of(ada).await.unwrap().is_empty());
}

/// Deliveries that are away after so many posts.
struct Breaking {
    deliveries: MemoryDeliveries,
    left: AtomicUsize,
}

impl DeliveryEraser for Breaking {
    async fn erase(&self, owner: UserId, post_id: PostId) -> Result<()> {
        let left = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        left.map_err(|_| Error::unavailable("deliveries", "away"))?;
        self.deliveries.erase(owner, post_id).await
    }
}

#[tokio::test]
async fn an_inbox_goes_with_the_deliveries_that_are_found_by_it() {
    let (inboxes, deliveries, now) = (MemoryInboxes::default(), MemoryDeliveries::default(), time::now());
    let [ada, bob] = [(); 2].map(|()| fixtures::user());
    let mut keys = Vec::new();
    for number in 0..250 {
        let post_id = PostId::new(now);
        // Pushed and, every tenth, shared, too.
        let mut reasons = vec![Because::Subscription { subscription_id: SubscriptionId::new(now) }];
        reasons.extend((number % 10 == 0).then_some(Because::Shared { shared_by: bob }));
        for owner in [ada, bob] {
            for because in &reasons {
                inboxes.add(owner, &Notification::new(post_id, *because, now)).await.unwrap();
            }
            let key =
                PushKey { post_id, news: News::Posted, user_id: owner, device_id: "phone".parse().unwrap() };
            deliveries.record(&key, reasons[0], Outcome::Pushed, now).await.unwrap();
            keys.push(key);
        }
    }
    let left = async |owner| {
        let inbox = inboxes.newest(owner, None, 1_000, now).await.unwrap().len();
        let mut delivered = 0;
        for key in keys.iter().filter(|key| key.user_id == owner) {
            delivered += deliveries.of(owner, key.post_id, now).await.unwrap().len();
        }
        (inbox, delivered)
    };
    let everything = (275, 250);
    assert_eq!(left(ada).await, everything);
    // It ends in the middle of the second page: that page is there to be found again, and the first is done.
    let breaking = Breaking { deliveries: deliveries.clone(), left: AtomicUsize::new(150) };
    departure::erase_inbox(&inboxes, &breaking, ada, now).await.unwrap_err();
    let found = inboxes.newest(ada, None, 1_000, now).await.unwrap();
    assert_eq!(found.len(), 175);
    let found: HashSet<_> = found.into_iter().map(|one| one.id.post_id).collect();
    let (mut erased, mut lost) = (0, 0);
    for key in keys.iter().filter(|key| key.user_id == ada) {
        let is_there = !deliveries.of(ada, key.post_id, now).await.unwrap().is_empty();
        erased += usize::from(!is_there);
        lost += usize::from(is_there && !found.contains(&key.post_id));
    }
    assert!(erased >= 100 && lost == 0, "{erased} are erased, and {lost} are found by no inbox");
    let erased = departure::erase_inbox(&inboxes, &deliveries, ada, now).await.unwrap();
    assert_eq!((erased, left(ada).await), (Erased::Whole, (0, 0)));
    assert_eq!(left(bob).await, everything, "nobody else's");
}
