//! `forebay replay`: dead letters, sent again to where they came from.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use forebay_kafka::{DeadLetter, Letter, Replay, Replayed};
use forebay_pipeline::{LetterFilter, Plan};
use tokio_util::sync::CancellationToken;

use crate::print::line;
use crate::run::STACK;
use crate::{exit, signals};

/// Send the dead letters of a pipeline to the topics that they came from, once each
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The pipeline file, with `policy = { dead_letter = { .. } }`
    file: PathBuf,
    /// Only show what would be sent: where from, how old, error code, stage and message
    #[arg(long)]
    dry_run: bool,
    /// Only letters with this error code; may be repeated
    #[arg(long)]
    code: Vec<String>,
    /// Only letters that failed at this stage; may be repeated
    #[arg(long)]
    stage: Vec<String>,
    /// Only letters from this time on: `2h` (ago), `2026-01-31`, `2026-01-31T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<SystemTime>,
    /// Only letters from before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<SystemTime>,
    /// Only letters for which this is true, over {topic, partition, offset, code, stage, message, attempts, time, key,
    /// value}
    #[arg(long, value_name = "JQ")]
    filter: Option<LetterFilter>,
    /// Send to this topic instead, letters from topics that the pipeline does not read too
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,
    /// Send so many at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// The consumer group under which is noted what was sent [default: the source's group and `-replay`]
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Send letters that were sent before, too
    #[arg(long)]
    from_beginning: bool,
}

pub(crate) fn replay(args: &Args) -> anyhow::Result<ExitCode> {
    // The expression runs on a thread of this, and may call itself.
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
    let mut config = Plan::load(&args.file)?.replay(args.group.as_deref(), args.to.as_deref())?;
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
    tell(&args, &replayed, &picked, &stop)?;
    result?;
    Ok(if replayed.refused > 0 { exit::SOME_FAILED.into() } else { ExitCode::SUCCESS })
}

#[derive(Default)]
struct Picked {
    count: u64,
    /// Whether there may be more than the limit allows.
    limited: bool,
    /// Letters on which the expression failed.
    unfit: u64,
}

/// Sends, or shows, the letters that are asked for.
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

fn wanted(args: &Args, letter: &Letter, picked: &mut Picked) -> bool {
    let about = &letter.about;
    let among = |names: &[String], name: &String| names.is_empty() || names.contains(name);
    // A letter without a time is of no time that could be asked for.
    let since = args.since.is_none_or(|since| about.time.is_some_and(|time| time >= since));
    let until = args.until.is_none_or(|until| about.time.is_some_and(|time| time < until));
    if !(among(&args.code, &about.code) && among(&args.stage, &about.stage) && since && until) {
        return false;
    }
    let Some(filter) = &args.filter else { return true };
    filter.passes(letter).unwrap_or_else(|failure| {
        if picked.unfit == 0 {
            tracing::warn!(at = %letter.at, %failure, "the filter failed, the letter stays");
        }
        picked.unfit += 1;
        false
    })
}

fn tell(
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
    warn(picked.unfit, "letters stay because the filter failed on them");
    warn(elsewhere, "letters stay because they came from topics that the pipeline does not read");
    warn(others, "records were passed over because they are no dead letters");
    warn(refused, "letters stay because the brokers refused them");
    warn(forgotten, "letters will be sent again by the next replay: too many others lie between");
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

/// A letter as a line of 80 columns, if its names leave room for that.
fn row(letter: &DeadLetter, now: SystemTime) -> String {
    const WIDTH: usize = 80;
    const LEAST: usize = 12;
    let age = letter
        .time
        .map_or_else(|| "?".to_owned(), |time| age(now.duration_since(time).unwrap_or_default()));
    let start = format!("{}  {age:>4}  {}  {}: ", letter.origin, letter.code, letter.stage);
    // What is shown was written by others.
    let clean = |text: &str| text.replace(char::is_control, " ");
    let start = clean(&start);
    let room = WIDTH.saturating_sub(start.chars().count()).max(LEAST);
    let mut message: String = clean(&letter.message).chars().take(room + 1).collect();
    if message.chars().count() > room {
        message = message.chars().take(room - 1).chain(['…']).collect();
    }
    start + &message
}

/// The largest unit of an age: `5s`, `12m`, `3h`, `9d`.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A point in time, or how long ago it was.
fn time(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let time = SystemTime::now().checked_sub(ago);
        return time.ok_or_else(|| "that is longer ago than there is time".to_owned());
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
        let shown = row(&letter(&"t".repeat(90), "why it is so"), now);
        assert!(shown.ends_with("why it is so"), "{shown}");
    }

    #[test]
    fn times_are_points_or_how_long_ago() {
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
