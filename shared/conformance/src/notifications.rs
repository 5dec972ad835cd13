//! People's inboxes.

use tocsin_domain::{
    ids::{PostId, SubscriptionId},
    notification::{
        Because, Inbox, InboxEraser, InboxMarker, Inboxes, LIFETIME_SECONDS, Notification, NotificationId,
    },
    push::Outcome,
    time::{self, Timestamp},
};

use crate::fixtures::user;

/// All of the table's ports.
pub trait InboxStore: Inboxes + Inbox + InboxMarker + InboxEraser {}

impl<T: Inboxes + Inbox + InboxMarker + InboxEraser> InboxStore for T {}

fn pushed(now: Timestamp) -> Notification {
    let because = Because::Subscription { subscription_id: SubscriptionId::new(now) };
    Notification::new(PostId::new(now), because, now)
}

/// An inbox has each notification once, the newest first, read or not, until it expires.
pub async fn inboxes(inboxes: &impl InboxStore) {
    let now = time::now();
    let (ada, eve) = (user(), user());
    let newest = async |at| inboxes.newest(ada, None, 100, at).await.unwrap();
    assert_eq!(newest(now).await, []);
    let first = pushed(now);
    assert!(inboxes.add(ada, &first).await.unwrap());
    let later = time::after(now, 60);
    assert!(!inboxes.add(ada, &Notification { created_at: later, ..first }).await.unwrap(), "it is there");
    assert_eq!(newest(later).await, [first], "as it was first made");

    // The same post by two friends, and to another.
    let shared = |from| Notification::new(first.id.post_id, Because::Shared { shared_by: from }, later);
    let (second, third) = (shared(user()), shared(user()));
    assert!(inboxes.add(ada, &second).await.unwrap());
    assert!(inboxes.add(ada, &third).await.unwrap());
    assert!(!inboxes.add(ada, &third).await.unwrap());
    assert!(inboxes.add(eve, &third).await.unwrap());
    let mut expected = vec![first, second, third];
    expected.sort_by_key(|one| std::cmp::Reverse((one.created_at, one.id.to_string())));
    assert_eq!(newest(later).await, expected);
    for limit in 1..4 {
        let (mut read, mut before) = (Vec::new(), None);
        loop {
            let page = inboxes.newest(ada, before, limit, later).await.unwrap();
            read.extend(page.iter().copied());
            before = read.last().map(|last| (last.created_at, last.id));
            if page.len() < limit {
                break;
            }
        }
        assert_eq!(read, expected, "by {limit}");
    }

    let unread = async |owner| {
        let all = inboxes.newest(owner, None, 100, later).await.unwrap();
        all.into_iter().filter(|one| !one.read).map(|one| one.id).collect::<Vec<_>>()
    };
    let nowhere = NotificationId { post_id: PostId::new(now), shared_by: None };
    inboxes.mark(ada, &[second.id, nowhere, second.id]).await.unwrap();
    assert_eq!(unread(ada).await.len(), 2);
    assert!(!unread(ada).await.contains(&second.id));
    assert_eq!(newest(later).await.len(), 3, "what is not there is not made by marking it");
    assert!(!inboxes.add(ada, &second).await.unwrap());
    assert!(!unread(ada).await.contains(&second.id), "what was read stays read");
    inboxes.mark_until(ada, now).await.unwrap();
    assert_eq!(unread(ada).await, [third.id]);
    inboxes.mark_until(ada, later).await.unwrap();
    inboxes.mark_until(ada, now).await.unwrap();
    assert_eq!(unread(ada).await, [], "until the latest that was said");
    assert_eq!(unread(eve).await, [third.id], "hers alone");
    let fresh = pushed(time::after(later, 1));
    inboxes.add(ada, &fresh).await.unwrap();
    assert_eq!(unread(ada).await, [fresh.id], "what came after");

    let push = async |id| newest(later).await.into_iter().find(|one| one.id == id).unwrap().push;
    assert_eq!(push(fresh.id).await, None);
    for (said, expected) in [
        (Outcome::Held, Outcome::Held),
        (Outcome::Held, Outcome::Held),
        (Outcome::MutedCategory, Outcome::MutedCategory),
        (Outcome::Held, Outcome::MutedCategory),
        (Outcome::Digested, Outcome::Digested),
        (Outcome::DeviceGone, Outcome::Digested),
        (Outcome::Pushed, Outcome::Pushed),
    ] {
        inboxes.tell(ada, fresh.id, said).await.unwrap();
        assert_eq!(push(fresh.id).await, Some(expected), "{said:?}");
    }
    inboxes.tell(ada, nowhere, Outcome::Pushed).await.unwrap();
    assert_eq!(newest(later).await.len(), 4, "what is not there is not made by telling of it");
    let muted = Notification { push: Some(Outcome::MutedSeverity), ..pushed(later) };
    inboxes.add(eve, &muted).await.unwrap();
    assert!(inboxes.newest(eve, None, 9, later).await.unwrap().contains(&muted), "it is said with it");
    inboxes.remove(eve, &[muted.id]).await.unwrap();

    let half = time::after(now, LIFETIME_SECONDS + 30);
    let left: Vec<_> = newest(half).await.into_iter().map(|one| one.id).collect();
    assert_eq!((left.len(), left.contains(&first.id)), (3, false), "the first has expired");

    for _ in 0..2 {
        inboxes.remove(ada, &[first.id, second.id, nowhere]).await.unwrap();
        assert_eq!(newest(later).await.iter().map(|one| one.id).collect::<Vec<_>>(), [fresh.id, third.id]);
    }
    assert_eq!(unread(eve).await, [third.id]);
    inboxes.erase(ada).await.unwrap();
    inboxes.erase(ada).await.unwrap();
    assert_eq!(newest(later).await, []);
    assert!(inboxes.add(ada, &first).await.unwrap());
    assert_eq!(unread(ada).await, [first.id], "also what had been read is forgotten");
    assert_eq!(unread(eve).await, [third.id]);
}
