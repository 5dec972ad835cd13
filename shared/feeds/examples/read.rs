//! Shows what an adapter makes of documents, and what that takes: of files, or of a long list of plans.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a tool for the command line, that ends where it cannot go on"
)]

use std::{fs, path::PathBuf, time::Instant};

use clap::Parser;
use serde::de::{Deserialize as _, value};
use tocsin_domain::feed_item::Context;
use tocsin_domain::{feed::Format, feed_item::Reading};
use tocsin_feeds::{adapter, samples};
use url::Url;

#[derive(Parser)]
struct Options {
    /// The format: atom, cap, geojson, ics, plan-list-xml or rss.
    #[arg(long, value_parser = format, default_value = "plan-list-xml")]
    format: Format,
    /// Instead of files: a list of so many plans.
    #[arg(long)]
    plans: Option<u32>,
    /// Everything that was read, too.
    #[arg(long)]
    all: bool,
    files: Vec<PathBuf>,
}

fn main() {
    let options = Options::parse();
    let now = jiff::Timestamp::now();
    let plans =
        options.plans.map(|plans| (PathBuf::from("plans"), samples::plan_list(plans, now).into_bytes()));
    let files =
        options.files.iter().map(|path| (path.clone(), fs::read(path).expect("the file can be read")));
    for (path, document) in plans.into_iter().chain(files) {
        let url = Url::parse("https://example.org/feeds/all").expect("it is an address");
        let context = Context { url: &url, now, language: None, time_zone: &jiff::tz::TimeZone::UTC };
        let before = peak_kib(true);
        let started = Instant::now();
        let reading = adapter(options.format).read(&document, &context);
        let (took, after) = (started.elapsed(), peak_kib(false));
        let above = before.zip(after).map_or("?".to_owned(), |(before, after)| (after - before).to_string());
        println!(
            "{}: {} bytes, read in {took:?}, with {above} KiB above the document",
            path.display(),
            document.len()
        );
        match reading {
            Ok(reading) => show(&reading, options.all),
            Err(reason) => println!("  {reason}"),
        }
    }
}

fn format(text: &str) -> Result<Format, value::Error> {
    Format::deserialize(value::StrDeserializer::new(text))
}

fn show(reading: &Reading, all: bool) {
    let Reading { entries, bad, links } = reading;
    let items: usize = entries.iter().map(|entry| entry.items.len()).sum();
    println!("  {} entries with {items} items, {} bad, {} links", entries.len(), bad.len(), links.len());
    for bad in bad.iter().take(20) {
        println!("  bad: {}: {}", bad.entry, bad.reason);
    }
    if all {
        println!("{entries:#?}\n{links:#?}");
    }
}

/// The most memory that this process had, in KiB, by Linux; from now on, if asked for.
fn peak_kib(from_now_on: bool) -> Option<u64> {
    if from_now_on {
        // Linux, proc_pid_clear_refs(5): 5 sets the peak to what it is now.
        fs::write("/proc/self/clear_refs", "5").ok()?;
    }
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
