//! `cargo run -p local -- demo`: a town of people, an evening's posts, and what each of them got.

use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};

use crate::{
    api_client::{ApiClient, PASSWORD},
    scenario::{Outcome, Scenario},
};

/// Plays the harbour fire and prints what came of it; answers whether everything came as expected.
pub async fn run(base_url: &str, scenario: &Path, out: &mut impl Write) -> Result<bool> {
    let scenario = Scenario::read(scenario)?;
    writeln!(out, "\n{}\n", scenario.about)?;
    let outcome = scenario.play(&ApiClient::new(base_url)).await?;
    print(&outcome, out)?;
    if let Some(first) = outcome.people.first() {
        print_commands(
            base_url,
            first.person.api.access_token().unwrap_or_default(),
            &first.person.email,
            out,
        )?;
    }
    Ok(outcome.differences.is_empty())
}

/// Prints, for each person, the timeline and the pushes with the reason for each, and the times of the run.
pub fn print(outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::new();
    table
        .load_style(UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(150)
        .set_header(["who", "timeline, newest first (because of)", "pushes (device, because of)"]);
    for person in &outcome.people {
        let timeline = person.timeline.iter().map(|(title, because)| format!("{title} ({because})"));
        let pushes =
            person.pushes.iter().map(|(title, device, because)| format!("{title} ({device}, {because})"));
        table.add_row([
            format!("{}\n{}", person.person.username, person.home),
            lines(timeline),
            lines(pushes),
        ]);
    }
    writeln!(out, "{table}\n")?;
    let mut times = Table::new();
    times.load_style(UTF8_HORIZONTAL_ONLY).set_header(["from POST to", "count", "min", "p50", "p99", "max"]);
    times.add_row(times_of("timeline", &outcome.to_timeline));
    times.add_row(times_of("push", &outcome.to_push));
    writeln!(out, "{times}\n")?;
    for difference in &outcome.differences {
        writeln!(out, "not as expected: {difference}")?;
    }
    if outcome.differences.is_empty() {
        writeln!(out, "Everybody got what they follow, and nothing else.")?;
    }
    Ok(())
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    let all = lines.collect::<Vec<_>>().join("\n");
    if all.is_empty() { "–".to_owned() } else { all }
}

fn times_of(name: &str, times: &[Duration]) -> Vec<String> {
    let mut sorted = times.to_vec();
    sorted.sort();
    [name.to_owned(), sorted.len().to_string()].into_iter().chain(spread(&sorted)).collect()
}

/// The least, the median, the 99th percentile and the most of sorted times.
fn spread(sorted: &[Duration]) -> [String; 4] {
    [0.0, 0.5, 0.99, 1.0].map(|share| {
        let time = quantile(sorted, share);
        time.map_or_else(|| "–".to_owned(), |time| format!("{:.2} ms", time.as_secs_f64() * 1_000.0))
    })
}

/// The value below which a share of sorted values lies (nearest rank).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a rank among some thousand values"
)]
#[must_use]
pub fn quantile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(sorted.len().checked_sub(1)?)).copied()
}

fn print_commands(base_url: &str, token: &str, email: &str, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "\nThe town stays up until Ctrl-C. Three commands to try ({email}, password {PASSWORD}):\n"
    )?;
    writeln!(out, "TOKEN={token}\n")?;
    writeln!(out, "curl -s -H \"Authorization: Bearer $TOKEN\" {base_url}/v1/timeline")?;
    writeln!(
        out,
        "curl -s -H \"Authorization: Bearer $TOKEN\" '{base_url}/v1/posts?lat=60.3975&lon=5.3245&radius_m=2000'"
    )?;
    writeln!(
        out,
        "curl -s -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' {base_url}/v1/posts \\\n  \
         -d '{{\"title\":\"Sparks from the roof\",\"category\":\"fire\",\"severity\":\"severe\",\
         \"location\":{{\"lat\":60.3972,\"lon\":5.3238}}}}'\n"
    )
}
