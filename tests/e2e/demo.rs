//! `forebay demo` and `forebay bench`: their output, files and exit codes.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::binary::{forebay, output};

#[test]
fn the_demo_shows_replies_and_a_chart() {
    let demo = output(forebay().args(["demo", "--device", "cpu", "--concurrency", "1,20"]), "");
    let shown = String::from_utf8(demo.stdout).unwrap();
    assert!(demo.status.success(), "{shown}{}", String::from_utf8_lossy(&demo.stderr));
    for part in
        ["positive  0.", "and 40 more: 4", " of 48 labels", "replies/s", "Your Kafka", "Read next"]
    {
        assert!(shown.contains(part), "{part} is missing:\n{shown}");
    }
    let bars = |fill: char| shown.lines().filter(|line| line.contains(fill)).count();
    assert_eq!((bars('█'), bars('░')), (2, 2), "{shown}");
    let wide: Vec<_> = shown.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "wider than 80 columns: {wide:#?}");
    assert!(!shown.contains('\u{1b}'), "escape sequences without a terminal");
}

#[test]
fn an_interrupted_demo_or_benchmark_leaves_the_terminal_clean() {
    // The signal is sent when this number of lines has been printed: while the models start,
    // between the replies, or during the measurement.
    for (command, lines) in
        [("demo", 1), ("demo", 3), ("demo", 8), ("demo", 15), ("bench", 1), ("bench", 7)]
    {
        let mut child = forebay()
            .args([command, "--device", "cpu"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut shown = String::new();
        for _ in 0..lines {
            stdout.read_line(&mut shown).unwrap();
        }
        let kill = Command::new("kill").arg("-INT").arg(child.id().to_string()).status();
        assert!(kill.unwrap().success());
        stdout.read_to_string(&mut shown).unwrap();
        let ended = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(error, "", "{command} after {lines} lines");
        assert_eq!(ended.status.code(), Some(130), "{command} after {lines} lines: {shown}");
        assert!(shown.ends_with("interrupted\n"), "{command} after {lines} lines: {shown}");
    }
}

#[test]
fn a_serving_demo_prints_its_commands_and_exits_with_0() {
    let mut child = forebay()
        .args(["demo", "--device", "cpu", "--concurrency", "2", "--rows", "0", "--serve"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.starts_with("Serving until Ctrl-C")).unwrap();
    let consume = lines.next().unwrap();
    assert!(consume.contains("kcat -b 127.0.0.1:"), "{consume}");
    Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap();
    let last = lines.last().unwrap();
    assert!(
        last.contains("kcat") && last.contains("-P"),
        "the commands are the last lines: {last}"
    );
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}

#[test]
fn the_benchmark_writes_its_figures_as_json_and_svg() {
    let folder = tempfile::tempdir().unwrap();
    let [json, svg] = ["figures.json", "figures.svg"].map(|name| folder.path().join(name));
    let mut bench = forebay();
    bench.args(["bench", "--device", "cpu", "--concurrency", "1,8", "--requests", "32"]);
    bench.arg("--json").arg(&json).arg("--svg").arg(&svg);
    let bench = output(&mut bench, "");
    let shown = String::from_utf8(bench.stdout).unwrap();
    assert!(bench.status.success(), "{shown}{}", String::from_utf8_lossy(&bench.stderr));
    let rows: Vec<_> =
        shown.lines().filter(|line| line.ends_with(|c: char| c.is_ascii_digit())).collect();
    assert_eq!(rows.len(), 2, "{shown}");

    let report: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!(report["broker"], "embedded");
    let measurements = report["measurements"].as_array().unwrap();
    let clients: Vec<_> = measurements.iter().map(|it| it["clients"].as_u64().unwrap()).collect();
    assert_eq!(clients, [1, 8]);
    for (measurement, row) in measurements.iter().zip(rows) {
        for side in ["batched", "one_by_one"] {
            let figures = &measurement[side];
            assert_eq!(figures["requests"], 32);
            let latency = &figures["latency_ms"];
            let [p50, p95, p99] = ["p50", "p95", "p99"].map(|name| latency[name].as_f64().unwrap());
            assert!(0.0 < p50 && p50 <= p95 && p95 <= p99, "{latency}");
            assert!(figures["burst_ms"].as_f64().unwrap() > 0.0);
            let rate = format!("{:.0}", figures["requests_per_second"].as_f64().unwrap());
            assert!(row.split_whitespace().any(|cell| cell == rate), "{rate} is not in {row}");
        }
        assert_eq!(measurement["one_by_one"]["mean_batch"], 1.0);
    }

    let drawing = fs::read_to_string(svg).unwrap();
    assert!(drawing.starts_with("<svg ") && drawing.trim_end().ends_with("</svg>"), "{drawing}");
    for part in ["batched, p99", "one by one, median", "seconds", "milliseconds"] {
        assert!(drawing.contains(part), "{part} is missing");
    }
    assert!(drawing.matches("<polyline").count() >= 6, "six curves");
}

#[test]
fn an_output_file_that_cannot_be_written_fails_before_the_measurement() {
    for option in ["--json", "--svg"] {
        let bench = output(forebay().args(["bench", option, "no/such/folder/file"]), "");
        assert!(!bench.status.success());
        let error = String::from_utf8_lossy(&bench.stderr);
        assert!(error.contains("cannot write to no/such/folder/file"), "{error}");
        assert!(bench.stdout.is_empty());
    }
}
