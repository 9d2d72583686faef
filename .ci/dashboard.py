#!/usr/bin/env python3
"""Runs every query of the Grafana dashboard and every expression of the alert rules against a real Prometheus.

    .ci/dashboard.py FOREBAY

FOREBAY is the binary. It runs config/http.toml and, on the Kafka at KAFKA_BROKERS, config/dead-letters.toml and
config/exactly-once.toml. Prometheus reads their metrics each second while requests arrive, some of which fail. Then:

- each query must be answered without an error, and queries of the dashboard with data, except those in WITHOUT_DATA;
- each label in a legend must be a label of the data;
- each metric must be in docs/metrics.md, except those in WAITING;
- each alert must have a severity, a time, texts, a test in which it fires, and a section in docs/monitoring.md.

Without KAFKA_BROKERS, queries of Kafka's metrics need no data; with CI set, that is an error. Every process that the script
has started is ended with it. Prometheus has a free port and a temporary folder, whatever else runs on this machine.
"""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

DASHBOARD = "deploy/grafana/forebay.json"
RULES = "deploy/prometheus/forebay.rules.yml"
RULE_TESTS = "deploy/prometheus/forebay.rules.test.yml"
# How long the requests arrive, in seconds.
LOAD = 15
# Longest wait for a process to be ready, in seconds.
PATIENCE = 60
# Stands for Grafana's variables.
VARIABLES = {"$__rate_interval": "10s", "$job": ".+", "$instance": ".+"}

# Metrics that no pipeline exports yet. Delete each line once a pipeline exports the metric: this script fails then.
WAITING = {
    "forebay_backlog_seconds",
    "forebay_kafka_assigned_partitions",
    "forebay_kafka_commits_total",
    "forebay_kafka_committed_offset",
    "forebay_kafka_dead_letters_total",
    "forebay_kafka_end_offset",
    "forebay_kafka_halted_partitions",
    "forebay_kafka_held_records",
    "forebay_kafka_in_flight_bytes",
    "forebay_kafka_in_flight_records",
    "forebay_kafka_lag",
    "forebay_kafka_oldest_unresolved_seconds",
    "forebay_kafka_paused_partitions",
    "forebay_kafka_rebalances_total",
    "forebay_kafka_records_total",
    "forebay_kafka_transaction_seconds",
    "forebay_kafka_transactions_total",
}

# Queries of the dashboard that have no data in this run: the title of the panel, and the reason.
WITHOUT_DATA = {}

problems = []
processes = []


def problem(text):
    problems.append(text)
    print(f"dashboard: {text}", file=sys.stderr)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(name, folder, command, **more):
    """Starts a process whose output goes to a file."""
    with open(folder / f"{name}.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, **more)
    processes.append((name, process))
    return process


def end_processes():
    for _, process in processes:
        if process.poll() is None:
            process.terminate()
    for name, process in processes:
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            problem(f"{name} did not end after SIGTERM")
            process.kill()
            process.wait()


def get(url):
    """Returns the status and the body of a page; the status is 0 if nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except OSError as error:
        return 0, str(error)


def await_page(name, process, url):
    until = time.monotonic() + PATIENCE
    while True:
        status, body = get(url)
        if status == 200:
            return
        if process.poll() is not None:
            raise SystemExit(f"{name} ended with {process.returncode}")
        if time.monotonic() > until:
            raise SystemExit(f"{name} is not ready: {body}")
        time.sleep(0.1)


class Prometheus:
    def __init__(self, folder, targets):
        self.address = f"127.0.0.1:{free_port()}"
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(pathlib.Path(RULES).absolute())],
            "scrape_configs": [{"job_name": "forebay", "static_configs": [{"targets": targets}]}],
        }
        # YAML includes JSON.
        (folder / "prometheus.yml").write_text(json.dumps(config))
        command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        self.process = start("prometheus", folder, [*command, f"--web.listen-address={self.address}"])

    def ask(self, path, **parameters):
        """Returns the data of an answer, or raises `ValueError` with Prometheus's error."""
        query = urllib.parse.urlencode(parameters)
        status, body = get(f"http://{self.address}/api/v1/{path}?{query}")
        answer = json.loads(body) if body.startswith("{") else {}
        if answer.get("status") != "success":
            raise ValueError(answer.get("error", f"{status}: {body}"))
        return answer["data"]


TEXTS = [
    "a wonderful film",
    "dull from the first scene to the last one",
    "the story is thin, but both actors are a joy to watch, and the music stays with you for days " * 3,
    "fine",
]


def value(number):
    """Returns the value of a request; every tenth is no JSON."""
    if number % 10 == 9:
        return "no JSON"
    return json.dumps({"text": TEXTS[number % len(TEXTS)]})


def ask_http(address, until, statuses):
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    number = 0
    while time.monotonic() < until:
        connection.request("POST", "/", value(number))
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
        number += 1
        time.sleep(0.02)
    connection.close()


def ask_kafka(brokers, topic, until):
    command = ["kcat", "-P", "-b", brokers, "-t", topic, "-X", "linger.ms=5"]
    producer = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
    processes.append(("kcat", producer))
    number = 0
    while time.monotonic() < until:
        for _ in range(10):
            producer.stdin.write(value(number) + "\n")
            number += 1
        producer.stdin.flush()
        time.sleep(0.2)
    producer.stdin.close()
    if producer.wait(PATIENCE) != 0:
        problem(f"kcat ended with {producer.returncode}")


def load(source, brokers, topic):
    """Sends requests, and checks that some were answered and some failed."""
    until = time.monotonic() + LOAD
    statuses = []
    threads = [threading.Thread(target=ask_http, args=(source, until, statuses)) for _ in range(4)]
    if brokers:
        threads.append(threading.Thread(target=ask_kafka, args=(brokers, topic, until)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    print(f"answers over HTTP: {counts}")
    if set(counts) != {200, 422}:
        problem(f"expected answers with 200 and 422, and got {counts}")


def metrics_of(expression):
    """Returns the names of Forebay's metrics in an expression, without the endings of histograms' series."""
    names = re.findall(r"\bforebay_\w+", expression)
    return {re.sub(r"(_seconds|_size)_(bucket|sum|count)$", r"\1", name) for name in names}


def filled(expression):
    for variable, text in VARIABLES.items():
        expression = expression.replace(variable, text)
    if "$" in expression:
        raise ValueError("a variable of Grafana is not known to this script")
    return expression


def needs_data(expression, with_kafka):
    names = metrics_of(expression)
    of_kafka = any(name.startswith(("forebay_kafka_", "forebay_backlog_")) for name in names)
    return not names & WAITING and (with_kafka or not of_kafka)


def check_queries(prometheus, dashboard, began, with_kafka):
    """Runs the queries of all panels as Grafana does, and returns their number."""
    count = 0
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            count += 1
            place = f"panel \"{panel['title']}\", query {target['refId']}"
            try:
                expression = filled(target["expr"])
                if target.get("instant"):
                    found = prometheus.ask("query", query=expression)["result"]
                    values = [series["value"][1] for series in found]
                else:
                    times = {"start": began, "end": time.time(), "step": 1}
                    found = prometheus.ask("query_range", query=expression, **times)["result"]
                    values = [sample[1] for series in found for sample in series["values"]]
            except ValueError as error:
                problem(f"{place}: {error}\n  {target['expr']}")
                continue
            has_data = any(value != "NaN" for value in values)
            if panel["title"] in WITHOUT_DATA:
                if has_data:
                    problem(f"{place} has data: delete its line in WITHOUT_DATA")
            elif not has_data and needs_data(expression, with_kafka):
                problem(f"{place} has no data:\n  {expression}")
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                if not all(label in series["metric"] for series in found):
                    problem(f"{place}: the legend has the label {label}, and the data has not")
    return count


def check_variables(prometheus, dashboard):
    """Checks that the template variables have values."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"]).groups()
            if not prometheus.ask(f"label/{label}/values", **{"match[]": filled(series)}):
                problem(f"the variable {variable['name']} has no values")


def check_rules(prometheus):
    """Runs the expressions of the alert rules, checks what belongs to each, and returns the expressions."""
    monitoring = pathlib.Path("docs/monitoring.md").read_text(encoding="utf-8")
    tests = pathlib.Path(RULE_TESTS).read_text(encoding="utf-8")
    expressions = []
    for group in prometheus.ask("rules")["groups"]:
        for rule in group["rules"]:
            name = rule["name"]
            expressions.append(rule["query"])
            try:
                prometheus.ask("query", query=rule["query"])
            except ValueError as error:
                problem(f"alert {name}: {error}")
            if rule["health"] != "ok":
                problem(f"alert {name} is {rule['health']}: {rule.get('lastError', '')}")
            if rule["labels"].get("severity") not in ("critical", "warning"):
                problem(f"alert {name} has no severity")
            if rule["duration"] == 0 or not {"summary", "description"} <= set(rule["annotations"]):
                problem(f"alert {name} lacks `for`, a summary or a description")
            if f'ALERTS{{alertname="{name}", alertstate="firing"}}' not in tests:
                problem(f"no test in {RULE_TESTS} expects that {name} fires")
            if f"`{name}`" not in monitoring:
                problem(f"docs/monitoring.md does not explain {name}")
            # The first test has good values of every metric that an alert reads.
            good = tests.split("  - name: ")[1]
            for metric in metrics_of(rule["query"]):
                if metric not in good:
                    problem(f"the first test in {RULE_TESTS} has no good values of {metric}")
    if not expressions:
        problem("Prometheus has loaded no rules")
    return expressions


def check_names(prometheus, expressions):
    """Checks that docs/metrics.md has the metrics of all expressions, and that WAITING is not out of date."""
    page = pathlib.Path("docs/metrics.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(forebay_\w+)`", page, re.MULTILINE))
    used = set().union(*map(metrics_of, expressions))
    for name in sorted(used - documented - WAITING):
        problem(f"docs/metrics.md has no metric {name}")
    exported = prometheus.ask("label/__name__/values")
    for name in sorted(WAITING & set().union(*map(metrics_of, exported))):
        problem(f"{name} is exported now: delete its line in WAITING")
    for name in sorted(WAITING - used):
        problem(f"no query reads {name}: delete its line in WAITING")


def main():
    forebay = sys.argv[1]
    brokers = os.environ.get("KAFKA_BROKERS")
    if not brokers and os.environ.get("CI"):
        sys.exit("dashboard: KAFKA_BROKERS is not set")
    if not brokers:
        print("without KAFKA_BROKERS: pipelines on Kafka are not run, and queries of Kafka's metrics need no data")

    topic = "dashboard-requests"
    environment = {
        **os.environ,
        "DEVICE": "cpu",
        "REQUESTS_TOPIC": topic,
        "REPLIES_TOPIC": "dashboard-replies",
        "LETTERS_TOPIC": "dashboard-letters",
    }
    configs = ["http", "dead-letters", "exactly-once"] if brokers else ["http"]
    source = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="forebay-dashboard-") as path:
        folder = pathlib.Path(path)
        try:
            pipelines = []
            for config in configs:
                pages = f"127.0.0.1:{free_port()}"
                command = [forebay, "run", "--listen", pages, f"config/{config}.toml"]
                process = start(config, folder, command, env={**environment, "LISTEN": source})
                pipelines.append((config, process, pages))
            prometheus = Prometheus(folder, [pages for _, _, pages in pipelines])
            for config, process, pages in pipelines:
                await_page(config, process, f"http://{pages}/readyz")
            await_page("prometheus", prometheus.process, f"http://{prometheus.address}/-/ready")

            began = time.time()
            load(source, brokers, topic)
            # Two more readings.
            time.sleep(2)
            for config, process, _ in pipelines:
                if process.poll() is not None:
                    problem(f"{config} ended with {process.returncode}")

            dashboard = json.loads(pathlib.Path(DASHBOARD).read_text(encoding="utf-8"))
            count = check_queries(prometheus, dashboard, began, bool(brokers))
            check_variables(prometheus, dashboard)
            rules = check_rules(prometheus)
            queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
            check_names(prometheus, queries + rules)
            print(f"{count} queries of the dashboard and {len(rules)} alert rules were run")
        except BaseException:
            problem("stopped before the end")
            raise
        finally:
            end_processes()
            if problems:
                for log in sorted(folder.glob("*.log")):
                    print(f"-- the end of {log.name}", *log.read_text(errors="replace").splitlines()[-5:], sep="\n", file=sys.stderr)
    if problems:
        sys.exit(f"dashboard: {len(problems)} problems")


# So that a signal, too, ends the processes.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
main()
