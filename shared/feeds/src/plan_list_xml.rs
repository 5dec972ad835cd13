//! `plan-list-xml`: what is on sale, as providers of tickets list it.
//!
//! ```xml
//! <planList><output>
//!   <base_plan base_plan_id="291" sell_mode="online" title="Camela en concierto" organizer_company_id="1">
//!     <plan plan_id="291" plan_start_date="2021-06-30T21:00:00" plan_end_date="2021-06-30T22:00:00"
//!           sell_from="2020-07-01T00:00:00" sell_to="2021-06-30T20:00:00" sold_out="false">
//!       <zone zone_id="40" capacity="243" price="20.00" name="Platea" numbered="true"/>
//!     </plan>
//!   </base_plan>
//! </output></planList>
//! ```
//!
//! Others say `eventList`, `base_event` and `event`. What is not sold online is not shown. A plan's id is one only within its
//! base plan. Times have no zone: they are of the feed's.

use std::collections::{BTreeSet, HashMap, HashSet};

use tocsin_domain::{
    feed_item::{BadEntry, Entry, Item, Reading},
    post::{PostKind, Prices},
};

use crate::{
    Adapter, Context, MOST_ENTRIES, MOST_OF_ENTRY, NotThisFormat,
    times::instant,
    xml::{self, Element, TOO_LARGE},
};

pub(crate) struct PlanListXml;

/// How the two dialects name what they list.
struct Dialect {
    list: &'static str,
    base: &'static str,
    item: &'static str,
}

const DIALECTS: [Dialect; 2] = [
    Dialect { list: "planList", base: "base_plan", item: "plan" },
    Dialect { list: "eventList", base: "base_event", item: "event" },
];

impl Adapter for PlanListXml {
    fn read(&self, document: &[u8], context: &Context<'_>) -> Result<Reading, NotThisFormat> {
        let mut list = List::default();
        let mut seen = 0;
        let root = xml::each(document, &DIALECTS.map(|dialect| dialect.base), |base| {
            seen += 1;
            if seen <= MOST_ENTRIES {
                list.read_base(&base, context);
            }
        })?;
        if !DIALECTS.iter().any(|dialect| dialect.list == root.name) {
            return Err(NotThisFormat(format!("its root is {}, not planList or eventList", root.name)));
        }
        if seen > MOST_ENTRIES {
            let reason = format!("only the first {MOST_ENTRIES} of {seen} are read");
            list.reading.bad.push(BadEntry { entry: root.name, reason });
        }
        Ok(list.reading)
    }
}

/// What was read so far.
#[derive(Default)]
struct List {
    reading: Reading,
    /// Where the entries are, by their ids: some list a base plan again, with more of its plans.
    entries: HashMap<String, usize>,
    /// The plans, by their base plans' ids and their own.
    plans: HashSet<(usize, String)>,
}

impl List {
    /// Reads all plans of a base plan.
    fn read_base(&mut self, base: &Element, context: &Context<'_>) {
        let Some(dialect) = DIALECTS.iter().find(|dialect| dialect.base == base.name) else { return };
        if base.attribute("sell_mode") != Some("online") {
            return;
        }
        let id = id_of(base, dialect.base);
        let name = |id: Option<&str>| format!("{} {}", dialect.base, id.unwrap_or("without an id"));
        let Self { reading: Reading { entries, bad, .. }, .. } = self;
        let mut bad = |entry, reason: String| bad.push(BadEntry { entry, reason });
        let Some(id) = id else { return bad(name(None), "has no id".to_owned()) };
        let Some(title) = base.attribute("title").filter(|title| !title.trim().is_empty()) else {
            return bad(name(Some(id)), "has no title".to_owned());
        };
        let index = *self.entries.entry(id.to_owned()).or_insert(entries.len());
        if index == entries.len() {
            let (aliases, items) = (BTreeSet::new(), Vec::new());
            entries.push(Entry { id: id.to_owned(), aliases, message: None, items });
        }
        let mut left_out = 0;
        for plan in base.all(dialect.item) {
            let place = || {
                let own = id_of(plan, dialect.item).unwrap_or_default();
                format!("{} › {} {own}", name(Some(id)), dialect.item)
            };
            match read_plan(title, plan, dialect, context) {
                Ok((plan_id, _)) if self.plans.contains(&(index, plan_id.clone())) => {
                    bad(place(), "is there twice".to_owned());
                }
                Ok(_) if entries[index].items.len() == MOST_OF_ENTRY => left_out += 1,
                Ok((plan_id, item)) => {
                    self.plans.insert((index, plan_id));
                    entries[index].items.push(item);
                }
                Err(reason) => bad(place(), reason),
            }
        }
        if base.is_cut {
            bad(name(Some(id)), TOO_LARGE.to_owned());
        }
        if left_out > 0 {
            let reason = format!("{left_out} of it are left out, since it has more than {MOST_OF_ENTRY}");
            bad(name(Some(id)), reason);
        }
    }
}

/// The highest price, in whatever currency.
const MOST_PRICE: f64 = 1e9;
/// The most zones that are named of a plan.
const MOST_ZONES: usize = 200;

/// A plan, with its id.
fn read_plan(
    title: &str,
    plan: &Element,
    dialect: &Dialect,
    context: &Context<'_>,
) -> Result<(String, Item), String> {
    let sub_id = id_of(plan, dialect.item).ok_or("has no id")?;
    if plan.is_cut {
        return Err(TOO_LARGE.to_owned());
    }
    let time = |name: &str| {
        let name = format!("{}_{name}_date", dialect.item);
        let text = plan.attribute(&name).ok_or_else(|| format!("has no {name}"))?;
        instant(text, context).map_err(|reason| format!("{name} {reason}"))
    };
    let (starts_at, ends_at) = (time("start")?, time("end")?);
    if ends_at < starts_at {
        return Err("ends before it starts".to_owned());
    }
    let (mut prices, mut zones) = (Vec::new(), Vec::new());
    for zone in plan.all("zone") {
        let price = zone.attribute("price").unwrap_or_default();
        let amount: f64 = price
            .trim()
            .parse()
            .ok()
            .filter(|price| (0.0..=MOST_PRICE).contains(price))
            .ok_or_else(|| format!("a zone's price is no amount: {price:?}"))?;
        prices.push(amount);
        let line = format!("{}: {amount:.2}", zone.attribute("name").unwrap_or_default().trim());
        if zones.len() < MOST_ZONES && !zones.contains(&line) {
            zones.push(line);
        }
    }
    let is_sold_out = plan.attribute("sold_out").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let sold_out = is_sold_out.then(|| "Sold out.".to_owned());
    let body: Vec<String> = sold_out.into_iter().chain(zones).collect();
    let item = Item {
        sub_id: Some(sub_id.to_owned()),
        starts_at: Some(starts_at),
        // Some write the beginning once more where the end is not known.
        ends_at: (ends_at > starts_at).then_some(ends_at),
        prices: prices
            .iter()
            .copied()
            .reduce(f64::min)
            .zip(prices.into_iter().reduce(f64::max))
            .map(|(min, max)| Prices { min, max }),
        ..Item::new(PostKind::Event, title).with_body(&body.join("\n"))
    };
    Ok((sub_id.to_owned(), item))
}

fn id_of<'a>(element: &'a Element, name: &str) -> Option<&'a str> {
    element.attribute(&format!("{name}_id")).map(str::trim).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tocsin_domain::feed::Format;

    use super::*;
    use crate::testing;

    fn read(document: &str) -> Reading {
        testing::read(&PlanListXml, document.as_bytes()).unwrap()
    }

    #[test]
    fn both_dialects_are_read_with_prices_and_only_what_is_sold_online() {
        for dialect in DIALECTS {
            let Dialect { list, base, item } = dialect;
            let reading = read(&format!(
                r#"
                <?xml version="1.0" encoding="UTF-8"?><{list}><output>
                <{base} {base}_id="291" sell_mode="online" title=" Night of the organ &amp; choir">
                  <{item} {item}_id="1" {item}_start_date="2026-12-03T21:00:00" {item}_end_date="2026-12-03T22:30:00" sold_out="false">
                    <zone zone_id="40" capacity="243" price="20.00" name="Nave" numbered="true"/>
                    <zone zone_id="40" capacity="243" price="20.00" name="Nave" numbered="true"/>
                    <zone zone_id="38" capacity="100" price="15.50" name="Gallery" numbered="false"/>
                  </{item}>
                  <{item} {item}_id="2" {item}_start_date="2026-12-04T21:00:00Z" {item}_end_date="2026-12-04T21:00:00Z" sold_out="true"/>
                </{base}>
                <{base} {base}_id="292" sell_mode="offline" title="At the door"><{item}/></{base}>
                </output></{list}>"#
            ));
            assert_eq!((reading.entries.len(), reading.bad.len()), (1, 0), "{reading:?}");
            let entry = &reading.entries[0];
            let [first, second] = &entry.items[..] else { panic!("{entry:?}") };
            assert_eq!(
                (entry.id.as_str(), first.sub_id.as_deref(), first.kind),
                ("291", Some("1"), PostKind::Event)
            );
            assert_eq!(first.title, "Night of the organ & choir");
            assert_eq!(first.body.as_deref(), Some("Nave: 20.00\nGallery: 15.50"));
            assert_eq!(first.prices, Some(Prices { min: 15.5, max: 20.0 }));
            // Oslo is an hour ahead in winter.
            assert_eq!(first.starts_at, Some("2026-12-03T20:00:00Z".parse().unwrap()));
            assert_eq!(first.ends_at, Some("2026-12-03T21:30:00Z".parse().unwrap()));
            assert_eq!(
                (second.ends_at, second.prices, second.body.as_deref()),
                (None, None, Some("Sold out."))
            );
        }
    }

    #[test]
    fn what_is_bad_is_named_and_the_rest_goes_on() {
        let plan = |id: &str, start: &str, end: &str, price: &str| {
            format!(
                r#"<plan plan_id="{id}" plan_start_date="{start}" plan_end_date="{end}"><zone price="{price}"/></plan>"#
            )
        };
        let good = plan("7", "2026-12-03T21:00:00", "2026-12-03T22:00:00", "1");
        let bad = [
            plan("", "2026-12-03T21:00:00", "2026-12-03T22:00:00", "1"),
            plan("1", "2026-09-31T21:00:00", "2026-10-01T22:00:00", "1"),
            plan("2", "2026-12-03T21:00:00", "2026-12-03T20:00:00", "1"),
            plan("3", "2026-12-03T21:00:00", "2026-12-03T22:00:00", "a lot"),
            plan("4", "2026-12-03T21:00:00", "2026-12-03T22:00:00", "inf"),
            "<plan plan_id='5'/>".to_owned(),
            good.clone(),
        ];
        let base = |id: &str, title: &str, plans: &str| {
            format!(
                r#"<base_plan base_plan_id="{id}" sell_mode="online" title="{title}">{plans}</base_plan>"#
            )
        };
        let list = [
            base("1", "A concert", &[good.clone(), bad.concat()].concat()),
            base("2", "Another, with a plan of the same id", &good),
            base("", "Without an id", &good),
            base("3", " ", &good),
        ];
        let reading = read(&format!("<planList><output>{}</output></planList>", list.concat()));
        let ids: Vec<_> =
            reading.entries.iter().map(|entry| (entry.id.as_str(), entry.items.len())).collect();
        assert_eq!(ids, [("1", 1), ("2", 1)]);
        let reasons: Vec<_> =
            reading.bad.iter().map(|bad| format!("{}: {}", bad.entry, bad.reason)).collect();
        assert_eq!(
            reasons,
            [
                "base_plan 1 › plan : has no id",
                "base_plan 1 › plan 1: plan_start_date is no time: \"2026-09-31T21:00:00\"",
                "base_plan 1 › plan 2: ends before it starts",
                "base_plan 1 › plan 3: a zone's price is no amount: \"a lot\"",
                "base_plan 1 › plan 4: a zone's price is no amount: \"inf\"",
                "base_plan 1 › plan 5: has no plan_start_date",
                "base_plan 1 › plan 7: is there twice",
                "base_plan without an id: has no id",
                "base_plan 3: has no title",
            ]
        );
    }

    #[test]
    fn a_base_plan_that_is_listed_again_is_one_with_the_plans_of_both() {
        let base = |plan: &str| {
            format!(
                r#"<base_plan base_plan_id="1" sell_mode="online" title="A">
                <plan plan_id="{plan}" plan_start_date="2026-12-03T21:00:00" plan_end_date="2026-12-03T22:00:00"/></base_plan>"#
            )
        };
        let reading = read(&format!("<planList>{}</planList>", ["1", "2", "1"].map(base).concat()));
        let [entry] = &reading.entries[..] else { panic!("{reading:?}") };
        let plans: Vec<_> = entry.items.iter().filter_map(|item| item.sub_id.as_deref()).collect();
        assert_eq!((plans, reading.bad.len()), (vec!["1", "2"], 1));
        assert_eq!(reading.bad[0].reason, "is there twice");
    }

    proptest! {
        #[test]
        fn damage_is_borne(document in testing::damaged(Format::PlanListXml)) {
            let _ = testing::read(&PlanListXml, &document);
        }
    }

    #[test]
    fn another_document_is_none() {
        for document in ["<rss/>", "{}", "<planList><output>"] {
            testing::read(&PlanListXml, document.as_bytes()).unwrap_err();
        }
    }
}
