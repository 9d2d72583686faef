//! Pipelines without a broker: the examples in docs/operators.md, and all sources and sinks except
//! Kafka.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use crate::binary::{Service, forebay, output, root};

/// Runs a pipeline file with this text. Returns the lines of its output, its exit code and its log.
fn run(text: &str, input: &str) -> (Vec<String>, Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.toml");
    std::fs::write(&file, text).unwrap();
    let output = output(forebay().arg("run").arg(&file), input);
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (lines, output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs the pipelines in a part of a page: blocks of steps, each before a block with its input and
/// output. Returns how many there are.
fn check_examples(examples: &str) -> usize {
    let blocks = examples.split("```").skip(1).step_by(2);
    let mut blocks = blocks.filter(|block| !block.starts_with("python"));
    let mut shown = 0;
    while let (Some(steps), Some(lines)) = (blocks.next(), blocks.next()) {
        let steps = steps.strip_prefix("toml\n").unwrap();
        let lines = lines.strip_prefix("text\n").unwrap();
        let marked = |mark: &str| -> Vec<String> {
            lines.lines().filter_map(|line| line.strip_prefix(mark)).map(str::to_owned).collect()
        };
        let file = format!("[source.stdin]\n{steps}\n[sink.stdout]\n");
        let (seen, code, log) = run(&file, &marked("< ").join("\n"));
        assert_eq!(seen, marked("> "), "{steps}\n{log}");
        let fails = lines.contains("\"error\"");
        assert_eq!(code, Some(if fails { 65 } else { 0 }), "{steps}");
        shown += 1;
    }
    shown
}

#[test]
fn the_examples_in_the_docs_give_the_output_shown() {
    let page = std::fs::read_to_string(root().join("docs/operators.md")).unwrap();
    let (_, examples) = page.split_once("\n## Examples\n").unwrap();
    let shown = check_examples(examples);
    assert!(shown >= 8, "{shown}");
}

#[test]
fn pipelines_ported_from_streamz_give_the_output_shown() {
    let page = std::fs::read_to_string(root().join("docs/from-streamz.md")).unwrap();
    let (examples, rest) = page.split_once("\n## Operators side by side\n").unwrap();
    let shown = check_examples(examples);
    assert!(shown >= 5, "{shown}");

    let (_, recipe) = rest.split_once("```toml\n").unwrap();
    let (recipe, _) = recipe.split_once("```").unwrap();
    let (lines, code, log) = run(recipe, "to be or\nnot to be\n");
    assert_eq!(
        (lines.join(""), code),
        (r#"{"to":2,"be":2,"or":1,"not":1}"#.to_owned(), Some(0)),
        "{log}"
    );
}

#[test]
fn lines_of_text_and_of_bytes_are_read_as_they_are() {
    let text = |format: &str, input: &str| {
        let file = format!("[source.stdin]\nformat = \"{format}\"\n[sink.stdout]\n");
        let (lines, code, log) = run(&file, input);
        assert_eq!(code, Some(0), "{log}");
        lines
    };
    assert_eq!(text("text", "a \"b\" \r\n\n {\n"), [r#""a \"b\" ""#, r#""""#, r#"" {""#]);
    assert_eq!(text("bytes", "hello\n\n"), [r#""aGVsbG8=""#, r#""""#]);
    let (_, code, log) = run("[source.stdin]\nformat = \"csv\"\n[sink.stdout]\n", "");
    assert!(code == Some(64) && log.contains("`json`, `text`, `bytes`"), "{code:?} {log}");
}

#[test]
fn an_interval_source_ends_after_its_count() {
    let file =
        "[source.interval]\nevery = \"1ms\"\ncount = 4\n[[step]]\npartition = 3\n[sink.stdout]\n";
    let (lines, code, log) = run(file, "");
    assert_eq!((lines, code), (vec!["[0,1,2]".to_owned(), "[3]".to_owned()], Some(0)), "{log}");
}

#[test]
fn each_value_goes_to_the_sink_of_its_branch() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("odd.jsonl");
    let file = format!(
        "[source.stdin]\n[[step]]\nname = \"odd\"\nsplit = \". % 2 == 1\"\n\
         [[step]]\nname = \"big\"\nfrom = \"odd.false\"\nsplit = \". > 4\"\n\
         [sink.file]\nfrom = \"odd.true\"\npath = {odd:?}\n\
         [sink.stdout]\nfrom = \"big.true\"\n[sink.drop]\nfrom = \"big.false\"\n"
    );
    let (lines, code, log) = run(&file, "1\n2\n3\n4\n5\n6\n");
    assert_eq!((lines, code), (vec!["6".to_owned()], Some(0)), "{log}");
    assert_eq!(std::fs::read_to_string(&odd).unwrap(), "1\n3\n5\n");
}

#[test]
fn two_file_sources_can_be_zipped() {
    let folder = tempfile::tempdir().unwrap();
    let a = folder.path().join("a.jsonl");
    let b = folder.path().join("b.jsonl");
    std::fs::write(&a, "1\n2\n3").unwrap();
    std::fs::write(&b, "\"one\"\n\"two\"\n").unwrap();
    let file = format!(
        "[[source.file]]\nname = \"a\"\npath = {a:?}\n[[source.file]]\nname = \"b\"\npath = {b:?}\n\
         [[step]]\nfrom = [\"a\", \"b\"]\nzip = {{}}\n[sink.stdout]\n"
    );
    let (lines, code, log) = run(&file, "");
    assert_eq!((lines.join(" "), code), ("[1,\"one\"] [2,\"two\"]".to_owned(), Some(0)), "{log}");
    assert!(!log.contains("WARN"), "the third number has no partner, as usual: {log}");
}

#[test]
fn a_sliding_mean_ends_without_a_warning_e8() {
    let file = "[source.stdin]\n[[step]]\nname = \"sums\"\nsliding_window = { size = 2, partial = false }\n\
                [[step]]\nname = \"mean\"\nmap = \"add / length\"\n\
                [[step]]\nfrom = [\"stdin\", \"mean\"]\nzip = {}\n[sink.stdout]\n";
    let (lines, code, log) = run(file, "2\n4\n8\n");
    assert_eq!((lines.join(""), code), ("[2,3.0][4,6.0]".to_owned(), Some(0)), "{log}");
    assert!(!log.contains("WARN"), "{log}");
}

/// Runs steps that join two branches of standard input, `numbers` and `strings`, several times, and
/// returns their common output.
fn joined(join: &str, lines: &str) -> String {
    let file = format!(
        "[source.stdin]\n[[step]]\nname = \"numbers\"\nfilter = \"type == \\\"number\\\"\"\n\
         [[step]]\nname = \"strings\"\nfrom = \"stdin\"\nfilter = \"type == \\\"string\\\"\"\n\
         [[step]]\n{join}\n[sink.stdout]\n"
    );
    let runs: std::collections::BTreeSet<String> = (0..8)
        .map(|_| {
            let (lines, code, log) = run(&file, lines);
            assert_eq!(code, Some(0), "{log}");
            lines.join("")
        })
        .collect();
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs.into_iter().next().unwrap()
}

const BOTH: &str = "from = [\"numbers\", \"strings\"]";

#[test]
fn combine_latest_of_branches_is_the_same_in_every_run_e1() {
    let lines = "1\n2\n\"a\"\n3\n\"b\"\n";
    let seen = joined(&format!("{BOTH}\ncombine_latest = {{}}"), lines);
    assert_eq!(seen, r#"[2,"a"][3,"a"][3,"b"]"#);
    // The order in `from` is that of the members, not that of the events.
    let seen = joined("from = [\"strings\", \"numbers\"]\ncombine_latest = {}", lines);
    assert_eq!(seen, r#"["a",2]["a",3]["b",3]"#);
}

#[test]
fn emit_on_and_zip_latest_of_branches_are_the_same_in_every_run_e2() {
    let seen = joined(
        &format!("{BOTH}\ncombine_latest = {{ emit_on = [\"numbers\"] }}"),
        "1\n\"a\"\n2\n3\n\"b\"\n4\n",
    );
    assert_eq!(seen, r#"[2,"a"][3,"a"][4,"b"]"#);
    let lines = "1\n2\n\"a\"\n\"b\"\n3\n";
    let seen = joined(&format!("{BOTH}\nzip_latest = {{}}"), lines);
    assert_eq!(seen, r#"[1,"a"][2,"a"][3,"b"]"#);
    assert_eq!(joined(&format!("{BOTH}\nunion = {{}}"), lines), r#"12"a""b"3"#);
}

#[test]
fn a_flush_from_the_same_source_takes_the_values_before_it_e3() {
    let collect = "from = \"numbers\"\ncollect = { flush = \"strings\" }";
    assert_eq!(joined(collect, "1\n2\n\"flush\"\n3\n\"flush\"\n"), "[1,2][3]");
    assert_eq!(joined(collect, "\"flush\"\n1\n\"flush\"\n\"flush\"\n2\n3\n"), "[1][2,3]");
}

#[test]
fn lines_that_are_written_later_to_a_followed_file_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log.jsonl");
    let mut writer = std::fs::File::create(&log).unwrap();
    writer.write_all(b"1\n2").unwrap();
    let pipeline = folder.path().join("pipeline.toml");
    let text = format!(
        "[source.file]\npath = {log:?}\nfollow = true\n[[step]]\nmap = \". * 10\"\n[sink.stdout]\n"
    );
    std::fs::write(&pipeline, text).unwrap();
    let mut service = Service::start(forebay().arg("run").arg(&pipeline).stdout(Stdio::piped()));
    // Each call of `next` waits until the pipeline writes a line.
    let mut lines = BufReader::new(service.stdout()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "10");
    writer.write_all(b"3\n4\n").unwrap();
    assert_eq!([lines.next().unwrap(), lines.next().unwrap()], ["230", "40"]);
    // Truncates the file and later replaces it, as two kinds of log rotation do.
    std::fs::write(&log, "5\n").unwrap();
    assert_eq!(lines.next().unwrap(), "50");
    let next = folder.path().join("next.jsonl");
    std::fs::write(&next, "60\n70\n").unwrap();
    std::fs::rename(&next, &log).unwrap();
    assert_eq!([lines.next().unwrap(), lines.next().unwrap()], ["600", "700"]);
    service.stop();
}

/// Runs a pipeline file with this text and a closed standard output. Returns its exit code and its
/// log.
fn run_unread(text: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.toml");
    std::fs::write(&file, text).unwrap();
    let mut child = forebay()
        .arg("run")
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    // The process ends before it has read all input, so the write may fail.
    child.stdin.take().unwrap().write_all("12345678\n".repeat(50_000).as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_closed_standard_output_ends_a_run_silently() {
    let (code, log) = run_unread("[source.stdin]\n[sink.stdout]\n");
    assert!(code == Some(0) && !log.contains("error"), "{log}");
}

#[test]
fn a_closed_standard_output_is_an_error_if_there_are_other_sinks() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.jsonl");
    let text = format!("[source.stdin]\n[sink.stdout]\n[sink.file]\npath = {out:?}\n");
    let (code, log) = run_unread(&text);
    assert!(code == Some(70) && log.contains("incomplete"), "{log}");
}

#[test]
fn deep_recursion_in_an_expression_does_not_crash() {
    let file = "[source.stdin]\n[[step]]\nmap = \"def sum: if . == 0 then 0 else . + (. - 1 | sum) end; sum\"\n\
                [sink.stdout]\n";
    let (lines, code, log) = run(file, "10\n20000\n");
    assert_eq!((lines.join(" "), code), ("55 200010000".to_owned(), Some(0)), "{log}");
}

#[test]
fn http_requests_are_answered_by_the_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = folder.path().join("pipeline.toml");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "[source.http]\nlisten = \"127.0.0.1:{port}\"\npath = \"/double\"\n[[step]]\n\
         adaptive_window = {{}}\n[[step]]\nmap_batch = \"map(. * 2)\"\n[sink.http]\n"
    );
    std::fs::write(&pipeline, text).unwrap();
    let service = Service::start(forebay().arg("run").arg(&pipeline));
    let send = |path: &str, body: &str| {
        let output = Command::new("curl")
            .args(["-s", "-w", "\n%{http_code}", "--data-binary", body])
            .arg(format!("http://127.0.0.1:{port}{path}"))
            .output();
        match output {
            Ok(output) => Some(String::from_utf8(output.stdout).unwrap()),
            Err(_) if std::env::var_os("CI").is_none() => None,
            Err(error) => panic!("curl: {error}"),
        }
    };
    let Some(doubled) = send("/double", "21") else {
        eprintln!("skipped: curl is not installed");
        return;
    };
    assert_eq!(doubled, "42\n200");
    let refused = send("/double", "{\"a\": 1}").unwrap();
    assert!(refused.contains("\"code\":\"jq_error\"") && refused.ends_with("422"), "{refused}");
    assert!(send("/double", "no json").unwrap().contains("invalid_json"));
    assert!(send("/", "1").unwrap().ends_with("404"));
    service.stop();
}

#[test]
fn the_debug_pages_of_a_running_pipeline_show_taps_counts_and_graph() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = folder.path().join("pipeline.toml");
    let text = "[source.interval]\nevery = \"1ms\"\n[[step]]\nname = \"look\"\ntap = 3\n[[step]]\n\
                map = \". * 2\"\n[sink.stdout]\n";
    std::fs::write(&pipeline, text).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let mut command = forebay();
    command.args(["run", "--listen", &address]).arg(&pipeline).stdout(Stdio::piped());
    let mut service = Service::start(&mut command);
    let mut lines = BufReader::new(service.stdout()).lines().map(Result::unwrap);
    assert_eq!(lines.nth(9).unwrap(), "18", "ten values have passed");
    // Keeps reading, so that the pipeline does not stall on a full pipe.
    let reader = std::thread::spawn(move || lines.count());
    let page = |path: &str| {
        let retry = ["--retry-connrefused", "--retry", "9", "--retry-delay", "1"];
        let url = format!("http://{address}{path}");
        let output = Command::new("curl").args(["-sf"]).args(retry).arg(url).output();
        output.map(|output| String::from_utf8(output.stdout).unwrap())
    };
    match page("/taps") {
        Ok(taps) => {
            let taps: serde_json::Value = serde_json::from_str(&taps).unwrap();
            let recent: Vec<u64> = serde_json::from_value(taps["look"].clone()).unwrap();
            assert_eq!(recent.len(), 3, "{taps}");
            assert!(recent[0] >= 7 && recent[2] == recent[0] + 2, "{taps}");
            let state: serde_json::Value =
                serde_json::from_str(&page("/state.json").unwrap()).unwrap();
            let steps = state["steps"].as_array().unwrap();
            let look = steps.iter().find(|step| step["name"] == "look").unwrap();
            assert!(look["emitted"].as_u64().unwrap() >= 9, "{state}");
            assert!(page("/graph.svg").unwrap().contains("look"));
        }
        Err(_) if std::env::var_os("CI").is_none() => eprintln!("skipped: curl is not installed"),
        Err(error) => panic!("curl: {error}"),
    }
    service.stop();
    reader.join().unwrap();
}

#[test]
fn graphs_show_branches_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pipeline.toml");
    std::fs::write(
        &file,
        "[source.stdin]\n[[step]]\nname = \"<odd> & \\\"even\\\"\"\nsplit = \". % 2 == 1\"\n[[step]]\n\
         from = [\"<odd> & \\\"even\\\".true\", \"<odd> & \\\"even\\\".false\"]\nunion = {}\n[sink.stdout]\n",
    )
    .unwrap();
    let draw = |format: &str| {
        let output = output(forebay().args(["graph", "--format", format]).arg(&file), "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(draw("mermaid").contains("union"));
    assert!(draw("dot").starts_with("digraph"));
    let svg = draw("svg");
    assert!(svg.contains("<svg") && svg.contains("&lt;odd&gt; &amp; "), "{svg}");
}
