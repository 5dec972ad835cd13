//! Damages documents of each format, and has its adapter read what is left, for some seconds. It ends with an error where one
//! panics, takes over a second, or hands over what is larger than anything may be: the document is then written to a file beside.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a tool for the command line, that ends where it cannot go on"
)]

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde::de::{Deserialize as _, value};
use tocsin_domain::{feed::Format, feed_item::Context, feed_print};
use tocsin_feeds::{
    adapter,
    samples::{self, Damage, DamageKind},
};
use url::Url;

#[derive(Parser)]
struct Options {
    /// How long each adapter is tried.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The only format: atom, cap, geojson, ics, plan-list-xml or rss.
    #[arg(long, value_parser = format)]
    format: Option<Format>,
    /// A folder of documents that are damaged too, each by the adapters of its format.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// What the damage depends on: the same does the same.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What a document may take.
const MOST: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let options = Options::parse();
    let more = options.folder.as_deref().map(documents).unwrap_or_default();
    let formats = options.format.map_or_else(|| Format::ALL.to_vec(), |format| vec![format]);
    let mut are_good = true;
    for format in formats {
        are_good &= try_out(format, &more, &options);
    }
    if are_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn format(text: &str) -> Result<Format, value::Error> {
    Format::deserialize(value::StrDeserializer::new(text))
}

fn documents(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let paths =
        entries.map(|entry| entry.expect("the folder can be read").path()).filter(|path| path.is_file());
    paths.map(|path| fs::read(path).expect("its documents can be read")).collect()
}

/// Tries an adapter, and answers whether it bore everything.
fn try_out(format: Format, more: &[Vec<u8>], options: &Options) -> bool {
    let mut random = StdRng::seed_from_u64(options.seed);
    let of_it = more.iter().map(Vec::as_slice).filter(|document| read_one(format, document).is_some());
    let all: Vec<&[u8]> = std::iter::once(samples::document(format).as_bytes()).chain(of_it).collect();
    let (mut count, mut read, mut entries, mut bad, mut slowest) = (0_u64, 0_u64, 0, 0, Duration::ZERO);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(options.seconds) {
        let whole = all.choose(&mut random).expect("there is one");
        let mut document = whole.to_vec();
        for _ in 0..random.random_range(1..8) {
            document = samples::damaged(&document, &[damage(&document, &mut random)]);
        }
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| read_one(format, &document)));
        let took = started.elapsed();
        if outcome.is_err() || took > MOST {
            let path = std::env::temp_dir().join(format!("bad-{format:?}-{count}"));
            fs::write(&path, &document).expect("the document can be written");
            let what = if outcome.is_err() { "panicked".to_owned() } else { format!("took {took:?}") };
            eprintln!("{format:?} {what} for {}", path.display());
            return false;
        }
        count += 1;
        slowest = slowest.max(took);
        if let Ok(Some((of_it, of_bad))) = outcome {
            (read, entries, bad) = (read + 1, entries + of_it, bad + of_bad);
        }
    }
    println!(
        "{format:?}: {count} documents, of which {read} were of the format, with {entries} entries and {bad} bad ones; \
         the slowest took {slowest:?}"
    );
    true
}

/// How many entries, and bad ones, an adapter reads; none where it is not of the format.
fn read_one(format: Format, document: &[u8]) -> Option<(usize, usize)> {
    let url = Url::parse("https://example.org/feeds/all").ok()?;
    let now = "2026-11-21T20:00:00Z".parse().ok()?;
    let time_zone = jiff::tz::TimeZone::get("Europe/Oslo").ok()?;
    let context = Context { url: &url, now, language: Some("nb"), time_zone: &time_zone };
    let reading = adapter(format).read(document, &context).ok()?;
    if let Err(wrong) = samples::check_bounds(&reading) {
        panic!("{wrong}");
    }
    // What is read is compared and kept.
    for item in reading.entries.iter().flat_map(|entry| &entry.items) {
        std::hint::black_box((feed_print::of_audience(item), feed_print::of_text(item)));
    }
    Some((reading.entries.len(), reading.bad.len()))
}

/// Mostly another word instead of one, so that the rest is still read.
fn damage(document: &[u8], random: &mut StdRng) -> Damage {
    #[expect(clippy::cast_precision_loss, reason = "a place in a megabyte")]
    let share = |place: usize| (place as f64 + 0.5) / document.len().max(1) as f64;
    let text = text(document, random);
    if random.random_bool(0.8) {
        let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || b".:+-".contains(byte);
        let at = random.random_range(0..=document.len());
        let before = document[..at].iter().rev().take_while(|byte| is_of_word(byte)).count();
        let after = document[at..].iter().take_while(|byte| is_of_word(byte)).count();
        let span = (share(at - before), share(at + after));
        return Damage { span, kind: DamageKind::Replace, text };
    }
    let from = random.random::<f64>();
    let to = if random.random() { random.random() } else { from + random.random::<f64>() * 0.02 };
    Damage { span: (from, to), kind: *DamageKind::ALL.choose(random).expect("there is one"), text }
}

/// Something that is written in the wrong place: what is at the ends of ranges, what has a meaning, some of the same document,
/// or anything.
fn text(document: &[u8], random: &mut StdRng) -> Vec<u8> {
    const WORDS: [&str; 28] = [
        "",
        "0",
        "-1",
        "1",
        "999999999",
        "99999999999999999999",
        "1e308",
        "-1e-308",
        "NaN",
        "inf",
        "180",
        "-180.0",
        "90",
        "9999-12-31T23:59:60Z",
        "-009999-01-01T00:00:00Z",
        "00010101T000000",
        "<",
        "&#x10ffff;",
        "]]>",
        "<!--",
        "\"",
        "\u{0}",
        "\r\n ",
        "[",
        "{",
        "\u{feff}",
        "é",
        "SECONDLY",
    ];
    match random.random_range(0..4) {
        0 | 1 => WORDS.choose(random).expect("there is one").as_bytes().to_vec(),
        2 => {
            let start = random.random_range(0..=document.len());
            document[start..(start + random.random_range(0..200)).min(document.len())].to_vec()
        }
        _ => (0..random.random_range(0..8)).map(|_| random.random()).collect(),
    }
}
