//! `forebay replay`: sends dead letters to their original topics again.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use forebay_kafka::DeadLetter;
use forebay_pipeline::Plan;
use forebay_replay::{Letter, LetterFilter, Replay, ReplayConfig, Replayed};
use tokio_util::sync::CancellationToken;

use crate::print::line;
use crate::run::STACK;
use crate::{exit, signals};

/// Send the dead letters of a pipeline to their original topics again, each once
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The pipeline file, with `policy = { dead_letter = { .. } }`
    file: PathBuf,
    /// Only list the letters that would be sent: origin, age, error code, stage and message
    #[arg(long)]
    dry_run: bool,
    /// Send only letters with this error code; may be repeated
    #[arg(long)]
    code: Vec<String>,
    /// Send only letters that failed at this stage; may be repeated
    #[arg(long)]
    stage: Vec<String>,
    /// Send only letters that failed at this time or later: `2h` (ago), `2026-01-31`,
    /// `2026-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<SystemTime>,
    /// Send only letters that failed before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<SystemTime>,
    /// Send only letters for which this expression is true. Its input is {topic, partition, offset,
    /// code, stage, message, attempts, time, key, value}
    #[arg(long, value_name = "JQ")]
    filter: Option<LetterFilter>,
    /// Send all letters to this topic, including those from topics that the pipeline does not read
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,
    /// Send at most this many letters
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Consumer group that records which letters were sent [default: the source's group with the
    /// suffix `-replay`]
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Send letters again that an earlier replay has sent
    #[arg(long)]
    from_beginning: bool,
}

pub(crate) fn replay(args: &Args) -> anyhow::Result<ExitCode> {
    // The filter runs on a thread of this runtime, and its recursion may need a large stack.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK)
        .build()
        .context("cannot start a runtime")?;
    let args = args.clone();
    runtime.block_on(async {
        let stop = signals::stop_token()?;
        tokio::spawn(send(args, stop)).await.context("the replay ended unexpectedly")?
    })
}

async fn send(args: Args, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let plan = Plan::load(&args.file)?;
    let mut config = ReplayConfig::of(&plan, args.group.as_deref(), args.to.as_deref())?;
    config.from_beginning = args.from_beginning;
    let mut replay = Replay::connect(config).await?;
    let mut picked = Picked::default();
    let result = pick(&args, &stop, &mut replay, &mut picked).await;
    let (replayed, result) = if args.dry_run {
        (replay.replayed(), result)
    } else {
        let (replayed, closed) = replay.close().await;
        (replayed, result.and(closed.map_err(Into::into)))
    };
    report(&args, &replayed, &picked, &stop)?;
    result?;
    Ok(if replayed.refused > 0 { exit::SOME_FAILED.into() } else { ExitCode::SUCCESS })
}

/// The letters that the options have chosen so far.
#[derive(Default)]
struct Picked {
    /// Number of letters that were chosen.
    count: u64,
    /// Whether `--limit` was reached.
    limited: bool,
    /// Number of letters for which the filter failed.
    filter_failed: u64,
}

/// Sends the letters that the options choose, or prints them if this is a dry run.
async fn pick(
    args: &Args,
    stop: &CancellationToken,
    replay: &mut Replay,
    picked: &mut Picked,
) -> anyhow::Result<()> {
    while !picked.limited {
        let Some(next) = stop.run_until_cancelled(replay.next()).await else { break };
        let Some(letter) = next? else { break };
        if !wanted(args, &letter, picked) {
            continue;
        }
        if args.dry_run {
            line(row(&letter.about, SystemTime::now()))?;
        } else {
            replay.send(&letter).await?;
        }
        picked.count += 1;
        picked.limited = args.limit.is_some_and(|limit| picked.count >= limit);
    }
    Ok(())
}

/// Returns whether the options choose `letter`.
fn wanted(args: &Args, letter: &Letter, picked: &mut Picked) -> bool {
    let about = &letter.about;
    let among = |names: &[String], name: &String| names.is_empty() || names.contains(name);
    // A letter without a time does not pass `--since` and `--until`.
    let since = args.since.is_none_or(|since| about.time.is_some_and(|time| time >= since));
    let until = args.until.is_none_or(|until| about.time.is_some_and(|time| time < until));
    if !(among(&args.code, &about.code) && among(&args.stage, &about.stage) && since && until) {
        return false;
    }
    let Some(filter) = &args.filter else { return true };
    filter.passes(letter).unwrap_or_else(|failure| {
        if picked.filter_failed == 0 {
            tracing::warn!(at = %letter.at, %failure, "the filter failed; the letter is not sent");
        }
        picked.filter_failed += 1;
        false
    })
}

/// Prints the number of letters that were sent, and logs why others were not.
fn report(
    args: &Args,
    replayed: &Replayed,
    picked: &Picked,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let Replayed { letters, written, refused, elsewhere, others, forgotten } = *replayed;
    let warn = |count: u64, what: &str| {
        if count > 0 {
            tracing::warn!(count, "{what}");
        }
    };
    warn(picked.filter_failed, "letters were not sent because the filter failed for them");
    warn(
        elsewhere,
        "letters were not sent because they came from topics that the pipeline does not read",
    );
    warn(others, "records were skipped because they are not dead letters");
    warn(refused, "letters were not sent because the brokers refused them");
    warn(
        forgotten,
        "letters will be sent again by the next replay, because the unsent letters between them left no room to record them",
    );
    let (done, count) =
        if args.dry_run { ("would replay", picked.count) } else { ("replayed", written) };
    let end = if stop.is_cancelled() {
        ", then stopped"
    } else if picked.limited {
        ", up to the limit"
    } else {
        ""
    };
    line(format_args!("{done} {count} of {letters} dead letters{end}"))
}

/// Returns a letter as one line. It fits 80 columns, unless the part before the message leaves less
/// than `LEAST` columns for the message.
fn row(letter: &DeadLetter, now: SystemTime) -> String {
    const WIDTH: usize = 80;
    const LEAST: usize = 12;
    let age = letter
        .time
        .map_or_else(|| "?".to_owned(), |time| age(now.duration_since(time).unwrap_or_default()));
    let start = format!("{}  {age:>4}  {}  {}: ", letter.origin, letter.code, letter.stage);
    // Senders of requests can put any text here, and its control characters would change the state
    // of the terminal.
    let clean = |text: &str| text.replace(char::is_control, " ");
    let start = clean(&start);
    let room = WIDTH.saturating_sub(start.chars().count()).max(LEAST);
    let mut message: String = clean(&letter.message).chars().take(room + 1).collect();
    if message.chars().count() > room {
        message = message.chars().take(room - 1).chain(['…']).collect();
    }
    start + &message
}

/// Returns an age in its largest unit: `5s`, `12m`, `3h`, `9d`.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Parses a point in time, or a duration before now.
fn time(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let time = SystemTime::now().checked_sub(ago);
        return time.ok_or_else(|| "this time is too long ago".to_owned());
    }
    humantime::parse_rfc3339_weak(text)
        .or_else(|_| humantime::parse_rfc3339_weak(&format!("{text}T00:00:00")))
        .map_err(|_| "write `2h` (ago), `2026-01-31` or `2026-01-31T12:00:00Z`".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use forebay_kafka::DeadLetter;
    use forebay_stream::Origin;

    use super::{row, time};

    fn letter(topic: &str, message: &str) -> DeadLetter {
        DeadLetter {
            origin: Origin { source: topic.into(), partition: Some(3), position: 1042 },
            timestamp: None,
            stage: "decode".to_owned(),
            code: "invalid_json".to_owned(),
            message: message.to_owned(),
            attempts: 1,
            time: Some(SystemTime::UNIX_EPOCH),
        }
    }

    #[test]
    fn a_letter_is_one_line_of_80_columns() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(7_300);
        let shown = row(&letter("requests", "the value\nis \u{1b}[31mnot JSON"), now);
        let expected = "requests[3]@1042    2h  invalid_json  decode: the value is  [31mnot JSON";
        assert_eq!(shown, expected);
        let shown = row(&letter("requests", &"x".repeat(90)), now);
        assert!(shown.chars().count() == 80 && shown.ends_with("x…"), "{shown}");
        let shown = row(&letter("requests", &"é".repeat(34)), now);
        assert!(shown.chars().count() == 80 && shown.ends_with('é'), "{shown}");
        let shown = row(&letter(&"t".repeat(90), "the reason"), now);
        assert!(shown.ends_with("the reason"), "{shown}");
    }

    #[test]
    fn times_are_dates_or_durations_before_now() {
        let at = |text| time(text).map(|time| time.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        assert_eq!(at("1970-01-02T00:00:01Z"), Ok(Duration::from_secs(86_401)));
        assert_eq!(at("1970-01-02"), Ok(Duration::from_hours(24)));
        let then = time("2h").unwrap();
        let ago = SystemTime::now().duration_since(then).unwrap();
        assert!(ago >= Duration::from_hours(2) && ago < Duration::from_secs(7_300));
        assert!(time("yesterday").is_err() && time("").is_err());
        assert!(time("9999999999999999y").is_err());
    }
}
