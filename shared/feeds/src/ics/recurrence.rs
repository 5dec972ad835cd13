//! Recurrence rules (RFC 5545, 3.3.10), followed within a window of time: a rule costs what lies in the window, save one that
//! counts, which costs what lies before too. Whatever the rule, there is an end to it: each day and each instance that is
//! looked at is a step, and the steps are numbered.

use std::{ops::RangeInclusive, str::FromStr};

use jiff::{
    ToSpan,
    civil::{Date, DateTime, Time, Weekday},
    tz::TimeZone,
};

use super::content::Written;

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Frequency {
    Secondly,
    Minutely,
    Hourly,
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

/// A rule. What is empty does not restrict it.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    frequency: Frequency,
    interval: i64,
    count: Option<u64>,
    until: Option<Written>,
    by_second: Vec<i32>,
    by_minute: Vec<i32>,
    by_hour: Vec<i32>,
    by_day: Vec<Nth>,
    by_month_day: Vec<i32>,
    by_year_day: Vec<i32>,
    by_week_no: Vec<i32>,
    by_month: Vec<i32>,
    by_set_pos: Vec<i32>,
    week_start: Weekday,
}

/// Every such day of the week, or the n-th; from the end, if negative.
#[derive(Clone, Copy, Debug)]
struct Nth {
    nth: Option<i32>,
    weekday: Weekday,
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut frequency = None;
        let mut rule = Self {
            frequency: Frequency::Yearly,
            interval: 1,
            count: None,
            until: None,
            by_second: Vec::new(),
            by_minute: Vec::new(),
            by_hour: Vec::new(),
            by_day: Vec::new(),
            by_month_day: Vec::new(),
            by_year_day: Vec::new(),
            by_week_no: Vec::new(),
            by_month: Vec::new(),
            by_set_pos: Vec::new(),
            week_start: Weekday::Monday,
        };
        for part in text.trim().to_ascii_uppercase().split(';').filter(|part| !part.is_empty()) {
            let wrong = || format!("has a rule that says {part:?}");
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            let all = |range| numbers(value, range, false).ok_or_else(wrong);
            let from_both_ends = |range| numbers(value, range, true).ok_or_else(wrong);
            match name.trim() {
                "FREQ" => frequency = Some(self::frequency(value).ok_or_else(wrong)?),
                "INTERVAL" => rule.interval = positive(value).ok_or_else(wrong)?.into(),
                "COUNT" => rule.count = Some(positive(value).ok_or_else(wrong)?.into()),
                "UNTIL" => rule.until = Some(Written::read(value).ok_or_else(wrong)?),
                "BYSECOND" => {
                    rule.by_second = all(0..=60)?.into_iter().map(|second| second.min(59)).collect();
                }
                "BYMINUTE" => rule.by_minute = all(0..=59)?,
                "BYHOUR" => rule.by_hour = all(0..=23)?,
                "BYDAY" => {
                    rule.by_day = value.split(',').map(nth).collect::<Option<_>>().ok_or_else(wrong)?;
                }
                "BYMONTHDAY" => rule.by_month_day = from_both_ends(1..=31)?,
                "BYYEARDAY" => rule.by_year_day = from_both_ends(1..=366)?,
                "BYWEEKNO" => rule.by_week_no = from_both_ends(1..=53)?,
                "BYMONTH" => rule.by_month = all(1..=12)?,
                "BYSETPOS" => rule.by_set_pos = from_both_ends(1..=366)?,
                "WKST" => rule.week_start = weekday(value).ok_or_else(wrong)?,
                name if name.starts_with("X-") => {}
                // RFC 7529's other calendars, and what is in none.
                "RSCALE" if value == "GREGORIAN" => {}
                "SKIP" if value == "OMIT" => {}
                _ => return Err(wrong()),
            }
        }
        rule.frequency = frequency.ok_or("has a rule that does not say how often")?;
        rule.by_second.sort_unstable();
        rule.by_second.dedup();
        rule.refuse_what_does_not_go_together()?;
        Ok(rule)
    }
}

fn frequency(text: &str) -> Option<Frequency> {
    Some(match text {
        "SECONDLY" => Frequency::Secondly,
        "MINUTELY" => Frequency::Minutely,
        "HOURLY" => Frequency::Hourly,
        "DAILY" => Frequency::Daily,
        "WEEKLY" => Frequency::Weekly,
        "MONTHLY" => Frequency::Monthly,
        "YEARLY" => Frequency::Yearly,
        _ => return None,
    })
}

fn positive(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|number| *number > 0)
}

/// A list of numbers in a range, sorted; with those that count from the end, if there are such.
fn numbers(text: &str, range: RangeInclusive<i32>, from_both_ends: bool) -> Option<Vec<i32>> {
    let number = |word: &str| {
        let number: i32 = word.trim().parse().ok()?;
        (range.contains(&number) || from_both_ends && range.contains(&number.checked_neg()?))
            .then_some(number)
    };
    let mut all: Vec<i32> = text.split(',').map(number).collect::<Option<_>>()?;
    all.sort_unstable();
    all.dedup();
    Some(all)
}

/// `-1SU`, `MO`.
fn nth(text: &str) -> Option<Nth> {
    let text = text.trim();
    let (number, day) = text.split_at_checked(text.len().checked_sub(2)?)?;
    let nth = match number {
        "" => None,
        number => Some(number.parse::<i32>().ok().filter(|nth| (1..=53).contains(&nth.abs()))?),
    };
    Some(Nth { nth, weekday: weekday(day)? })
}

fn weekday(text: &str) -> Option<Weekday> {
    Some(match text {
        "MO" => Weekday::Monday,
        "TU" => Weekday::Tuesday,
        "WE" => Weekday::Wednesday,
        "TH" => Weekday::Thursday,
        "FR" => Weekday::Friday,
        "SA" => Weekday::Saturday,
        "SU" => Weekday::Sunday,
        _ => return None,
    })
}

/// The steps of a rule, or of all of a document, are used up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// What a rule is followed by: the first instance, the window, and what may be looked at.
pub(super) struct Walk<'a> {
    pub(super) start: DateTime,
    pub(super) from: DateTime,
    pub(super) to: DateTime,
    pub(super) steps: &'a mut u64,
}

impl Walk<'_> {
    fn step(&mut self, steps: usize) -> Result<(), TooLong> {
        *self.steps = self.steps.checked_sub(steps as u64).ok_or(TooLong)?;
        Ok(())
    }
}

/// Whether there is more to come.
enum Goes {
    On,
    NoFurther,
}

impl Rule {
    /// What the standard excludes (RFC 5545, 3.3.10).
    fn refuse_what_does_not_go_together(&self) -> Result<(), String> {
        let is = |frequencies: &[Frequency]| frequencies.contains(&self.frequency);
        let has_nth = self.by_day.iter().any(|day| day.nth.is_some());
        let wrong = if !self.by_week_no.is_empty() && !is(&[Frequency::Yearly]) {
            "BYWEEKNO"
        } else if !self.by_year_day.is_empty()
            && is(&[Frequency::Daily, Frequency::Weekly, Frequency::Monthly])
        {
            "BYYEARDAY"
        } else if !self.by_month_day.is_empty() && is(&[Frequency::Weekly]) {
            "BYMONTHDAY"
        } else if has_nth && (!is(&[Frequency::Monthly, Frequency::Yearly]) || !self.by_week_no.is_empty()) {
            "BYDAY with a number"
        } else {
            return Ok(());
        };
        Err(format!("has a rule in which {wrong} has no meaning"))
    }

    /// Hands over the instances in the window, the earliest first, until that says that it wants no more. The start is the
    /// first of them, whether the rule would have it so or not. All times are of the start's zone.
    pub(super) fn each(
        &self,
        mut walk: Walk<'_>,
        zone: &TimeZone,
        mut take: impl FnMut(DateTime) -> bool,
    ) -> Result<(), TooLong> {
        let until = self.until.and_then(|until| match until {
            // Some write a day where the start has a time: all of it is meant.
            Written::Date(day) => Some(day.at(23, 59, 59, 0)),
            Written::Local(time) => Some(time),
            Written::Utc(time) => Some(zone.to_datetime(TimeZone::UTC.to_timestamp(time).ok()?)),
        });
        let last = until.map_or(walk.to, |until| until.min(walk.to));
        let (start, from) = (walk.start, walk.from);
        let mut count = self.count.unwrap_or(u64::MAX);
        let mut give = |time: DateTime| {
            if time > last || count == 0 {
                return Goes::NoFurther;
            }
            count -= 1;
            if time >= from && !take(time) {
                return Goes::NoFurther;
            }
            Goes::On
        };
        if matches!(give(start), Goes::NoFurther) {
            return Ok(());
        }
        let mut give_later = |time: DateTime| if time > start { give(time) } else { Goes::On };
        // What is before the window is of interest only where it counts.
        walk.from = if self.count.is_some() { start } else { from.max(start) };
        let rule = self.completed(start);
        if rule.frequency >= Frequency::Daily {
            rule.each_of_days(&mut walk, &mut give_later)
        } else {
            rule.each_of_times(&mut walk, &mut give_later)
        }
    }

    /// With what the start says where the rule does not.
    fn completed(&self, start: DateTime) -> Self {
        let mut rule = self.clone();
        let names_days =
            !self.by_day.is_empty() || !self.by_month_day.is_empty() || !self.by_year_day.is_empty();
        let on_its_weekday = vec![Nth { nth: None, weekday: start.weekday() }];
        match self.frequency {
            Frequency::Yearly if !names_days && !self.by_week_no.is_empty() => rule.by_day = on_its_weekday,
            Frequency::Yearly if !names_days => {
                if self.by_month.is_empty() {
                    rule.by_month = vec![start.month().into()];
                }
                rule.by_month_day = vec![start.day().into()];
            }
            Frequency::Monthly if !names_days => rule.by_month_day = vec![start.day().into()],
            Frequency::Weekly if !names_days => rule.by_day = on_its_weekday,
            _ => {}
        }
        let fill = |list: &mut Vec<i32>, number: i8| {
            if list.is_empty() {
                list.push(number.into());
            }
        };
        if self.frequency > Frequency::Secondly {
            fill(&mut rule.by_second, start.second());
        }
        if self.frequency > Frequency::Minutely {
            fill(&mut rule.by_minute, start.minute());
        }
        if self.frequency > Frequency::Hourly {
            fill(&mut rule.by_hour, start.hour());
        }
        rule
    }

    /// Each time of each day of a day, week, month or year, and of the next.
    fn each_of_days(
        &self,
        walk: &mut Walk<'_>,
        give: &mut impl FnMut(DateTime) -> Goes,
    ) -> Result<(), TooLong> {
        let times = self.times(&self.by_hour);
        let mut number = self.first_period(walk);
        loop {
            let Some((first, last)) = self.period(walk.start.date(), number) else { return Ok(()) };
            if first > walk.to.date() {
                return Ok(());
            }
            let period: Vec<Date> = days_from(first).take_while(|day| *day <= last).collect();
            walk.step(period.len())?;
            let days: Vec<Date> = period.into_iter().filter(|day| self.has_day(*day)).collect();
            walk.step(days.len() * times.len())?;
            for index in self.positions(days.len() * times.len()) {
                let time = days[index / times.len()].to_datetime(times[index % times.len()]);
                if matches!(give(time), Goes::NoFurther) {
                    return Ok(());
                }
            }
            number += 1;
        }
    }

    /// Each time of an hour, minute or second, and of the next.
    fn each_of_times(
        &self,
        walk: &mut Walk<'_>,
        give: &mut impl FnMut(DateTime) -> Goes,
    ) -> Result<(), TooLong> {
        let unit_s = match self.frequency {
            Frequency::Secondly => 1,
            Frequency::Minutely => 60,
            _ => 3_600,
        };
        let second_of = |time: Time| {
            i64::from(time.hour()) * 3_600 + i64::from(time.minute()) * 60 + i64::from(time.second())
        };
        let origin = second_of(walk.start.time()) / unit_s;
        let per_day = 86_400 / unit_s;
        let has = |list: &[i32], number: i32| list.is_empty() || list.contains(&number);
        for day in days_from(walk.from.date()) {
            if day > walk.to.date() {
                break;
            }
            walk.step(1)?;
            if !self.has_day(day) {
                continue;
            }
            // The first hour, minute or second of this day that is a whole number of intervals from the start.
            let passed = days_between(walk.start.date(), day) * per_day - origin;
            let mut unit = (-passed).rem_euclid(self.interval);
            while unit < per_day {
                walk.step(1)?;
                let second = unit * unit_s;
                let [hour, minute, second] = [second / 3_600, second / 60 % 60, second % 60].map(as_small);
                let is_in = has(&self.by_hour, hour)
                    && (self.frequency == Frequency::Hourly || has(&self.by_minute, minute))
                    && (self.frequency > Frequency::Secondly || has(&self.by_second, second));
                if is_in {
                    let times = match self.frequency {
                        Frequency::Secondly => times(&[hour], &[minute], &[second]),
                        Frequency::Minutely => times(&[hour], &[minute], &self.by_second),
                        _ => self.times(&[hour]),
                    };
                    walk.step(times.len())?;
                    for index in self.positions(times.len()) {
                        if matches!(give(day.to_datetime(times[index])), Goes::NoFurther) {
                            return Ok(());
                        }
                    }
                }
                unit += self.interval;
            }
        }
        Ok(())
    }

    fn times(&self, hours: &[i32]) -> Vec<Time> {
        times(hours, &self.by_minute, &self.by_second)
    }

    /// Which are wanted of so many: all, or some from either end.
    fn positions(&self, count: usize) -> Vec<usize> {
        if self.by_set_pos.is_empty() {
            return (0..count).collect();
        }
        let from_either_end = |position: &i32| {
            let distance = usize::try_from(position.unsigned_abs()).ok()?;
            let index = if *position > 0 { distance - 1 } else { count.checked_sub(distance)? };
            (index < count).then_some(index)
        };
        let mut indices: Vec<usize> = self.by_set_pos.iter().filter_map(from_either_end).collect();
        indices.sort_unstable();
        indices.dedup();
        indices
    }

    /// The number of the first period that may reach into the window.
    fn first_period(&self, walk: &Walk<'_>) -> i64 {
        let (start, from) = (walk.start.date(), walk.from.date());
        let months = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month());
        let passed = match self.frequency {
            Frequency::Yearly => i64::from(from.year()) - i64::from(start.year()),
            Frequency::Monthly => months(from) - months(start),
            Frequency::Weekly => days_between(start, from) / 7,
            _ => days_between(start, from),
        };
        (passed / self.interval).max(0)
    }

    /// The first and the last day of a period, by its number; none beyond the end of time.
    fn period(&self, start: Date, number: i64) -> Option<(Date, Date)> {
        let passed = number.checked_mul(self.interval)?;
        let later = |date: Date, days: i64| date.checked_add(jiff::Span::new().try_days(days).ok()?).ok();
        match self.frequency {
            Frequency::Yearly => {
                let first =
                    Date::new(i16::try_from(passed.checked_add(start.year().into())?).ok()?, 1, 1).ok()?;
                Some((first, first.last_of_year()))
            }
            Frequency::Monthly => {
                let months =
                    passed.checked_add(i64::from(start.year()) * 12 + i64::from(start.month()) - 1)?;
                let (year, month) =
                    (i16::try_from(months.div_euclid(12)).ok()?, as_small(months.rem_euclid(12)) + 1);
                let first = Date::new(year, i8::try_from(month).ok()?, 1).ok()?;
                Some((first, first.last_of_month()))
            }
            Frequency::Weekly => {
                let first =
                    later(later(start, -days_into_week(start, self.week_start))?, passed.checked_mul(7)?)?;
                Some((first, later(first, 6)?))
            }
            _ => later(start, passed).map(|day| (day, day)),
        }
    }

    /// Whether a day is of those that the rule names.
    fn has_day(&self, day: Date) -> bool {
        let of_end = |number: i32, length: i32| number - length - 1;
        let has = |list: &[i32], number: i32, length: i32| {
            list.is_empty() || list.contains(&number) || list.contains(&of_end(number, length))
        };
        let (month_day, month_length) = (i32::from(day.day()), i32::from(day.days_in_month()));
        let (year_day, year_length) = (i32::from(day.day_of_year()), i32::from(day.days_in_year()));
        let is_nth = |nth: i32, number: i32, length: i32| {
            if nth > 0 { (number - 1) / 7 + 1 == nth } else { (length - number) / 7 + 1 == -nth }
        };
        let is_of_month = self.frequency == Frequency::Monthly || !self.by_month.is_empty();
        let is_weekday = |one: &Nth| {
            one.weekday == day.weekday()
                && one.nth.is_none_or(|nth| {
                    if is_of_month {
                        is_nth(nth, month_day, month_length)
                    } else {
                        is_nth(nth, year_day, year_length)
                    }
                })
        };
        (self.by_month.is_empty() || self.by_month.contains(&day.month().into()))
            && has(&self.by_month_day, month_day, month_length)
            && has(&self.by_year_day, year_day, year_length)
            && (self.by_day.is_empty() || self.by_day.iter().any(is_weekday))
            && (self.by_week_no.is_empty()
                || week(day, self.week_start).is_some_and(|(week, weeks)| has(&self.by_week_no, week, weeks)))
    }
}

/// The number of a day's week, and how many its year has: a week is of the year in which four of its days are.
fn week(day: Date, week_start: Weekday) -> Option<(i32, i32)> {
    let middle = day.checked_add((3 - days_into_week(day, week_start)).days()).ok()?;
    let (year_day, year_length) = (i32::from(middle.day_of_year()), i32::from(middle.days_in_year()));
    let week = (year_day - 1) / 7 + 1;
    Some((week, week + (year_length - year_day) / 7))
}

fn days_from(first: Date) -> impl Iterator<Item = Date> {
    std::iter::successors(Some(first), |day| day.tomorrow().ok())
}

fn days_into_week(day: Date, week_start: Weekday) -> i64 {
    day.weekday().since(week_start).into()
}

fn days_between(from: Date, to: Date) -> i64 {
    from.duration_until(to).as_hours() / 24
}

fn times(hours: &[i32], minutes: &[i32], seconds: &[i32]) -> Vec<Time> {
    let mut times = Vec::with_capacity(hours.len() * minutes.len() * seconds.len());
    for hour in hours {
        for minute in minutes {
            for second in seconds {
                let [hour, minute, second] = [hour, minute, second].map(|number| i8::try_from(*number).ok());
                let time = hour.zip(minute).zip(second);
                times.extend(
                    time.and_then(|((hour, minute), second)| Time::new(hour, minute, second, 0).ok()),
                );
            }
        }
    }
    times
}

/// A number that is known to be small.
fn as_small(number: i64) -> i32 {
    i32::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn walk(rule: &str, start: &str, from: &str, to: &str, most: usize) -> Result<Vec<DateTime>, TooLong> {
        let mut all = Vec::new();
        let (mut steps, time) = (100_000, |text: &str| text.parse().unwrap());
        let walk = Walk { start: time(start), from: time(from), to: time(to), steps: &mut steps };
        let rule: Rule = rule.parse().unwrap();
        let zone = TimeZone::get("America/New_York").unwrap();
        rule.each(walk, &zone, |time| {
            all.push(time);
            all.len() < most
        })?;
        Ok(all)
    }

    /// The first so many instances of a rule that begins in New York at nine on a day, as months, days and hours.
    fn first(rule: &str, start: &str, count: usize) -> Vec<String> {
        let start = format!("{start}T09:00");
        let all = walk(rule, &start, &start, "2010-01-01T00:00", count).unwrap();
        all.iter().map(|time| time.strftime("%y%m%d %H:%M").to_string()).collect()
    }

    /// RFC 5545, 3.8.5.3.
    #[test]
    fn the_examples_of_the_standard_come_out_as_it_says() {
        for (rule, start, expected) in [
            ("FREQ=DAILY;COUNT=3", "1997-09-02", "970902 970903 970904"),
            ("FREQ=DAILY;UNTIL=19970904T130000Z", "1997-09-02", "970902 970903 970904"),
            ("FREQ=DAILY;UNTIL=19970904T125959Z", "1997-09-02", "970902 970903"),
            ("FREQ=DAILY;UNTIL=19970904", "1997-09-02", "970902 970903 970904"),
            ("FREQ=DAILY;INTERVAL=10;COUNT=5", "1997-09-02", "970902 970912 970922 971002 971012"),
            ("FREQ=DAILY;UNTIL=20000131T140000Z;BYMONTH=1", "1998-01-30", "980130 980131 990101 990102"),
            ("FREQ=WEEKLY;INTERVAL=2;WKST=SU", "1997-09-02", "970902 970916 970930 971014"),
            ("FREQ=WEEKLY;COUNT=10;WKST=SU;BYDAY=TU,TH", "1997-09-02", "970902 970904 970909 970911"),
            (
                "FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=MO,WE,FR",
                "1997-09-01",
                "970901 970903 970905 970915 970917 970919 970929",
            ),
            (
                "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO",
                "1997-08-05",
                "970805 970810 970819 970824",
            ),
            (
                "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU",
                "1997-08-05",
                "970805 970817 970819 970831",
            ),
            ("FREQ=MONTHLY;COUNT=10;BYDAY=1FR", "1997-09-05", "970905 971003 971107 971205 980102"),
            (
                "FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU",
                "1997-09-07",
                "970907 970928 971102 971130 980104 980125",
            ),
            ("FREQ=MONTHLY;COUNT=6;BYDAY=-2MO", "1997-09-22", "970922 971020 971117 971222 980119 980216"),
            ("FREQ=MONTHLY;BYMONTHDAY=-3", "1997-09-28", "970928 971029 971128 971229 980129 980226"),
            ("FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1", "1997-09-30", "970930 971001 971031 971101"),
            (
                "FREQ=MONTHLY;INTERVAL=18;COUNT=10;BYMONTHDAY=10,11,12",
                "1997-09-10",
                "970910 970911 970912 990310 990311",
            ),
            ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", "1998-02-13", "980213 980313 981113 990813 001013"),
            (
                "FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13",
                "1997-09-13",
                "970913 971011 971108 971213",
            ),
            ("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", "1997-09-04", "970904 971007 971106"),
            ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2", "1997-09-29", "970929 971030 971127 971230"),
            ("FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5", "2007-01-15", "070115 070130 070215 070315 070330"),
            ("FREQ=MONTHLY", "1997-01-31", "970131 970331 970531"),
            ("FREQ=YEARLY;COUNT=10;BYMONTH=6,7", "1997-06-10", "970610 970710 980610 980710"),
            (
                "FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200",
                "1997-01-01",
                "970101 970410 970719 000101 000409 000718",
            ),
            ("FREQ=YEARLY;BYDAY=20MO", "1997-05-19", "970519 980518 990517"),
            ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", "1997-05-12", "970512 980511 990517"),
            ("FREQ=YEARLY;BYWEEKNO=20", "1997-05-12", "970512 980511 990517"),
            ("FREQ=YEARLY;BYWEEKNO=-1;BYDAY=MO", "1997-12-22", "971222 981228 991227"),
            ("FREQ=YEARLY;BYMONTH=3;BYDAY=TH", "1997-03-13", "970313 970320 970327 980305"),
            (
                "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
                "1996-11-05",
                "961105 001107 041102",
            ),
            ("FREQ=YEARLY", "2000-02-29", "000229 040229 080229"),
        ] {
            let expected: Vec<String> = expected.split(' ').map(|day| format!("{day} 09:00")).collect();
            assert_eq!(first(rule, start, expected.len()), expected, "{rule}");
        }
        for (rule, expected) in [
            ("FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T210000Z", "02 09:00,02 12:00,02 15:00"),
            ("FREQ=MINUTELY;INTERVAL=15;COUNT=6", "02 09:00,02 09:15,02 09:30,02 09:45,02 10:00,02 10:15"),
            ("FREQ=MINUTELY;INTERVAL=90;COUNT=4", "02 09:00,02 10:30,02 12:00,02 13:30"),
            ("FREQ=DAILY;BYHOUR=9,10;BYMINUTE=0,40;COUNT=5", "02 09:00,02 09:40,02 10:00,02 10:40,03 09:00"),
            ("FREQ=MINUTELY;INTERVAL=40;BYHOUR=9,16;COUNT=5", "02 09:00,02 09:40,02 16:20,03 09:00,03 09:40"),
            ("FREQ=HOURLY;INTERVAL=36;COUNT=3", "02 09:00,03 21:00,05 09:00"),
            ("FREQ=HOURLY;BYMINUTE=10,20,30;BYSETPOS=-1;COUNT=3", "02 09:00,02 09:30,02 10:30"),
            ("FREQ=SECONDLY;INTERVAL=43200;BYHOUR=21;COUNT=3", "02 09:00,02 21:00,03 21:00"),
        ] {
            let expected: Vec<String> = expected.split(',').map(|time| format!("9709{time}")).collect();
            assert_eq!(first(rule, "1997-09-02", 10), expected, "{rule}");
        }
    }

    #[test]
    fn a_window_far_ahead_costs_no_more_than_one_at_once() {
        for (rule, expected) in [
            ("FREQ=DAILY;INTERVAL=3", "2026-11-01T09:00:00"),
            ("FREQ=HOURLY;INTERVAL=5", "2026-11-01T04:00:00"),
            ("FREQ=SECONDLY;INTERVAL=7", "2026-11-01T00:00:02"),
            ("FREQ=WEEKLY;INTERVAL=2", "2026-11-10T09:00:00"),
            ("FREQ=YEARLY;INTERVAL=2;BYMONTH=11", "2027-11-02T09:00:00"),
        ] {
            let times = walk(rule, "1897-11-02T09:00", "2026-11-01T00:00", "2027-12-01T00:00", 1).unwrap();
            assert_eq!(times[0].to_string(), expected, "{rule}");
        }
    }

    #[test]
    fn there_is_an_end_to_every_rule() {
        for rule in [
            "FREQ=SECONDLY",
            "FREQ=SECONDLY;COUNT=4000000000",
            "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30",
            "FREQ=MINUTELY;BYHOUR=3;BYSETPOS=300",
            "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
            "FREQ=YEARLY;BYWEEKNO=53;BYDAY=MO;BYMONTH=6;COUNT=1",
            "FREQ=YEARLY;INTERVAL=4294967295",
            "FREQ=SECONDLY;INTERVAL=4294967295;COUNT=2",
            "FREQ=YEARLY;BYHOUR=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23;BYMINUTE=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15;BYSECOND=0,1,2,3,4,5,6,7,8,9,10,11,12,13;BYDAY=MO,TU,WE,TH,FR,SA,SU",
        ] {
            for start in ["0000-01-01T00:00", "1900-01-01T00:00", "9999-12-31T23:59:59"] {
                let _ = walk(rule, start, "2026-10-21T00:00", "2027-11-22T00:00", usize::MAX);
            }
        }
    }

    #[test]
    fn rules_that_are_none_are_refused() {
        for rule in [
            "",
            "FREQ",
            "FREQ=FORTNIGHTLY",
            "COUNT=3",
            "FREQ=DAILY;COUNT=0",
            "FREQ=DAILY;INTERVAL=0",
            "FREQ=DAILY;COUNT=-1",
            "FREQ=DAILY;UNTIL=soon",
            "FREQ=DAILY;UNTIL=20260931",
            "FREQ=DAILY;BYHOUR=24",
            "FREQ=DAILY;BYHOUR=-1",
            "FREQ=DAILY;BYHOUR=",
            "FREQ=WEEKLY;BYDAY=1MO",
            "FREQ=MONTHLY;BYDAY=0MO",
            "FREQ=MONTHLY;BYDAY=54MO",
            "FREQ=MONTHLY;BYDAY=M",
            "FREQ=MONTHLY;BYDAY=é",
            "FREQ=WEEKLY;BYMONTHDAY=1",
            "FREQ=MONTHLY;BYMONTHDAY=32",
            "FREQ=MONTHLY;BYMONTHDAY=0",
            "FREQ=MONTHLY;BYYEARDAY=3",
            "FREQ=MONTHLY;BYWEEKNO=3",
            "FREQ=YEARLY;BYWEEKNO=3;BYDAY=1MO",
            "FREQ=YEARLY;BYMONTH=13",
            "FREQ=YEARLY;BYEASTER=1",
            "FREQ=YEARLY;RSCALE=CHINESE",
            "FREQ=YEARLY;BYSETPOS=-2147483648",
        ] {
            assert!(rule.parse::<Rule>().is_err(), "{rule}");
        }
        "FREQ=daily;;X-MORE=1;RSCALE=GREGORIAN;SKIP=OMIT;WKST=SU;".parse::<Rule>().unwrap();
    }

    proptest! {
        #[test]
        fn a_window_shows_what_all_time_shows(
            frequency in prop::sample::select(vec!["HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"]),
            parts in prop::collection::btree_set(prop::sample::select(vec![
                "BYMONTH=3,9", "BYDAY=MO,SA", "BYHOUR=8,20", "BYMINUTE=0,30", "BYSETPOS=1,-1", "WKST=SU",
            ]), 0..4),
            interval in 1..5_u8,
            days in 0..700_i64,
        ) {
            let parts: Vec<&str> = parts.into_iter().collect();
            let rule = format!("FREQ={frequency};INTERVAL={interval};{}", parts.join(";"));
            let from: DateTime = "2024-01-01T00:00".parse().unwrap();
            let from = from.saturating_add(days.days());
            let start = "2024-01-31T09:00";
            let all = walk(&rule, start, start, "2026-06-01T00:00", usize::MAX).unwrap();
            let some = walk(&rule, start, &from.to_string(), "2026-06-01T00:00", usize::MAX).unwrap();
            prop_assert_eq!(some, all.into_iter().filter(|time| *time >= from).collect::<Vec<_>>(), "{}", rule);
        }
    }
}
